// Package traces sends what package trace has followed to a collector, as OTLP
// over HTTP in protobuf.
//
// It owns the queue of spans that wait, when they are sent, and what becomes of
// those that are not: they are lost, counted, and the log says so. Nothing waits
// for it: not who ends a span, and not the node's end beyond a bound. What a span
// is, and which there are, is package trace's.
//
//	End -> queue -> batch -> POST
//	         | full: dropped   | no answer, or another than 2xx: failed
package traces

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"godwit/measure"
	"godwit/trace"
)

const (
	// queueMax is how many spans may wait, of about 1 kB each. Past that, new ones
	// are dropped: those of a trace that has begun are worth more.
	queueMax = 2048
	// batchMax is the most spans of one request; sendEvery is how long the first
	// of a smaller one waits. These three are the usual ones of OpenTelemetry.
	batchMax  = 512
	sendEvery = 5 * time.Second
	// answerWithin is what one request may take.
	answerWithin = 10 * time.Second
	// tellEvery is how often the log says at most that spans are lost.
	tellEvery = time.Minute
)

// Config is where spans go.
type Config struct {
	URL     string // that takes them
	Headers http.Header
	// Flush is the most that sending what is left may take when Run is to end.
	Flush time.Duration
	// Resource is what every span is said to come from.
	Resource map[string]string
	Version  string            // of the binary
	Network  http.RoundTripper // nil is the real one
	Log      *slog.Logger
}

// What became of a span, as Stats knows it.
const (
	spanSent    = "sent"
	spanDropped = "dropped" // the queue was full
	spanFailed  = "failed"  // the collector did not take it
)

// Stats counts spans by what became of them.
type Stats struct{ Spans *measure.Set }

// NewStats makes the counts of an Exporter.
func NewStats() *Stats { return &Stats{measure.NewSet(spanSent, spanDropped, spanFailed)} }

// Exporter sends spans.
type Exporter struct {
	Stats *Stats

	cfg      Config
	web      *http.Client
	resource *resourcepb.Resource
	queue    chan *trace.Span
	dropped  atomic.Uint64 // that the log has not told

	// owned by Run
	batch []*tracepb.Span
	lost  uint64 // besides those dropped, that the log has not told
	cause error  // of the last loss
	told  time.Time
}

// New makes an exporter. Run sends.
func New(cfg Config) *Exporter {
	if cfg.Network == nil {
		cfg.Network = http.DefaultTransport.(*http.Transport).Clone()
	}
	return &Exporter{
		Stats: NewStats(), cfg: cfg, resource: resource(cfg.Resource), queue: make(chan *trace.Span, queueMax),
		web: &http.Client{
			Transport: cfg.Network, Timeout: answerWithin,
			// Elsewhere nobody is to see the headers: a key may be in them.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// End takes a span that is over. It does not wait.
func (e *Exporter) End(s *trace.Span) {
	select {
	case e.queue <- s:
	default:
		e.Stats.Spans.Add(spanDropped)
		e.dropped.Add(1)
	}
}

// Run sends until ctx ends, then what is left, for as long as Flush allows.
func (e *Exporter) Run(ctx context.Context) error {
	sending, cut := context.WithCancel(context.WithoutCancel(ctx))
	var bound sync.WaitGroup
	bound.Go(func() { e.bound(ctx, sending, cut) })
	defer bound.Wait()
	defer cut()
	defer e.web.CloseIdleConnections()
	tick := time.NewTicker(sendEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			e.flush(sending)
			return nil
		case s := <-e.queue:
			if e.batch = append(e.batch, span(s)); len(e.batch) < batchMax {
				continue
			}
		case <-tick.C:
		}
		e.send(sending)
		e.tell()
	}
}

// bound cuts what is being sent when ctx has ended for as long as Flush allows.
func (e *Exporter) bound(ctx, sending context.Context, cut func()) {
	select {
	case <-ctx.Done():
	case <-sending.Done():
		return
	}
	late := time.NewTimer(e.cfg.Flush)
	defer late.Stop()
	select {
	case <-late.C:
		cut()
	case <-sending.Done():
	}
}

// flush sends all that waits.
func (e *Exporter) flush(ctx context.Context) {
	for more := true; more; {
		select {
		case s := <-e.queue:
			e.batch = append(e.batch, span(s))
		default:
			more = false
		}
		if len(e.batch) == batchMax || !more {
			e.send(ctx)
		}
	}
	e.tell()
}

// send sends the batch, once: a collector that is away would be asked ever again
// for what is only a sample.
func (e *Exporter) send(ctx context.Context) {
	if len(e.batch) == 0 {
		return
	}
	what := spanSent
	if err := e.post(ctx); err != nil {
		what = spanFailed
		e.lost += uint64(len(e.batch))
		e.cause = err
	}
	for range e.batch {
		e.Stats.Spans.Add(what)
	}
	clear(e.batch)
	e.batch = e.batch[:0]
}

var errFull = errors.New("the collector is slower than what is traced")

// tell says how many spans were lost since it last did.
func (e *Exporter) tell() {
	now := time.Now()
	if !e.told.IsZero() && now.Sub(e.told) < tellEvery {
		return
	}
	full := e.dropped.Swap(0)
	if full+e.lost == 0 {
		return
	}
	if e.cause == nil {
		e.cause = errFull
	}
	e.cfg.Log.Warn("traces lost", "spans", full+e.lost, "error", e.cause)
	e.told, e.lost, e.cause = now, 0, nil
}
