package client_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/lxzan/gws"
	"go.uber.org/goleak"

	"godwit/client"
	"godwit/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come; it is never waited out
// in a test that passes.
const patience = 10 * time.Second

// script is a node whose lines the test speaks itself.
type script struct {
	t     testing.TB
	ln    net.Listener
	peers chan *peer
	wg    sync.WaitGroup

	mu sync.Mutex
	// guarded by mu
	refuse []string // raw HTTP answers for the next connections
	conns  []net.Conn
}

func newScript(t testing.TB) *script {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return newScriptOn(t, ln)
}

func newScriptOn(t testing.TB, ln net.Listener) *script {
	t.Helper()
	s := &script{t: t, ln: ln, peers: make(chan *peer, 16)}
	s.wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, nc)
			s.mu.Unlock()
			s.wg.Go(func() { s.upgrade(nc) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		s.mu.Lock()
		for _, nc := range s.conns {
			_ = nc.Close()
		}
		s.mu.Unlock()
		s.wg.Wait()
	})
	return s
}

func (s *script) url() string { return "ws://" + s.ln.Addr().String() + "/v1/ws" }

func (s *script) upgrade(nc net.Conn) {
	defer nc.Close()
	br := bufio.NewReader(nc)
	r, err := http.ReadRequest(br)
	if err != nil {
		return
	}
	s.mu.Lock()
	var raw string
	if len(s.refuse) > 0 {
		raw, s.refuse = s.refuse[0], s.refuse[1:]
	}
	s.mu.Unlock()
	if raw != "" {
		_, _ = nc.Write([]byte(raw))
		return
	}
	p := &peer{
		t: s.t, nc: nc, frames: make(chan frame, 4096), closed: make(chan struct{}), late: make(chan *wire.RoomEvent, 4096),
	}
	ws, err := gws.NewUpgrader(p, &gws.ServerOption{SubProtocols: []string{"godwit.v1"}}).UpgradeFromConn(nc, br, r)
	if err != nil {
		return
	}
	p.ws = ws
	s.peers <- p
	ws.ReadLoop()
}

// frame is one request as the node reads it.
type frame struct {
	ID     jsontext.Value `json:"id"`
	Method string         `json:"method"`
	Params jsontext.Value `json:"params"`
}

// peer is one accepted socket.
type peer struct {
	gws.BuiltinEventHandler
	t      testing.TB
	nc     net.Conn
	ws     *gws.Conn
	frames chan frame
	closed chan struct{}
	pong   atomic.Pointer[chan string]
	late   chan *wire.RoomEvent // what deliver has to write
}

func (p *peer) OnPong(_ *gws.Conn, payload []byte) {
	if ch := p.pong.Load(); ch != nil {
		*ch <- string(payload)
	}
}

func (p *peer) OnMessage(_ *gws.Conn, m *gws.Message) {
	defer m.Close()
	var f frame
	if err := json.Unmarshal(m.Bytes(), &f); err != nil {
		p.t.Errorf("client sent no request: %v: %s", err, m.Bytes())
		return
	}
	p.frames <- f
}

func (p *peer) OnClose(*gws.Conn, error) { close(p.closed) }

// accept is the next socket.
func (s *script) accept() *peer {
	s.t.Helper()
	select {
	case p := <-s.peers:
		return p
	case <-time.After(patience):
		s.t.Fatal("the client did not connect")
		return nil
	}
}

// want is the next request, which must be method.
func (p *peer) want(method string) frame {
	p.t.Helper()
	select {
	case f := <-p.frames:
		if f.Method != method {
			p.t.Fatalf("client sent %s %s, want %s", f.Method, f.Params, method)
		}
		return f
	case <-p.closed:
		p.t.Fatalf("client closed, want %s", method)
	case <-time.After(patience):
		p.t.Fatalf("client sent nothing, want %s", method)
	}
	return frame{}
}

// sync returns when the client has handled all that was written before, and
// what it wrote to that is here.
func (p *peer) sync() {
	p.t.Helper()
	pong := make(chan string, 1)
	p.pong.Store(&pong)
	_ = p.ws.WritePing([]byte("sync"))
	select {
	case <-pong:
	case <-p.closed:
		p.t.Fatal("client closed, want a pong")
	case <-time.After(patience):
		p.t.Fatal("no pong")
	}
}

// gone waits until the client has ended the socket, or has seen it end.
func (p *peer) gone() {
	p.t.Helper()
	select {
	case <-p.closed:
	case <-time.After(patience):
		p.t.Fatal("the client did not close")
	}
}

// quiet fails when a request has come. Only good after something that would
// have come later.
func (p *peer) quiet() {
	p.t.Helper()
	select {
	case f := <-p.frames:
		p.t.Fatalf("client sent %s %s, want nothing", f.Method, f.Params)
	default:
	}
}

func (p *peer) write(b []byte) { _ = p.ws.WriteMessage(gws.OpcodeText, b) }

func (p *peer) answer(f frame, result any) {
	b, err := wire.AppendResult(nil, f.ID, result)
	if err != nil {
		p.t.Errorf("answer: %v", err)
	}
	p.write(b)
}

func (p *peer) refuse(f frame, e *wire.Error) { p.write(wire.AppendError(nil, f.ID, e)) }

func (p *peer) notice(method string, params any) {
	b, err := wire.AppendNotice(nil, method, params)
	if err != nil {
		p.t.Errorf("notice: %v", err)
	}
	p.write(b)
}

// event delivers a message of a room.
func (p *peer) event(room string, seq uint64) {
	p.write((&wire.RoomEvent{
		Room: room, Seq: seq, Kind: wire.KindMessage, From: wire.Member{User: "bo", Client: 99},
		Data: wire.Raw(fmt.Sprintf(`"m%d"`, seq)), TS: 1000 + int64(seq),
	}).Frame())
}

func (p *peer) close(code wire.CloseCode) { _ = p.ws.WriteClose(uint16(code), []byte("scripted")) }

// cut ends the connection without a close frame.
func (p *peer) cut() { _ = p.nc.Close() }

func session(rooms ...wire.SessionRoom) wire.Session {
	return wire.Session{
		Session: "s1", Client: 7, User: "ann", Handle: "0011223344556677", Gen: 1, Node: "n1",
		Limits:  wire.Limits{FrameBytes: 65536, MessageBytes: 32768, Rooms: 256},
		Timers:  wire.Timers{PingMS: 20000, GraceMS: 30000},
		Origins: []string{"*"}, Rooms: rooms,
	}
}

func hello() wire.Session {
	s := session()
	s.Secret = "secret1"
	return s
}

func resumed(rooms ...wire.SessionRoom) wire.Session {
	s := session(rooms...)
	s.Resumed, s.Gen = true, 2
	return s
}

func options(s *script) client.Options {
	return client.Options{
		URLs:       []string{s.url()},
		Token:      func(context.Context) (string, error) { return "dev:ann", nil },
		MinBackoff: time.Millisecond, MaxBackoff: 10 * time.Millisecond,
	}
}

// dial logs a client in and gives the socket that it came by.
func (s *script) dial(o client.Options) (*client.Client, *peer) {
	s.t.Helper()
	type dialled struct {
		c   *client.Client
		err error
	}
	got := make(chan dialled, 1)
	go func() {
		c, err := client.Dial(s.t.Context(), o)
		got <- dialled{c, err}
	}()
	p := s.accept()
	p.answer(p.want("hello"), hello())
	d := <-got
	if d.err != nil {
		s.t.Fatalf("dial: %v", d.err)
	}
	s.t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = d.c.Close(ctx)
	})
	return d.c, p
}

// join makes the client a member at epoch e1 and reads the Joined event.
func (s *script) join(c *client.Client, p *peer, room string, seq uint64) {
	s.t.Helper()
	res := async(func() (wire.Joined, error) { return c.Join(s.t.Context(), room) })
	p.answer(p.want("room.join"), wire.Joined{Room: room, Epoch: "e1", Seq: seq})
	if _, err := res(s.t); err != nil {
		s.t.Fatalf("join: %v", err)
	}
	if got, want := next(s.t, c), (client.Joined{Room: room, Epoch: "e1", Seq: seq}); got != want {
		s.t.Fatalf("event after join: %+v, want %+v", got, want)
	}
}

// async runs f; the result waits for its outcome.
func async[T any](f func() (T, error)) func(testing.TB) (T, error) {
	type outcome struct {
		v   T
		err error
	}
	ch := make(chan outcome, 1)
	go func() {
		v, err := f()
		ch <- outcome{v, err}
	}()
	return func(t testing.TB) (T, error) {
		t.Helper()
		select {
		case o := <-ch:
			return o.v, o.err
		case <-time.After(patience):
			t.Fatal("the call did not return")
			panic("unreachable")
		}
	}
}

// next is the next event.
func next(t testing.TB, c *client.Client) client.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	e, err := c.Next(ctx)
	if err != nil {
		t.Fatalf("next event: %v", err)
	}
	return e
}

// nextSeq reads the next event, which must be that seq of the room.
func nextSeq(t testing.TB, c *client.Client, seq uint64) {
	t.Helper()
	e := next(t, c)
	if ev, ok := e.(*wire.RoomEvent); !ok || ev.Seq != seq {
		t.Fatalf("event: %+v, want seq %d", e, seq)
	}
}

// param reads one member of a request's params.
func param[T any](t testing.TB, f frame) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(f.Params, &v); err != nil {
		t.Fatalf("params of %s: %v: %s", f.Method, err, f.Params)
	}
	return v
}

// wantSend is the next send, which must have that number and text.
func (p *peer) wantSend(cseq uint64, text string) frame {
	p.t.Helper()
	f := p.want("room.send")
	s := param[wire.Send](p.t, f)
	var got uint64
	if s.CSeq != nil {
		got = *s.CSeq
	}
	if got != cseq || string(s.Data) != `"`+text+`"` {
		p.t.Fatalf("send is %s, want cseq %d and data %q", f.Params, cseq, text)
	}
	return f
}

// wantResumed expects the stream to say that the session went on.
func wantResumed(t *testing.T, c *client.Client) {
	t.Helper()
	if e, ok := next(t, c).(client.Resumed); !ok || e.Node != c.Session().Node {
		t.Errorf("event is %+v, want resumed at %s", e, c.Session().Node)
	}
}
