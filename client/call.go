package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"godwit/wire"
)

// callBeat is how often to beat where the node does not say.
const callBeat = 4 * time.Second

// Call is the session's place in the call of a room, from Client.Call until End.
type Call struct {
	c    *Client
	room string
	done chan struct{} // closed once err is set

	// guarded by Client.mu
	due   time.Time // of the next beat
	on    *conn     // where a beat is not answered yet
	tries int       // that were refused, since the last answer
	err   error
}

// Call says that the user is in the call of a room that the session is in, and
// goes on saying so every few seconds, over any socket, until End. It returns
// when the room knows. That the room is in a call, or no longer, is told by its
// events of kind call, by Joined, Gap and wire.Reset, to all who are in the
// room; who is in is told by Info. Media are the application's affair.
//
// The error wraps ErrInCall when the session is in that call already. When ctx
// ends first the session may be in the call for as long as a beat holds.
func (c *Client) Call(ctx context.Context, name string) (*Call, error) {
	k := &Call{c: c, room: name, done: make(chan struct{})}
	c.mu.Lock()
	r := c.rooms[name]
	err := c.refusedLocked(ctx)
	switch {
	case err != nil:
	case r == nil:
		err = notMember(name)
	case r.call != nil:
		err = ErrInCall
	default:
		r.call = k
		k.due = time.Now().Add(c.beatLocked())
	}
	c.mu.Unlock()
	if err == nil {
		if err = c.do(ctx, beat(name, 1)); err != nil {
			k.leave()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("call in %q: %w", name, err)
	}
	c.wakeRun()
	return k, nil
}

// beat is the request that tells of a place in a call.
func beat(room string, status uint8) *request {
	return ask("call.beat", wire.Beat{Room: room, Status: &status}, new(wire.Empty))
}

// End leaves the call. It is repeated until it is answered; when ctx ends first,
// the place ends by itself, as no beat follows.
func (k *Call) End(ctx context.Context) error {
	if !k.leave() {
		return nil
	}
	if err := k.c.do(ctx, beat(k.room, 0)); err != nil && !Is(err, wire.NotMember) {
		return fmt.Errorf("end call in %q: %w", k.room, err)
	}
	return nil
}

// Done is closed when the place in the call is over: by End, or because the
// session is no longer in the room, or the client has ended.
func (k *Call) Done() <-chan struct{} { return k.done }

// Err is why the place is over other than by End, once Done is closed.
func (k *Call) Err() error {
	k.c.mu.Lock()
	defer k.c.mu.Unlock()
	return k.err
}

// leave stops the beats; it says whether there were any to stop.
func (k *Call) leave() bool {
	k.c.mu.Lock()
	defer k.c.mu.Unlock()
	r := k.c.rooms[k.room]
	if r == nil || r.call != k {
		return false
	}
	r.hangUpLocked(nil)
	return true
}

// hangUpLocked ends the place in the room's call, if there is one.
func (r *room) hangUpLocked(why error) {
	if k := r.call; k != nil {
		r.call = nil
		k.err = why
		close(k.done)
	}
}

// beatLocked is the time from one beat to the next.
func (c *Client) beatLocked() time.Duration {
	if ms := c.session.Timers.CallBeatMS; ms > 0 {
		return time.Duration(ms) * time.Millisecond
	}
	return callBeat
}

// beatNowLocked has a beat go out next, on a socket that knows of none.
func (r *room) beatNowLocked() {
	if r.call != nil {
		r.call.due, r.call.on = time.Time{}, nil
	}
}

// callLocked writes a beat if one is due, and says when the next one is.
func (c *Client) callLocked(r *room, now time.Time) (due time.Time) {
	k, on := r.call, c.conn
	if k == nil || on == nil || c.at.Away() || !r.member {
		return time.Time{}
	}
	if now.Before(k.due) {
		return k.due
	}
	frame, err := beat(k.room, 1).frame()
	if err != nil {
		r.hangUpLocked(err)
		return time.Time{}
	}
	k.due = now.Add(c.beatLocked())
	if k.on == on { // an answer may wait behind events that the application has yet to read
		on.tell(frame)
	} else if on.call(frame, func(_ jsontext.Value, err error) { c.beaten(r, k, on, err) }) {
		k.on = on
	}
	return k.due
}

// beaten takes the answer to a beat.
func (c *Client) beaten(r *room, k *Call, on *conn, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if Is(err, wire.Moved) {
		c.fencedLocked(on)
	}
	if r.call != k || k.on != on {
		return
	}
	k.on = nil
	var w *wire.Error
	switch {
	case !errors.As(err, &w):
		k.tries = 0
	case w.Reason() == wire.NotMember && on == c.conn:
		r.hangUpLocked(w) // an event, or the answer to a resume, tells why
	case repeatable(w):
		k.tries++
		if at := time.Now().Add(c.opts.backoff(k.tries, retryAfter(w))); at.Before(k.due) {
			k.due = at
		}
	}
	c.wakeRun() // the next one may be due
}
