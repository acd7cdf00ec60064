package socket

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lxzan/gws"

	"godwit/server"
	"godwit/server/auth"
	"godwit/server/session"
	"godwit/store"
)

// start serves a real node on the embedded store.
func start(t testing.TB, change func(*Config, *server.Config)) (*httptest.Server, *Handler) {
	t.Helper()
	st, err := store.Open(store.Config{Grace: 10 * time.Second, Lease: 10 * time.Second, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	v, err := auth.New(auth.Config{Dev: true})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{HelloTimeout: 10 * time.Second, Ping: 20 * time.Second, MaxFrame: 65536, Outbox: 262144}
	node := server.Config{
		Config: session.Config{
			Node: store.Ref{Node: "n"}, FrameBytes: 65536, MessageBytes: 32768, Rooms: 8,
			Rate: 1000, Burst: 1000, Ping: cfg.Ping, Grace: 10 * time.Second,
		},
		Lease: 10 * time.Second, DrainBudget: 5 * time.Second,
	}
	if change != nil {
		change(&cfg, &node)
	}
	log := slog.New(slog.DiscardHandler)
	n := server.New(node, st, v, log)
	h := New(cfg, n, log)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 2)
	go func() { n.Run(ctx); done <- struct{}{} }()
	hctx, hcancel := context.WithCancel(context.Background())
	go func() { h.Run(hctx); done <- struct{}{} }()
	srv := httptest.NewServer(h)
	t.Cleanup(func() {
		hcancel()
		<-done
		cancel()
		<-done
		srv.Close()
		st.Close()
	})
	<-n.Joined()
	return srv, h
}

// peer is a bare websocket client.
type peer struct {
	t      *testing.T
	ws     *gws.Conn
	frames chan string
	closed chan int
	gate   sync.Mutex // held by a test that wants the peer to read nothing
}

type peerEvents struct {
	gws.BuiltinEventHandler
	p *peer
}

func (e peerEvents) OnMessage(_ *gws.Conn, m *gws.Message) {
	e.p.gate.Lock()
	defer e.p.gate.Unlock()
	e.p.frames <- m.Data.String()
	m.Close()
}

func (e peerEvents) OnClose(_ *gws.Conn, err error) {
	code := 1006
	if ce, ok := err.(*gws.CloseError); ok {
		code = int(ce.Code)
	}
	e.p.closed <- code
}

func dial(t *testing.T, srv *httptest.Server, header http.Header) *peer {
	t.Helper()
	p := &peer{t: t, frames: make(chan string, 10000), closed: make(chan int, 1)}
	ws, _, err := gws.NewClient(peerEvents{p: p}, &gws.ClientOption{Addr: "ws" + strings.TrimPrefix(srv.URL, "http"), RequestHeader: header})
	if err != nil {
		t.Fatal(err)
	}
	p.ws = ws
	go ws.ReadLoop()
	t.Cleanup(func() { ws.NetConn().Close() })
	return p
}

func (p *peer) say(s string) {
	p.t.Helper()
	if err := p.ws.WriteString(s); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) hear(want string) string {
	p.t.Helper()
	heard := func(f string) string {
		p.t.Helper()
		if !strings.Contains(f, want) {
			p.t.Fatalf("heard %s, want it to hold %s", f, want)
		}
		return f
	}
	select {
	case f := <-p.frames:
		return heard(f)
	case code := <-p.closed:
		select {
		case f := <-p.frames: // it came before the close, and both were there
			p.closed <- code
			return heard(f)
		default:
		}
		p.t.Fatalf("closed %d, want a frame with %s", code, want)
	case <-time.After(5 * time.Second):
		p.t.Fatalf("nothing heard, want %s", want)
	}
	return ""
}

func (p *peer) ends(want int) {
	p.t.Helper()
	select {
	case code := <-p.closed:
		if code != want {
			p.t.Fatalf("closed %d, want %d", code, want)
		}
	case <-time.After(5 * time.Second):
		p.t.Fatalf("not closed, want %d", want)
	}
}

const helloAnn = `{"jsonrpc":"2.0","id":1,"method":"hello","params":{"token":"dev:ann"}}`

func TestSocket_FirstFrameMustBeALogin(t *testing.T) {
	srv, _ := start(t, nil)
	for _, c := range []struct {
		name, frame, answer string
		code                int
	}{
		{"no JSON", `hello`, `"id":null,"error":{"code":-32700`, 4400},
		{"a batch", `[` + helloAnn + `]`, `"id":null,"error":{"code":-32600`, 4400},
		{"another method", `{"jsonrpc":"2.0","id":7,"method":"room.join","params":{"room":"r"}}`, `"id":7,"error":{"code":-32600`, 4400},
		{"a notification", `{"jsonrpc":"2.0","method":"hello","params":{"token":"dev:ann"}}`, `"id":null,"error":{"code":-32600`, 4400},
		{"wrong type", `{"jsonrpc":"2.0","id":1,"method":"hello","params":{"token":5}}`, `"code":-32602`, 4400},
		{"bad token", `{"jsonrpc":"2.0","id":1,"method":"hello","params":{"token":"x"}}`, `"reason":"unauthorized"`, 4401},
		{"no session", `{"jsonrpc":"2.0","id":1,"method":"resume","params":{"session":"x","secret":"y"}}`, `"reason":"no_session"`, 4301},
		{"handover", `{"jsonrpc":"2.0","id":1,"method":"handover","params":{}}`, `"error"`, 4100},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := dial(t, srv, nil)
			p.say(c.frame)
			p.hear(c.answer)
			p.ends(c.code)
		})
	}
}

func TestSocket_BadFramesAreAnsweredAndTheSocketStays(t *testing.T) {
	srv, _ := start(t, nil)
	p := dial(t, srv, nil)
	p.say(helloAnn)
	p.hear(`"secret"`)
	for _, c := range []struct{ frame, answer string }{
		{`{`, `"id":null,"error":{"code":-32700`},
		{`[]`, `"id":null,"error":{"code":-32600`},
		{`{"jsonrpc":"2.0","id":2,"method":"nope"}`, `"id":2,"error":{"code":-32601`},
		{`{"jsonrpc":"2.0","id":3,"method":"room.join","params":{"room":5}}`, `"id":3,"error":{"code":-32602`},
		{`{"jsonrpc":"2.0","id":3,"method":"room.join","params":{"room":"` + strings.Repeat("x", 201) + `"}}`, `"id":3,"error":{"code":-32602`},
		{helloAnn, `"id":1,"error":{"code":-32600`},
		{`[{"jsonrpc":"2.0","id":4,"method":"room.join","params":{"room":"r"}},{"jsonrpc":"2.0","method":"room.send","params":{"room":"r","data":1}},{"jsonrpc":"2.0","id":5,"method":"room.info","params":{"room":"r"}}]`, `[{"jsonrpc":"2.0","id":4,"result":{"room":"r"`},
	} {
		p.say(c.frame)
		p.hear(c.answer)
	}
	p.say(`{"jsonrpc":"2.0","id":9,"method":"bye"}`)
	p.hear(`"id":9,"result":{}`)
	p.ends(1000)
}

func TestSocket_ClosesAsTheCodesSay(t *testing.T) {
	srv, _ := start(t, nil)
	t.Run("binary", func(t *testing.T) {
		p := dial(t, srv, nil)
		p.ws.WriteMessage(gws.OpcodeBinary, []byte{1})
		p.ends(1003)
	})
	t.Run("bad UTF-8", func(t *testing.T) {
		p := dial(t, srv, nil)
		p.ws.NetConn().Write([]byte{0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe})
		p.ends(1007)
	})
	t.Run("too big", func(t *testing.T) {
		p := dial(t, srv, nil)
		p.ws.WriteMessage(gws.OpcodeText, bytes.Repeat([]byte(" "), 65537))
		p.ends(1009)
	})
	t.Run("no hello", func(t *testing.T) {
		srv, _ := start(t, func(c *Config, _ *server.Config) { c.HelloTimeout = 200 * time.Millisecond })
		p := dial(t, srv, nil)
		p.ends(4408)
	})
}

func TestSocket_ASlowReaderIsEvictedAndItsNeighbourHearsAll(t *testing.T) {
	srv, h := start(t, func(c *Config, n *server.Config) { n.Rate = 0 })
	slow, good, talker := dial(t, srv, nil), dial(t, srv, nil), dial(t, srv, nil)
	for i, p := range []*peer{slow, good, talker} {
		p.say(strings.Replace(helloAnn, "ann", string(rune('a'+i)), 1))
		p.hear(`"secret"`)
	}
	for _, p := range []*peer{slow, good, talker} {
		p.say(`{"jsonrpc":"2.0","id":2,"method":"room.join","params":{"room":"r"}}`)
		p.hear(`"id":2`)
	}
	slow.gate.Lock()
	data := strings.Repeat("x", 30000)
	n := 0
	for ; h.Stats.EvictedSlow.Load() == 0 && n < 2000; n++ {
		talker.say(`{"jsonrpc":"2.0","id":3,"method":"room.send","params":{"room":"r","data":"` + data + `"}}`)
		for !strings.Contains(<-talker.frames, `"id":3`) {
		}
		for !strings.Contains(<-good.frames, `"kind":"message"`) { // each one, or it might be slow too
		}
	}
	if h.Stats.EvictedSlow.Load() != 1 {
		t.Fatalf("%d evicted after %d messages of 30 kB", h.Stats.EvictedSlow.Load(), n)
	}
	slow.gate.Unlock()
	slow.ends(4200)
}

func TestSocket_BeforeTheUpgrade(t *testing.T) {
	srv, _ := start(t, func(c *Config, n *server.Config) { c.Origins = []string{"https://*.example.org"}; n.MaxSessions = 1 })
	get := func(h http.Header) int {
		req, _ := http.NewRequest("GET", srv.URL, nil)
		req.Header = h
		for k, v := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
			req.Header.Set(k, v)
		}
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode == 503 && res.Header.Get("Retry-After") == "" {
			t.Error("503 without Retry-After")
		}
		return res.StatusCode
	}
	if got := get(http.Header{"Origin": {"https://evil.test"}}); got != 403 {
		t.Errorf("wrong origin: %d, want 403", got)
	}
	dial(t, srv, http.Header{"Origin": {"https://a.example.org"}})
	if got := get(http.Header{}); got != 503 {
		t.Errorf("full: %d, want 503", got)
	}
}
