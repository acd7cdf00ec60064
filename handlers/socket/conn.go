package socket

import (
	"bufio"
	"context"
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lxzan/gws"

	"godwit/server/session"
	"godwit/server/wait"
	"godwit/wire"
)

const (
	// lingerFor is how long a closed socket's peer may take to read what was
	// sent to it and to hang up, before the connection is cut.
	lingerFor = 2 * time.Second
	// pingsUnanswered is how many pings a silent socket may leave unanswered.
	pingsUnanswered = 2
)

// Dialect is what one socket speaks: it serves the client's frames, and puts
// what the session tells into frames. First and Frame are called by the socket's
// reader; the others by anybody, and they do not wait.
type Dialect interface {
	// First serves the first frame: it logs in and says so (Conn.Serve), or the
	// socket is closed.
	First(b []byte)
	// Frame serves a frame of a socket that has logged in.
	Frame(b []byte)
	// Event is a room's event as a frame, or nil if the dialect has nothing to
	// say of it. Nobody changes the frame.
	Event(ev *wire.RoomEvent) []byte
	// Presence is how present a user is as a frame, or nil.
	Presence(p *wire.Presence) []byte
	// Notice is any other notification as a frame, or nil.
	Notice(method string, params any) []byte
}

// Conn is one websocket connection. It is the session.Socket of its session.
type Conn struct {
	h       *Handler
	net     net.Conn
	ws      *gws.Conn
	op      byte // of its frames: text or binary
	dialect Dialect
	input   input
	read    *bufio.Reader // of the input; gws reads it
	resting bool          // the reader goes on elsewhere; its own
	box     *outbox

	opened  time.Time
	session atomic.Pointer[session.Session] // set by the reader, once
	logging atomic.Bool                     // a first frame is being served
	ended   atomic.Bool                     // the session ends with the socket
	heard   atomic.Int64                    // ns from opened until the last whole frame; 0: none

	mu   sync.Mutex
	life wait.Scope     // guarded by mu: until it is read no more
	work sync.WaitGroup // of the dialect; it begins with mu held

	place place

	// owned by the wheel
	since time.Time // when the socket was last heard
	pings int       // sent since then
}

func newConn(h *Handler, raw net.Conn, op byte) *Conn {
	return &Conn{h: h, net: raw, op: op, box: newOutbox(raw, h.cfg.Outbox, h.post, &h.Stats)}
}

// Context is that of what the reader does. It does not end: that the peer is gone is
// for the reader to find, when it reads again.
func (c *Conn) Context() context.Context { return context.Background() }

// Serve says that the socket has logged in: its frames are the session's from
// here on. Called once, by the reader.
func (c *Conn) Serve(s *session.Session) {
	c.session.Store(s)
	c.Sooner()
}

// Sooner has the connection asked at once what is due.
func (c *Conn) Sooner() { c.h.wheel.sooner(c, time.Now()) }

// Session is what Serve was given; nil before.
func (c *Conn) Session() *session.Session { return c.session.Load() }

// Say queues an answer.
func (c *Conn) Say(b []byte) { c.box.put(item{op: c.op, kind: answer, payload: b}) }

// Bad counts a frame that is none.
func (c *Conn) Bad() { c.h.Stats.BadFrames.Add(1) }

// Pace waits while too many answers wait for the peer. Only the reader may.
func (c *Conn) Pace() {
	_ = c.box.wait(c.Context(), answer, answersAhead) // one that is closed the reader finds out
}

// Over says that the socket is closed, or about to be: nothing more is sent.
func (c *Conn) Over() bool { return c.box.over() }

// End closes the socket, and its session is over with it.
func (c *Conn) End(code wire.CloseCode, reason string) {
	c.ended.Store(true)
	c.Close(code, reason)
}

// run reads until the socket ends, or rests. It waits in as few bytes of stack as it can:
// before the first frame in the 2 KB that a goroutine begins with (more where a node's
// goroutines mostly hold more), between frames in less than 2 of the 8 KB that reading a
// message takes, so that the garbage collector halves them (BenchmarkSocket_Idle).
func (c *Conn) run() {
	c.resting = false
	defer c.leave()
	c.input.wait()
	c.ws.ReadLoop()
}

// rest has a socket that was pinged, or pings, wait for its next frame on a goroutine
// that has read none, whose stack never grew. It does not return then: of gws's
// loop, which is between two frames, nothing is left to do, and another one goes on.
// What is read already must be none of the next frame's: it would not be seen until
// more comes.
func (c *Conn) rest() {
	if c.box.raw != nil && c.read.Buffered() == 0 && c.input.buf == nil {
		c.resting = true
		runtime.Goexit()
	}
}

// leave gives everything back that the socket had, which is read no more, unless it
// rests. gws slices by the length that a frame says, outside its own recovery: one past
// 2^63 panics, and must not end the node.
func (c *Conn) leave() {
	if c.resting {
		go c.run()
		return
	}
	if v := recover(); v != nil {
		c.h.Stats.Panics.Add(1)
		c.h.log.Error("panic in a reader", "panic", v, "stack", string(debug.Stack()))
		c.close(wire.CloseTooBig, "the frame cannot be read", false)
	}
	defer c.h.readers.Done()
	c.mu.Lock()
	c.life.End()
	c.mu.Unlock()
	c.work.Wait()
	if s := c.session.Load(); s != nil {
		if c.ended.Load() {
			s.Finish()
		}
		s.Dropped()
	}
	c.linger()
	c.h.gone(c)
}

// linger lets the peer take what is queued and hang up first, so that it gets
// the close code and not a reset.
func (c *Conn) linger() {
	c.box.seal(uint16(wire.CloseGoingAway), "", false) // nothing follows
	c.box.writer.Wait()
	if half, ok := c.net.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		if c.net.SetReadDeadline(time.Now().Add(lingerFor)) == nil {
			_, _ = io.Copy(io.Discard, c.net) // until the peer hangs up, or the deadline
		}
	}
	c.net.Close()
}

// Go runs work of the dialect's beside the reader, that ends when ctx does: with the
// connection. One that has ended runs nothing.
func (c *Conn) Go(work func(ctx context.Context)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.life.Ended() {
		ctx := c.life.Context(context.Background())
		c.work.Go(func() { work(ctx) })
	}
}

// left says that the connection is read no more.
func (c *Conn) left() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.life.Ended()
}

// Deliver queues one live event.
func (c *Conn) Deliver(ev *wire.RoomEvent) { c.live(c.dialect.Event(ev)) }

// Presence queues how present a user is. What the client asked for, as by its
// login, is bounded by what there is to see.
func (c *Conn) Presence(p *wire.Presence, live bool) {
	b := c.dialect.Presence(p)
	if live {
		c.live(b)
	} else if b != nil {
		c.Say(b)
	}
}

// live queues what nobody asked for, or evicts a socket that does not keep up.
func (c *Conn) live(b []byte) {
	if b == nil || c.box.put(item{op: c.op, kind: live, payload: b}) {
		return
	}
	if c.close(wire.CloseTooSlow, "too slow: the outbox is full; resume", true) {
		c.h.Stats.EvictedSlow.Add(1)
	}
}

// Notify queues a notification.
func (c *Conn) Notify(method string, params any) {
	if b := c.dialect.Notice(method, params); b != nil {
		c.Say(b)
	}
}

// Replay queues one event of the log, once the earlier ones are on their way.
func (c *Conn) Replay(ctx context.Context, ev *wire.RoomEvent) error {
	if err := c.box.wait(ctx, replay, replayAhead); err != nil {
		return err
	}
	if b := c.dialect.Event(ev); b != nil {
		c.box.put(item{op: c.op, kind: replay, payload: b})
	}
	return nil
}

// Close sends what is queued, then the close frame, then ends the connection.
func (c *Conn) Close(code wire.CloseCode, reason string) { c.close(code, reason, false) }

// close seals the outbox and wakes the reader; it says whether it was the first.
func (c *Conn) close(code wire.CloseCode, reason string, drop bool) bool {
	if !c.box.seal(uint16(code), reason, drop) {
		return false
	}
	// The reader gives the session back at once; what is queued is still sent.
	// A connection that is gone has woken it already.
	_ = c.net.SetReadDeadline(time.Unix(1, 0))
	return true
}

// due does what time does to the connection, and says when to ask again, and how
// much later that may be.
func (c *Conn) due(now time.Time) (next time.Time, slack time.Duration) {
	if c.left() {
		return time.Time{}, 0
	}
	logging := c.logging.Load() // before the session: a login that has ended since is seen there
	s := c.session.Load()
	if s == nil {
		if end := c.opened.Add(c.h.cfg.HelloTimeout); now.Before(end) {
			return end, 0
		}
		if logging {
			return now.Add(wheelStep), 0
		}
		if c.close(wire.CloseNoHello, "no hello in time", false) {
			c.h.Stats.NoHello.Add(1)
		}
		return time.Time{}, 0
	}
	next = c.silence(now)
	if next.IsZero() {
		return next, 0
	}
	slack = c.pingSlack()
	if expires := s.Due(now); !expires.IsZero() {
		if expires.Before(next) {
			return expires, 0
		}
		slack = min(slack, expires.Sub(next))
	}
	return next, slack
}

// hears notes that a whole frame has come. Setting the clock changes nothing in it.
func (c *Conn) hears() { c.heard.Store(int64(time.Since(c.opened))) }

// pingSlack is by how much a ping may be late, to go with those of others.
func (c *Conn) pingSlack() time.Duration { return c.h.cfg.Ping / 16 }

// silence pings a socket that is silent, and closes one that stays so.
func (c *Conn) silence(now time.Time) time.Time {
	ping := c.h.cfg.Ping
	heard := c.opened.Add(time.Duration(c.heard.Load()))
	if !heard.Equal(c.since) {
		c.since, c.pings = heard, 0
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
	// That this one was late does not make the next one so.
	next, soonest := heard.Add(time.Duration(c.pings+1)*ping), now.Add(ping-c.pingSlack())
	if next.Before(soonest) {
		return soonest
	}
	return next
}

// reader is gws's way to a connection's callbacks: all of them come from the
// goroutine that reads.
type reader struct{ gws.BuiltinEventHandler }

func of(ws *gws.Conn) *Conn { return ws.NetConn().(gathering).c }

func (reader) OnOpen(*gws.Conn) {}

func (reader) OnClose(*gws.Conn, error) {}

func (reader) OnPing(ws *gws.Conn, payload []byte) {
	c := of(ws)
	c.hears()
	c.box.put(item{op: opPong, kind: control, payload: append([]byte(nil), payload...)})
	c.rest()
}

func (reader) OnPong(ws *gws.Conn, _ []byte) {
	c := of(ws)
	c.hears()
	c.rest()
}

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
	c.hears()
	c.h.Stats.FramesIn.Add(1)
	if byte(m.Opcode) != c.op {
		c.Close(wire.CloseBinary, "this endpoint speaks "+spoken[c.op]+" frames")
		return
	}
	if c.session.Load() == nil {
		c.first(m.Bytes())
	} else {
		c.dialect.Frame(m.Bytes())
	}
	c.Pace()
}

var spoken = map[byte]string{opText: "text", opBinary: "binary"}

// first serves the first frame. Meanwhile the hello timeout does not count.
func (c *Conn) first(b []byte) {
	c.logging.Store(true)
	defer c.logging.Store(false)
	c.dialect.First(b)
}
