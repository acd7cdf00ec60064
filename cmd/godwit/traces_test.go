package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"godwit/client"
	"godwit/internal/redistest"
	"godwit/wire"
)

// collector takes traces as a real one does.
type collector struct {
	*httptest.Server

	mu    sync.Mutex
	asked int       // guarded by mu: requests
	spans []spanned // guarded by mu
	wrong []string  // guarded by mu: what no collector would take
}

// spanned is a span, and what it is said to come from.
type spanned struct {
	*tracepb.Span
	node, service, colour string
}

// collect starts a collector; with hang it takes requests and answers none.
func collect(t *testing.T, hang bool) *collector {
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		c.mu.Lock()
		c.asked++
		c.mu.Unlock()
		if hang {
			<-r.Context().Done()
			return
		}
		data := new(tracepb.TracesData)
		if err == nil {
			err = proto.Unmarshal(body, data)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if err != nil || r.Method != http.MethodPost || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" ||
			r.Header.Get("X-Key") != "a,b" {
			c.wrong = append(c.wrong, fmt.Sprint(r.Method, r.URL, r.Header, err))
		}
		for _, of := range data.ResourceSpans {
			s := spanned{}
			for _, a := range of.Resource.Attributes {
				switch a.Key {
				case "service.instance.id":
					s.node = a.Value.GetStringValue()
				case "service.name":
					s.service = a.Value.GetStringValue()
				case "colour":
					s.colour = a.Value.GetStringValue()
				}
			}
			for _, in := range of.ScopeSpans {
				for _, s.Span = range in.Spans {
					c.spans = append(c.spans, s)
				}
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) got() (spans []spanned, asked int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans), c.asked
}

// attr is what a span says by that name.
func attr(s *tracepb.Span, key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			if v := a.Value.GetStringValue(); v != "" {
				return v
			}
			return fmt.Sprint(a.Value.GetIntValue())
		}
	}
	return ""
}

// keys are what a span says something of.
func keys(s *tracepb.Span) (all []string) {
	for _, a := range s.Attributes {
		all = append(all, a.Key)
	}
	for _, e := range s.Events {
		all = append(all, e.Name)
	}
	return all
}

// pair is two nodes as processes on one Redis, with a person at each, in one room.
type pair struct {
	nodes  [2]*program
	admins [2]string
	ann    *client.Client // at the first
	bob    *client.Client
}

func startPair(t *testing.T, env ...string) *pair {
	t.Helper()
	redis := redistest.Start(t)
	p := &pair{}
	var urls [2]string
	for i := range p.nodes {
		p.nodes[i] = launch(t, local(append(env, fmt.Sprintf("GODWIT_NODE_ID=n%d", i+1), "GODWIT_REDIS_URL="+redis.URL(), "GODWIT_AUTH_DEV=true")...), "serve")
	}
	for i, n := range p.nodes {
		urls[i], p.admins[i] = n.node()
		ready(t, p.admins[i])
	}
	for i, c := range []**client.Client{&p.ann, &p.bob} {
		var err error
		if *c, err = login(t, urls[i], fmt.Sprintf("dev:user%d", i)); err != nil {
			t.Fatal(err)
		}
		if _, err := (*c).Join(t.Context(), "a private den"); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// talk has ann say something, and bob hear it; it is how long ann waited.
func (p *pair) talk(t *testing.T, text string) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	began := time.Now()
	if _, err := p.ann.Send(ctx, "a private den", text); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	for event, err := range p.bob.Events(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := event.(*wire.RoomEvent); ok && string(e.Data) == `"`+text+`"` {
			return took
		}
	}
	t.Fatal("the events ended")
	return 0
}

// part has bob leave, and ann hear of it: her node has delivered what he heard, too.
func (p *pair) part(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := p.bob.Leave(ctx, "a private den"); err != nil {
		t.Fatal(err)
	}
	for event, err := range p.ann.Events(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := event.(*wire.RoomEvent); ok && e.Kind == wire.KindLeave {
			return
		}
	}
	t.Fatal("the events ended")
}

// end stops both nodes, and is how long each took.
func (p *pair) end(t *testing.T) (took [2]time.Duration) {
	t.Helper()
	for i, n := range p.nodes {
		began := time.Now()
		n.signal(syscall.SIGTERM)
		if code := n.exit(); code != 0 {
			t.Errorf("node %d: exit %d, want 0", i+1, code)
		}
		took[i] = time.Since(began)
	}
	return took
}

func TestTraces_OneSendIsOneTraceFromTheRequestToTheDeliveriesAtBothNodes(t *testing.T) {
	c := collect(t, false)
	p := startPair(t, "GODWIT_TRACE_SAMPLE=1", "OTEL_EXPORTER_OTLP_ENDPOINT="+c.URL+"/", "OTEL_EXPORTER_OTLP_HEADERS=x-key=a%2Cb",
		"OTEL_RESOURCE_ATTRIBUTES=colour=blue%20grey,service.name=x", "OTEL_SERVICE_NAME=chat", "GODWIT_DRAIN_BUDGET=10s")
	p.talk(t, "the payload")
	p.part(t)
	p.end(t) // what waits is sent first
	spans, _ := c.got()
	if len(c.wrong) > 0 {
		t.Fatalf("no collector would take %v", c.wrong)
	}
	var lines []string
	by := map[string]spanned{}
	for _, s := range spans {
		by[s.Name+" at "+s.node] = s
		lines = append(lines, fmt.Sprintf("%s at %s, %x below %x in %x: %v", s.Name, s.node, s.SpanId, s.ParentSpanId, s.TraceId, s.Attributes))
	}
	all := strings.Join(lines, "\n")
	request, write := by["room.send at n1"], by["store.send at n1"]
	here, there := by["room.deliver at n1"], by["room.deliver at n2"]
	if len(spans) != 4 || request.Span == nil || write.Span == nil || here.Span == nil || there.Span == nil {
		t.Fatalf("want a request, a write, and a delivery at each node, got:\n%s", all)
	}
	for _, s := range spans {
		if hex.EncodeToString(s.TraceId) != hex.EncodeToString(request.TraceId) {
			t.Errorf("%s at %s is of another trace", s.Name, s.node)
		}
		if s.service != "chat" || s.colour != "blue grey" {
			t.Errorf("%s says that it comes from %q, %q", s.Name, s.service, s.colour)
		}
		if s.EndTimeUnixNano < s.StartTimeUnixNano {
			t.Errorf("%s at %s ended before it began", s.Name, s.node)
		}
	}
	for _, c := range []struct {
		span, parent *tracepb.Span
		receivers    string
	}{{write.Span, request.Span, ""}, {here.Span, write.Span, "0"}, {there.Span, write.Span, "1"}} {
		if string(c.span.ParentSpanId) != string(c.parent.SpanId) {
			t.Errorf("%s is not below %s", c.span.Name, c.parent.Name)
		}
		if got := attr(c.span, "godwit.receivers"); got != c.receivers {
			t.Errorf("%s went to %q, want %q", c.span.Name, got, c.receivers)
		}
		if attr(c.span, "godwit.epoch") == "" || attr(c.span, "godwit.seq") != "3" {
			t.Errorf("%s says %v", c.span.Name, c.span.Attributes)
		}
	}
	if len(request.ParentSpanId) != 0 || attr(request.Span, "godwit.outcome") != "ok" || attr(request.Span, "godwit.kind") != "logged" || attr(request.Span, "godwit.bytes") != "13" {
		t.Errorf("the request says %v", request.Attributes)
	}
	if len(write.Events) != 1 || write.Events[0].Name != "pipelined" {
		t.Errorf("the write says %v", write.Events)
	}
	page, err := os.ReadFile("../../docs/traces.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range spans {
		for _, a := range append([]string{s.Name}, keys(s.Span)...) {
			if !strings.Contains(string(page), "`"+a+"`") {
				t.Errorf("docs/traces.md does not tell of %s", a)
			}
		}
	}
	for _, secret := range []string{"payload", "den", "user0", "user1"} {
		if strings.Contains(all, secret) {
			t.Errorf("%q is told to the collector:\n%s", secret, all)
		}
	}
}

func TestTraces_AreOffUnlessAskedFor(t *testing.T) {
	c := collect(t, false)
	// The variables may be there for others, and mean what this program cannot do.
	p := startPair(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+c.URL, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_RESOURCE_ATTRIBUTES=nonsense", "GODWIT_DRAIN_BUDGET=10s")
	p.talk(t, "hi")
	p.end(t)
	if spans, asked := c.got(); asked != 0 {
		t.Errorf("the collector was asked %d times, and got %v", asked, spans)
	}
}

// The bounds are far beyond what a busy machine needs, and far below what waiting
// for the collector would take.
func TestTraces_ACollectorThatHangsSlowsNoSendAndNoExit(t *testing.T) {
	c := collect(t, true)
	p := startPair(t, "GODWIT_TRACE_SAMPLE=1", "OTEL_EXPORTER_OTLP_ENDPOINT="+c.URL, "OTEL_EXPORTER_OTLP_HEADERS=x-key=a%2Cb", "GODWIT_DRAIN_BUDGET=15s")
	for i := range 600 { // more than goes at once: a request hangs while they are sent
		if took := p.talk(t, fmt.Sprint("hi ", i)); took > 5*time.Second {
			t.Fatalf("send %d took %s", i, took)
		}
	}
	eventually(t, func() error {
		if _, asked := c.got(); asked == 0 {
			return fmt.Errorf("the collector was not asked")
		}
		return nil
	})
	for i, took := range p.end(t) {
		if took > 8*time.Second {
			t.Errorf("node %d took %s to end", i+1, took)
		}
		p.nodes[i].await(`"level":"WARN","msg":"traces lost","node":"n\d","spans":\d+,"error":"`)
		if n := strings.Count(p.nodes[i].String(), "traces lost"); n > 1 {
			t.Errorf("node %d said %d times that traces are lost", i+1, n)
		}
	}
}
