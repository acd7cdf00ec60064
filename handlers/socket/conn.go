package socket

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lxzan/gws"

	"godwit/server/session"
	"godwit/wire"
)

const (
	// lingerFor is how long a closed socket's peer may take to read what was
	// sent to it and to hang up, before the connection is cut.
	lingerFor = 2 * time.Second
	// recheck bounds how late a socket learns that its session's expiry moved.
	recheck = 2 * time.Second
	// pingsUnanswered is how many pings a silent socket may leave unanswered.
	pingsUnanswered = 2
)

// conn is one websocket connection. It is the session.Socket of its session.
type conn struct {
	h    *Handler
	net  net.Conn
	ws   *gws.Conn
	box  *outbox
	ctx  context.Context
	stop context.CancelCauseFunc

	opened  time.Time
	session atomic.Pointer[session.Session] // set by the reader, once
	logging atomic.Bool                     // a first request is being served
	heard   atomic.Int64                    // unix ns of the last whole frame; 0: none

	unread bool // owned by the reader: a read failed, none follows
	pings  int  // owned by the wheel: sent since the socket was last heard
}

func newConn(h *Handler, raw net.Conn) *conn {
	ctx, stop := context.WithCancelCause(context.Background())
	return &conn{h: h, net: raw, box: newOutbox(raw, h.cfg.Outbox, &h.Stats), ctx: ctx, stop: stop}
}

// run reads until the socket ends, then gives everything back.
func (c *conn) run() {
	c.read()
	c.stop(errClosed)
	if s := c.session.Load(); s != nil {
		s.Dropped(c.ctx)
	}
	c.linger()
	c.h.gone(c)
}

// read reads until the socket ends. gws slices by the length that a frame says,
// outside its own recovery: one past 2^63 panics, and must not end the node.
func (c *conn) read() {
	defer func() {
		if v := recover(); v != nil {
			c.h.Stats.Panics.Add(1)
			c.h.log.Error("panic in a reader", "panic", v, "stack", string(debug.Stack()))
			c.close(wire.CloseTooBig, "the frame cannot be read", false)
		}
	}()
	c.ws.ReadLoop()
}

// linger lets the peer take what is queued and hang up first, so that it gets
// the close code and not a reset.
func (c *conn) linger() {
	c.box.seal(uint16(wire.CloseGoingAway), "", false) // nothing follows
	c.box.writer.Wait()
	if half, ok := c.net.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		if c.net.SetReadDeadline(time.Now().Add(lingerFor)) == nil {
			_, _ = io.Copy(io.Discard, c.net) // until the peer hangs up, or the deadline
		}
	}
	c.net.Close()
}

// Deliver queues one live event, or evicts a socket that does not keep up.
func (c *conn) Deliver(ev *wire.RoomEvent) { c.live(ev.Frame()) }

// Presence queues how present a user is. What the client asked for, as by its
// login, is bounded by what there is to see.
func (c *conn) Presence(p *wire.Presence, live bool) {
	if live {
		c.live(p.Frame())
		return
	}
	c.box.put(item{op: opText, kind: answer, payload: p.Frame()})
}

func (c *conn) live(frame []byte) {
	if c.box.put(item{op: opText, kind: live, payload: frame}) {
		return
	}
	if c.close(wire.CloseTooSlow, "too slow: the outbox is full; resume", true) {
		c.h.Stats.EvictedSlow.Add(1)
	}
}

// Notify queues a notification.
func (c *conn) Notify(method string, params any) {
	b, err := wire.AppendNotice(nil, method, params)
	if err != nil {
		c.h.log.Error("notification not encoded", "method", method, "error", err)
		return
	}
	c.box.put(item{op: opText, kind: answer, payload: b})
}

// Replay queues one event of the log, once the earlier ones are on their way.
func (c *conn) Replay(ctx context.Context, ev *wire.RoomEvent) error {
	if err := c.box.wait(ctx, replay, replayAhead); err != nil {
		return err
	}
	c.box.put(item{op: opText, kind: replay, payload: ev.Frame()})
	return nil
}

// Close sends what is queued, then the close frame, then ends the connection.
func (c *conn) Close(code wire.CloseCode, reason string) { c.close(code, reason, false) }

// close seals the outbox and wakes the reader; it says whether it was the first.
func (c *conn) close(code wire.CloseCode, reason string, drop bool) bool {
	if !c.box.seal(uint16(code), reason, drop) {
		return false
	}
	// The reader gives the session back at once; what is queued is still sent.
	// A connection that is gone has woken it already.
	_ = c.net.SetReadDeadline(time.Unix(1, 0))
	return true
}

// due does what time does to the connection, and says when to ask again.
func (c *conn) due(now time.Time) time.Time {
	if c.ctx.Err() != nil {
		return time.Time{}
	}
	s := c.session.Load()
	if s == nil {
		if c.logging.Load() {
			return now.Add(wheelStep)
		}
		if end := c.opened.Add(c.h.cfg.HelloTimeout); now.Before(end) {
			// Not the end itself: a ping, or the token's end, may be due before it.
			if next := now.Add(wheelStep); next.Before(end) {
				return next
			}
			return end
		}
		if c.close(wire.CloseNoHello, "no hello in time", false) {
			c.h.Stats.NoHello.Add(1)
		}
		return time.Time{}
	}
	next := c.silence(now)
	if next.IsZero() {
		return next
	}
	if expires := s.Due(now); !expires.IsZero() && expires.Before(next) {
		next = expires
	}
	if last := now.Add(recheck); last.Before(next) {
		next = last
	}
	return next
}

// silence pings a socket that is silent, and closes one that stays so.
func (c *conn) silence(now time.Time) time.Time {
	ping := c.h.cfg.Ping
	heard := time.Unix(0, c.heard.Load())
	if now.Sub(heard) < ping {
		c.pings = 0
		return heard.Add(ping)
	}
	next := heard.Add(time.Duration(c.pings+1) * ping)
	if now.Before(next) {
		return next
	}
	if c.pings == pingsUnanswered {
		if c.close(wire.CloseSilent, "silent: two pings unanswered; resume", false) {
			c.h.Stats.EvictedSilent.Add(1)
		}
		return time.Time{}
	}
	c.pings++
	c.box.put(item{op: opPing, kind: control})
	return now.Add(ping)
}

// reader is gws's way to a connection's callbacks: all of them come from the
// goroutine that reads.
type reader struct{ gws.BuiltinEventHandler }

func of(ws *gws.Conn) *conn { return ws.NetConn().(gathering).c }

func (reader) OnOpen(*gws.Conn) {}

func (reader) OnClose(*gws.Conn, error) {}

func (reader) OnPing(ws *gws.Conn, payload []byte) {
	c := of(ws)
	c.heard.Store(time.Now().UnixNano())
	c.box.put(item{op: opPong, kind: control, payload: append([]byte(nil), payload...)})
}

func (reader) OnPong(ws *gws.Conn, _ []byte) { of(ws).heard.Store(time.Now().UnixNano()) }

func (reader) OnMessage(ws *gws.Conn, m *gws.Message) {
	c := of(ws)
	defer m.Close()
	defer func() {
		if v := recover(); v != nil {
			c.h.Stats.Panics.Add(1)
			c.h.log.Error("panic in a request", "panic", v, "stack", string(debug.Stack()))
			c.close(1011, "internal error", false)
		}
	}()
	if c.box.over() {
		return // gws had read it already when the socket was closed
	}
	c.heard.Store(time.Now().UnixNano())
	c.h.Stats.FramesIn.Add(1)
	if m.Opcode != gws.OpcodeText {
		c.Close(wire.CloseBinary, "this endpoint speaks text frames")
		return
	}
	if c.session.Load() == nil {
		c.first(m.Bytes())
	} else {
		c.frame(m.Bytes())
	}
	if err := c.box.wait(c.ctx, answer, answersAhead); err != nil && !errors.Is(err, errClosed) {
		c.h.log.Debug("reader ends", "error", err)
	}
}

// first serves the first frame, which must be a login.
func (c *conn) first(b []byte) {
	c.logging.Store(true)
	defer c.logging.Store(false)
	f, bad := wire.ParseFrame(b)
	var r wire.Request
	switch {
	case bad != nil:
	case f.Batch:
		bad = wire.ErrRequest("the first frame is a single request for hello, resume or handover")
	default:
		r = f.Requests[0]
		if bad = r.Err; bad == nil && (r.ID == nil || !login(r.Method)) {
			bad = wire.ErrRequest("the first frame is a request for hello, resume or handover")
		}
	}
	if bad != nil {
		c.h.Stats.BadFrames.Add(1)
		c.say(wire.AppendError(nil, r.ID, bad))
		c.Close(wire.CloseProtocol, bad.Message)
		return
	}
	s, reply := c.h.node.Login(c.ctx, c, r.Method, r.Params)
	if reply.Err == nil {
		c.session.Store(s)
	}
	c.answer(r, reply)
}

func login(method string) bool {
	return method == "hello" || method == "resume" || method == "handover"
}

// frame serves one frame of an attached session.
func (c *conn) frame(b []byte) {
	f, bad := wire.ParseFrame(b)
	if bad != nil {
		c.h.Stats.BadFrames.Add(1)
		c.say(wire.AppendError(nil, nil, bad))
		return
	}
	if !f.Batch {
		c.request(f.Requests[0], func(reply session.Reply) { c.answer(f.Requests[0], reply) })
		return
	}
	replies := make([]session.Reply, len(f.Requests))
	var open sync.WaitGroup
	for i, r := range f.Requests {
		open.Add(1)
		c.request(r, func(reply session.Reply) {
			replies[i] = reply
			open.Done()
		})
	}
	open.Wait()
	out := []byte{'['}
	for i, r := range f.Requests {
		if r.ID == nil {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = c.encode(out, r, replies[i])
	}
	if len(out) > 1 {
		c.say(append(out, ']'))
	}
	for _, reply := range replies {
		if reply.After != nil {
			reply.After()
		}
	}
}

// request runs one request; done is called once, maybe later.
func (c *conn) request(r wire.Request, done func(session.Reply)) {
	switch {
	case r.Err != nil:
		c.h.Stats.BadFrames.Add(1)
		done(session.Reply{Err: r.Err})
	case login(r.Method):
		done(session.Reply{Err: wire.ErrRequest("this socket has logged in already")})
	default:
		c.session.Load().Call(c.ctx, r.Method, r.Params, done)
	}
}

// answer queues the answer to a request, unless it is a notification, and then
// does what follows it.
func (c *conn) answer(r wire.Request, reply session.Reply) {
	if r.ID != nil {
		c.say(c.encode(nil, r, reply))
	}
	if reply.After != nil {
		reply.After()
	}
}

func (c *conn) encode(b []byte, r wire.Request, reply session.Reply) []byte {
	if reply.Err != nil {
		return wire.AppendError(b, r.ID, reply.Err)
	}
	out, err := wire.AppendResult(b, r.ID, reply.Result)
	if err != nil {
		c.h.log.Error("answer not encoded", "method", r.Method, "error", err)
		return wire.AppendError(b, r.ID, wire.ErrInternal())
	}
	return out
}

func (c *conn) say(b []byte) { c.box.put(item{op: opText, kind: answer, payload: b}) }
