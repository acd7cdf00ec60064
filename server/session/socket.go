package session

import (
	"context"
	"time"

	"godwit/wire"
)

// Socket is what a session asks of the connection that carries it. Every way
// in (JSON-RPC, the binary dialects) implements it. No method but Replay waits
// for the peer, and every method may be called from any goroutine, also after
// the socket is closed, when it does nothing.
type Socket interface {
	// Deliver queues one live room event. It counts against the outbox: a
	// socket that has more waiting than its limit is closed 4200.
	Deliver(ev *wire.RoomEvent)
	// Presence queues how present a user is. With live, a change that nobody here
	// asked for, it counts against the outbox as Deliver does.
	Presence(p *wire.Presence, live bool)
	// Notify queues any other notification; it does not count against the outbox.
	Notify(method string, params any)
	// Replay queues one event read from the log; it does not count against the
	// outbox. It waits while more than a page of replay is still unsent, and
	// returns the cause when ctx ends or the socket closes.
	Replay(ctx context.Context, ev *wire.RoomEvent) error
	// Sooner says that the session's Due may be earlier than it was.
	Sooner()
	// Close sends what is queued, then the close frame, then ends the
	// connection. The first code given wins.
	Close(code wire.CloseCode, reason string)
}

// Reply is the outcome of one request. Exactly one of Result and Err is set.
type Reply struct {
	Result any
	Err    *wire.Error
	// After, when set, is run once the answer is queued on the socket (for a
	// batch: the array that holds it), so that nothing it causes overtakes it.
	// It does not wait for the peer. That of a login is when the client knows of its
	// session: see Session.Greeted.
	After func()
}

// Follow does what follows the answer, which is queued, or is not given.
func (r Reply) Follow() {
	if r.After != nil {
		r.After()
	}
}

// greets is what follows the answer to the login that made the attachment.
func (s *Session) greets(after func()) func() {
	return func() {
		s.mu.Lock()
		s.greeted.Store(true)
		if s.meeting != nil {
			close(s.meeting)
			s.meeting = nil
		}
		s.mu.Unlock()
		if after != nil {
			after()
		}
	}
}

// Greeted says whether the client has the answer to its login. Until then it is offered
// no other node, and not told bye: it would not know what to make of either.
func (s *Session) Greeted() bool { return s.greeted.Load() }

// Meet waits until the session is greeted, or has no socket, or ctx is done: a client
// may have its answer a moment before.
func (s *Session) Meet(ctx context.Context) {
	s.mu.Lock()
	if s.Greeted() {
		s.mu.Unlock()
		return
	}
	if s.meeting == nil {
		s.meeting = make(chan struct{})
	}
	greeted := s.meeting
	s.mu.Unlock()
	select {
	case <-greeted:
	case <-s.attached().Done():
	case <-ctx.Done():
	}
}

// Refusal is why a socket may not come in now.
type Refusal struct {
	Reason     string
	RetryAfter time.Duration
}
