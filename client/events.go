package client

import (
	"context"
	"errors"
	"iter"

	"godwit/wire"
)

// Event is one thing of the stream: *wire.RoomEvent, *wire.Reset, Joined, Gap,
// Lost, Resumed or PresenceChanged. Events of one room come in order; a room's stream begins with
// Joined and goes on with what follows its Seq.
type Event any

// Joined says that the session has become a member of a room, by Join or when
// the client joined its rooms again after Lost. Events after Seq follow.
type Joined struct {
	Room  string
	Epoch string
	Seq   uint64
	// Recovered says that a position was given and nothing after it is missing.
	Recovered bool
	// InCall is how the room stands now; events that follow may be of before.
	InCall bool
}

// Gap says that events of a room are missing: the log no longer held what
// followed the client's position. Events after Seq follow.
type Gap struct {
	Room   string
	Epoch  string
	Seq    uint64
	InCall bool // of the room, after Seq
}

// Lost says that the session is no longer in these rooms, other than by a
// leave event or a call of Leave. When Err is ErrSessionGone the client has
// said hello again and is joining them: a Joined follows for each, or another
// Lost with the server's error.
type Lost struct {
	Rooms []string
	Err   error
}

// Resumed says that the session goes on over another socket, in the place in
// the stream where it does: what follows of a room up to the Seq of its
// SessionRoom was missed meanwhile.
type Resumed struct {
	Node  string
	Rooms []wire.SessionRoom
}

// queued is an event with what reading it does to the application's position.
type queued struct {
	event Event
	room  *room // nil: no position
	pos   wire.Position
}

// stream is the bounded queue between the readers of sockets and the
// application. All of it is guarded by Client.mu.
type stream struct {
	items []queued
	head  int
	limit int
	calls int // calls that wait for an answer
	open  bool
}

func (s *stream) len() int { return len(s.items) - s.head }

// full says whether a reader has to wait before it handles another frame.
func (s *stream) full() bool {
	limit := s.limit
	if s.calls > 0 {
		limit *= callBuffer
	}
	return s.open && s.len() >= limit
}

func (s *stream) push(q queued) { s.items = append(s.items, q) }

func (s *stream) pop() queued {
	q := s.items[s.head]
	s.items[s.head] = queued{}
	s.head++
	switch {
	case s.head == len(s.items):
		s.items, s.head = s.items[:0], 0
	case s.head > 64 && s.head*2 > len(s.items):
		n := copy(s.items, s.items[s.head:])
		clear(s.items[n:])
		s.items, s.head = s.items[:n], 0
	}
	return q
}

// emitLocked queues an event. A reader waits for room before it takes the next
// notice, in hold; answers are never held up by themselves.
func (c *Client) emitLocked(e Event, r *room, pos wire.Position) {
	c.stream.push(queued{e, r, pos})
	c.signalLocked()
}

func (c *Client) signalLocked() {
	select {
	case c.ready <- struct{}{}:
	default:
	}
}

// hold keeps a socket's reader from the next notice while the queue is full.
// False says that nothing is taken from the socket any more.
func (c *Client) hold(k *conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.stream.full() && !k.dropped {
		c.space.Wait()
	}
	return !k.dropped
}

// drop ends a socket of which nothing more is taken, also while its reader is
// held. It does not wait.
func (c *Client) drop(k *conn) {
	c.mu.Lock()
	k.dropped = true
	c.space.Broadcast()
	c.mu.Unlock()
	k.abort()
}

// callingLocked counts a call that waits for its answer, which lifts the
// queue's bound; called ends it.
func (c *Client) callingLocked() {
	c.stream.calls++
	c.space.Broadcast()
}

func (c *Client) called() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stream.calls--
}

// Next is the next event of the stream. It waits until there is one, ctx ends
// (the cause of ctx) or the client has ended and everything was read: ErrClosed
// after Close, else what ended it, such as a *CloseError.
func (c *Client) Next(ctx context.Context) (Event, error) {
	for {
		c.mu.Lock()
		if c.stream.len() > 0 {
			q := c.stream.pop()
			if q.room != nil {
				q.room.read = q.pos
			}
			if c.stream.len() > 0 {
				c.signalLocked() // for another reader
			}
			c.space.Broadcast()
			c.mu.Unlock()
			return q.event, nil
		}
		err := c.err
		c.mu.Unlock()
		if err != nil {
			return nil, err
		}
		select {
		case <-c.ready:
		case <-c.ended:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Events ranges over the stream. The last pair has the error that ended it,
// and no event; after Close there is no such pair.
func (c *Client) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			e, err := c.Next(ctx)
			if errors.Is(err, ErrClosed) || !yield(e, err) || err != nil {
				return
			}
		}
	}
}
