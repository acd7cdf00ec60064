package session

import (
	"context"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"godwit/rules/redirect"
	"godwit/wire"
)

// beatEvery is how often, at most, a client's word is written at once, and not
// with others that come meanwhile: who hangs up and calls again all the time
// costs no more than who does not. It is also how much a beat may be younger
// than the last that is written, and still be answered without being so.
const beatEvery = 500 * time.Millisecond

// beat takes the client's word that it is in a room's call, or has left it. It
// is answered when it is written. One that changes nothing may be written a
// while later, with others of its room, and holds nobody up until then.
func (s *Session) beat(ctx context.Context, params jsontext.Value, done func(Reply)) {
	const method = "call.beat"
	p, bad := parse(params, func(p *wire.Beat) string { return p.Room })
	if bad == nil && (p.Status == nil || *p.Status > 1) {
		bad = wire.ErrParams("status is 1 (in the call) or 0 (left it)")
	}
	if bad != nil {
		done(s.answered(method, Reply{Err: bad}))
		return
	}
	at := s.place(p.Room)
	switch {
	case at == nil:
		done(s.answered(method, Reply{Err: notMember()}))
		return
	case s.door.Fenced():
		done(s.answered(method, Reply{Err: wire.ErrUnavailable()}))
		// Kept all the same until the store is back, where its gen decides: a call
		// outlives an outage in which its clients go on saying so.
		s.door.Calls.Beat(at.room, s.member(), *p.Status == 1, false, func(error) {})
		return
	}
	in, now := *p.Status == 1, time.Now()
	s.mu.Lock()
	// While an offer stands the session may live elsewhere at any moment, and
	// the client is to be told so.
	again := in && s.calling(at, now) && s.move.State() == redirect.Active
	known := again && now.Sub(at.written) < beatEvery
	// What was written last may run out, and any node find that, before one that
	// waits is written. What another attachment wrote is not known here.
	pressing := now.Sub(at.written) > s.door.Config.CallTimeout-2*beatEvery
	soon := (!again || pressing) && now.Sub(at.news) >= beatEvery
	if soon {
		at.news = now
	}
	if again {
		at.beat = now
	}
	s.mu.Unlock()
	if known {
		done(s.answered(method, Reply{Result: wire.Empty{}}))
	}
	var over chan struct{}
	if !again {
		over = make(chan struct{})
	}
	s.door.Calls.Beat(at.room, s.member(), in, soon, func(err error) {
		s.mu.Lock()
		switch {
		case err != nil:
		case in:
			at.beat, at.written = later(at.beat, now), now
		default:
			at.beat = time.Time{}
		}
		if !again {
			at.news = time.Now()
		}
		s.mu.Unlock()
		reply := Reply{Result: wire.Empty{}}
		if err != nil {
			reply = s.fail(method, err)
		}
		if known {
			reply.Follow()
		} else {
			done(s.answered(method, reply))
		}
		if over != nil {
			close(over)
		}
	})
	if over != nil { // what comes next is to find the change
		select {
		case <-over:
		case <-ctx.Done():
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// calling says whether the client is in the call of a place's room, as far as
// this attachment knows. Called with mu held.
func (s *Session) calling(at *place, now time.Time) bool {
	return !at.beat.IsZero() && now.Sub(at.beat) < s.door.Config.CallTimeout
}

// Calling says whether the client is in a call.
func (s *Session) Calling() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, at := range s.places {
		if s.calling(at, now) {
			return true
		}
	}
	return false
}
