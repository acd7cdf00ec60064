package server

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"godwit/internal/redistest"
	"godwit/server/auth"
	"godwit/server/session"
	"godwit/store"
	"godwit/wire"
)

// sock is a socket that remembers what it was told.
type sock struct {
	mu     sync.Mutex
	events []*wire.RoomEvent
	notes  []string
	seen   []*wire.Presence
	resets []wire.Reset
	closed wire.CloseCode
	wake   chan struct{}
}

func newSock() *sock { return &sock{wake: make(chan struct{}, 1)} }

func (s *sock) change(f func()) {
	s.mu.Lock()
	f()
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *sock) Deliver(ev *wire.RoomEvent) { s.change(func() { s.events = append(s.events, ev) }) }

func (s *sock) Presence(p *wire.Presence, _ bool) {
	s.change(func() { s.seen = append(s.seen, p) })
}

func (s *sock) Notify(method string, params any) {
	s.change(func() {
		s.notes = append(s.notes, method)
		if r, ok := params.(wire.Reset); ok {
			s.resets = append(s.resets, r)
		}
	})
}

func (s *sock) Sooner() {}

func (s *sock) Replay(_ context.Context, ev *wire.RoomEvent) error { s.Deliver(ev); return nil }

func (s *sock) Close(code wire.CloseCode, _ string) {
	s.change(func() {
		if s.closed == 0 {
			s.closed = code
		}
	})
}

// until waits until the socket is as ok says.
func (s *sock) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	late := time.After(10 * time.Second)
	for {
		s.mu.Lock()
		good := ok()
		s.mu.Unlock()
		if good {
			return
		}
		select {
		case <-s.wake:
		case <-late:
			s.mu.Lock()
			defer s.mu.Unlock()
			t.Fatalf("%s: not in time; events %v notes %v closed %v", what, seqs(s.events), s.notes, s.closed)
		}
	}
}

func seqs(events []*wire.RoomEvent) []string {
	var out []string
	for _, e := range events {
		out = append(out, fmt.Sprintf("%d:%s:%s", e.Seq, e.Kind, e.Data))
	}
	return out
}

// client is a session of a test with its socket.
type client struct {
	t    *testing.T
	node *Node
	sock *sock
	s    *session.Session
	obj  *wire.Session
}

func raw(t *testing.T, v any) jsontext.Value {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func login(t *testing.T, n *Node, method string, params any) *client {
	t.Helper()
	c := &client{t: t, node: n, sock: newSock()}
	s, r := n.Login(context.Background(), c.sock, method, raw(t, params))
	if r.Err != nil {
		t.Fatalf("%s: %v", method, r.Err)
	}
	c.s, c.obj = s, r.Result.(*wire.Session)
	r.Follow()
	return c
}

func hello(t *testing.T, n *Node, user string) *client {
	t.Helper()
	return login(t, n, "hello", map[string]any{"token": "dev:" + user, "device": "test"})
}

func (c *client) call(method string, params any) session.Reply {
	c.t.Helper()
	ch := make(chan session.Reply, 1)
	c.s.Call(context.Background(), method, raw(c.t, params), func(r session.Reply) { ch <- r })
	r := <-ch
	r.Follow()
	return r
}

func must[T any](c *client, method string, params any) T {
	c.t.Helper()
	r := c.call(method, params)
	if r.Err != nil {
		c.t.Fatalf("%s %v: %v", method, params, r.Err)
	}
	return r.Result.(T)
}

func startNode(t *testing.T, name, url string) *Node {
	t.Helper()
	return startNodeOn(t, name, store.Config{URL: url, Grace: 2 * time.Second, Lease: time.Second})
}

func startNodeOn(t *testing.T, name string, cfg store.Config) *Node {
	t.Helper()
	level := slog.LevelWarn
	if os.Getenv("GODWIT_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})).With("at", name)
	cfg.Logger = log
	st, err := store.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	v, err := auth.New(auth.Config{Dev: true})
	if err != nil {
		t.Fatal(err)
	}
	n := New(Config{
		Config: session.Config{
			Node: store.Ref{Node: name}, FrameBytes: 65536, MessageBytes: 32768, Rooms: 256,
			Rate: 100000, Burst: 100000, Ping: 20 * time.Second, CallBeat: 4 * time.Second,
			CallTimeout: 15 * time.Second, Grace: cfg.Grace,
		},
		Lease: cfg.Lease, DrainBudget: 5 * time.Second,
	}, st, v, log)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		st.Close()
	})
	select {
	case <-n.lease.Joined():
	case <-time.After(10 * time.Second):
		t.Fatal("node did not join")
	}
	return n
}

func TestNode_TwoNodesShowOneOrder(t *testing.T) {
	url := redistest.Start(t).URL()
	a, b := startNode(t, "a", url), startNode(t, "b", url)
	ann, bob := hello(t, a, "ann"), hello(t, b, "bob")
	if got := must[wire.Joined](ann, "room.join", map[string]any{"room": "lobby"}); got.Seq != 1 {
		t.Fatalf("ann joined at %d, want 1", got.Seq)
	}
	must[wire.Joined](bob, "room.join", map[string]any{"room": "lobby"})
	for i := range 100 {
		from := []*client{ann, bob}[i%2]
		must[wire.Sent](from, "room.send", map[string]any{"room": "lobby", "data": i, "cseq": i/2 + 1})
	}
	ann.sock.until(t, "ann sees bob", func() bool { return len(ann.sock.events) == 51 })
	bob.sock.until(t, "bob sees ann", func() bool { return len(bob.sock.events) == 50 })
	for _, c := range []*client{ann, bob} {
		last := uint64(0)
		for _, e := range c.sock.events {
			if e.Seq <= last {
				t.Fatalf("out of order: %v", seqs(c.sock.events))
			}
			last = e.Seq
		}
	}
	// Bob's socket drops; ann goes on talking; bob resumes at the other node.
	pos := bob.sock.events[len(bob.sock.events)-1].Seq
	epoch := must[wire.RoomInfo](ann, "room.info", map[string]any{"room": "lobby"}).Epoch
	bob.s.Dropped()
	for i := range 10 {
		must[wire.Sent](ann, "room.send", map[string]any{"room": "lobby", "data": 1000 + i})
	}
	again := login(t, a, "resume", map[string]any{
		"session": bob.obj.Session, "secret": bob.obj.Secret,
		"positions": map[string]any{"lobby": map[string]any{"epoch": epoch, "seq": pos}},
	})
	if r := again.obj.Rooms; len(r) != 1 || !r[0].Recovered || r[0].CSeq != 50 || again.obj.Gen != 2 {
		t.Fatalf("resumed as %+v", again.obj)
	}
	again.sock.until(t, "bob catches up", func() bool { return len(again.sock.events) == 10 })
	must[wire.Sent](ann, "room.send", map[string]any{"room": "lobby", "data": "live"})
	again.sock.until(t, "bob is live", func() bool { return len(again.sock.events) == 11 })
	// The session ends once, after the grace.
	again.s.Dropped()
	ann.sock.until(t, "bob is lost", func() bool {
		e := ann.sock.events[len(ann.sock.events)-1]
		return e.Kind == wire.KindLeave && e.Reason == wire.LeftLost
	})
}
