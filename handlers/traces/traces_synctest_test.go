package traces

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"godwit/trace"
)

// collector is a network at whose end one answers as told.
type collector struct {
	answer func(ctx context.Context) (int, error)
	got    [][]*tracepb.Span // of the requests that it took
	last   *tracepb.TracesData
	header http.Header
	url    string
}

func (c *collector) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	status := http.StatusOK
	if c.answer != nil {
		if status, err = c.answer(r.Context()); err != nil {
			return nil, err
		}
	}
	data := new(tracepb.TracesData)
	if err := proto.Unmarshal(body, data); err != nil {
		return nil, err
	}
	c.last, c.header, c.url = data, r.Header, r.URL.String()
	if status == http.StatusOK {
		c.got = append(c.got, data.ResourceSpans[0].ScopeSpans[0].Spans)
	}
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Header: http.Header{"Location": {"http://elsewhere/"}},
		Body: io.NopCloser(strings.NewReader("{}")), Request: r,
	}, nil
}

// hang answers nothing until whoever asks has enough.
func hang(ctx context.Context) (int, error) {
	<-ctx.Done()
	return 0, context.Cause(ctx)
}

// counts are the spans by what became of them.
func counts(e *Exporter) (sent, dropped, failed uint64) {
	e.Stats.Spans.Read(func(word string, n uint64) {
		switch word {
		case spanSent:
			sent = n
		case spanDropped:
			dropped = n
		case spanFailed:
			failed = n
		}
	})
	return sent, dropped, failed
}

const flush = 300 * time.Millisecond

// exporting runs an exporter to a collector in virtual time. What it says is in
// the log; stop ends it.
func exporting(t *testing.T, c *collector, test func(t *testing.T, e *Exporter, tracer *trace.Tracer, log *bytes.Buffer, stop func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		e := New(Config{
			URL: "http://user:hunter2@collector:4318/v1/traces?key=hunter2", Headers: http.Header{"X-Key": {"hunter2"}}, Flush: flush,
			Resource: map[string]string{"service.name": "godwit", "service.instance.id": "n1"}, Version: "v1", Network: c,
			Log: slog.New(slog.NewTextHandler(&log, nil)),
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := e.Run(ctx); err != nil {
				t.Error(err)
			}
		}()
		stop := func() {
			cancel()
			<-done
		}
		defer stop()
		test(t, e, trace.New(1, e.End), &log, stop)
		stop()
		if strings.Contains(log.String(), "hunter2") {
			t.Errorf("the log tells a secret:\n%s", log.String())
		}
	})
}

func end(tracer *trace.Tracer, n int) {
	for range n {
		tracer.Begin("room.send", trace.Server).End()
	}
}

func TestExporter_SendsWhatEndedAsOpenTelemetryHasIt(t *testing.T) {
	c := &collector{}
	exporting(t, c, func(t *testing.T, e *Exporter, tracer *trace.Tracer, log *bytes.Buffer, stop func()) {
		root := tracer.Begin("room.send", trace.Server)
		time.Sleep(time.Millisecond)
		write := root.Below("store.send", trace.Producer)
		write.Happened("pipelined")
		write.Text("godwit.outcome", "unavailable")
		write.Number("godwit.seq", 7)
		write.Truth("godwit.filled", true)
		write.Fail()
		time.Sleep(time.Millisecond)
		write.End()
		root.End()
		tracer.Continue(write.Traceparent(), "room.deliver", trace.Consumer, time.Now()).End()
		time.Sleep(sendEvery)
		synctest.Wait()
		if len(c.got) != 1 || len(c.got[0]) != 3 {
			t.Fatalf("got %v, want three spans in one request", c.got)
		}
		w, r, d := c.got[0][0], c.got[0][1], c.got[0][2]
		if !bytes.Equal(r.TraceId, root.ID.Trace[:]) || !bytes.Equal(r.SpanId, root.ID.Span[:]) || len(r.ParentSpanId) != 0 ||
			r.Name != "room.send" || r.Kind != tracepb.Span_SPAN_KIND_SERVER || r.Status.GetCode() != tracepb.Status_STATUS_CODE_UNSET ||
			r.EndTimeUnixNano-r.StartTimeUnixNano != uint64(2*time.Millisecond) || r.StartTimeUnixNano != uint64(root.Began.UnixNano()) {
			t.Errorf("the first is %v", r)
		}
		if !bytes.Equal(w.TraceId, r.TraceId) || !bytes.Equal(w.ParentSpanId, r.SpanId) || w.Kind != tracepb.Span_SPAN_KIND_PRODUCER ||
			w.Status.GetCode() != tracepb.Status_STATUS_CODE_ERROR || len(w.Events) != 1 || w.Events[0].Name != "pipelined" || w.Events[0].TimeUnixNano != w.StartTimeUnixNano {
			t.Errorf("below it is %v", w)
		}
		if a := w.Attributes; len(a) != 3 || a[0].Key != "godwit.outcome" || a[0].Value.GetStringValue() != "unavailable" ||
			a[1].Value.GetIntValue() != 7 || !a[2].Value.GetBoolValue() {
			t.Errorf("it says %v", w.Attributes)
		}
		if !bytes.Equal(d.TraceId, r.TraceId) || !bytes.Equal(d.ParentSpanId, w.SpanId) || d.Kind != tracepb.Span_SPAN_KIND_CONSUMER {
			t.Errorf("below that is %v", d)
		}
		of := c.last.ResourceSpans[0]
		if a := of.Resource.Attributes; len(a) != 2 || a[0].Key != "service.instance.id" || a[0].Value.GetStringValue() != "n1" || a[1].Value.GetStringValue() != "godwit" {
			t.Errorf("of %v", of.Resource)
		}
		if s := of.ScopeSpans[0].Scope; s.Name != "godwit" || s.Version != "v1" {
			t.Errorf("by %v", s)
		}
		if c.header.Get("Content-Type") != "application/x-protobuf" || c.header.Get("X-Key") != "hunter2" || !strings.HasSuffix(c.url, "@collector:4318/v1/traces?key=hunter2") {
			t.Errorf("asked %s with %v", c.url, c.header)
		}
		if log.Len() > 0 {
			t.Errorf("said %s", log)
		}
	})
}

func TestExporter_ManyGoAtOnceAndTheRestAtTheEnd(t *testing.T) {
	c := &collector{}
	exporting(t, c, func(t *testing.T, e *Exporter, tracer *trace.Tracer, _ *bytes.Buffer, stop func()) {
		end(tracer, batchMax+10)
		synctest.Wait()
		if len(c.got) != 1 || len(c.got[0]) != batchMax {
			t.Fatalf("%d requests before the time is over, want one, full", len(c.got))
		}
		end(tracer, 2*batchMax) // and two more full ones, with the ten
		synctest.Wait()
		end(tracer, 20)
		began := time.Now()
		stop()
		if took := time.Since(began); took != 0 {
			t.Errorf("the end took %s with a collector that answers at once", took)
		}
		if sent, dropped, failed := counts(e); sent != 3*batchMax+30 || dropped+failed != 0 {
			t.Errorf("%d sent, %d dropped, %d failed", sent, dropped, failed)
		}
		n := 0
		for _, spans := range c.got {
			n += len(spans)
		}
		if n != 3*batchMax+30 || len(c.got) != 4 {
			t.Errorf("the collector got %d spans in %d requests", n, len(c.got))
		}
	})
}

func TestExporter_ACollectorThatHangsHoldsNobodyUp(t *testing.T) {
	c := &collector{answer: hang}
	exporting(t, c, func(t *testing.T, e *Exporter, tracer *trace.Tracer, log *bytes.Buffer, stop func()) {
		end(tracer, 1)
		time.Sleep(sendEvery + time.Second)
		synctest.Wait() // a request is under way
		began := time.Now()
		end(tracer, queueMax+100)
		if took := time.Since(began); took != 0 {
			t.Errorf("whoever ends a span waits %s", took)
		}
		if _, dropped, _ := counts(e); dropped != 100 {
			t.Errorf("%d are dropped, want those that the queue does not hold", dropped)
		}
		began = time.Now()
		stop()
		if took := time.Since(began); took > flush {
			t.Errorf("the end took %s, want %s at most", took, flush)
		}
		if sent, dropped, failed := counts(e); sent != 0 || dropped != 100 || failed != queueMax+1 {
			t.Errorf("%d sent, %d dropped, %d failed: not all is counted", sent, dropped, failed)
		}
		if n := strings.Count(log.String(), "traces lost"); n != 1 {
			t.Errorf("said %d times that some are lost:\n%s", n, log)
		}
	})
}

func TestExporter_SaysOnceAMinuteThatSpansAreLost(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(context.Context) (int, error)
		want   string
	}{
		"away":      {func(context.Context) (int, error) { return 0, errors.New("connection refused") }, `"ask collector:4318: connection refused"`},
		"in a fit":  {func(context.Context) (int, error) { return http.StatusServiceUnavailable, nil }, `"collector:4318 answers Service Unavailable"`},
		"elsewhere": {func(context.Context) (int, error) { return http.StatusTemporaryRedirect, nil }, `"collector:4318 answers Temporary Redirect"`},
		"silent":    {hang, "context deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			exporting(t, &collector{answer: c.answer}, func(t *testing.T, e *Exporter, tracer *trace.Tracer, log *bytes.Buffer, stop func()) {
				const minutes = 5
				told := 0
				began := time.Now()
				for time.Since(began) < minutes*time.Minute {
					end(tracer, 10)
					time.Sleep(sendEvery)
				}
				synctest.Wait()
				for line := range strings.Lines(log.String()) {
					if !strings.Contains(line, "level=WARN") || !strings.Contains(line, "traces lost") || !strings.Contains(line, c.want) {
						t.Errorf("said %s, want %s", line, c.want)
					}
					told++
				}
				if told < minutes || told > minutes+1 {
					t.Errorf("said %d times in %d minutes:\n%s", told, minutes, log)
				}
				if sent, _, failed := counts(e); sent != 0 || failed == 0 {
					t.Errorf("%d sent, %d failed", sent, failed)
				}
			})
		})
	}
}

func TestExporter_GoesOnOnceTheCollectorIsBack(t *testing.T) {
	away := true
	c := &collector{answer: func(context.Context) (int, error) {
		if away {
			return http.StatusBadGateway, nil
		}
		return http.StatusOK, nil
	}}
	exporting(t, c, func(t *testing.T, e *Exporter, tracer *trace.Tracer, _ *bytes.Buffer, stop func()) {
		end(tracer, 3)
		time.Sleep(sendEvery)
		synctest.Wait()
		away = false
		end(tracer, 2)
		time.Sleep(sendEvery)
		synctest.Wait()
		if sent, dropped, failed := counts(e); sent != 2 || dropped != 0 || failed != 3 || len(c.got) != 1 || len(c.got[0]) != 2 {
			t.Errorf("%d sent, %d dropped, %d failed; got %v", sent, dropped, failed, c.got)
		}
	})
}
