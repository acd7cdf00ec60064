package session

import (
	"context"
	"errors"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"godwit/rules/redirect"
	"godwit/store"
	"godwit/wire"
)

// newsEvery is how often, at most, a client's word is written at once, and not
// with others that come meanwhile: who hangs up and calls again all the time
// costs no more than who does not.
const newsEvery = 500 * time.Millisecond

// beat takes the client's word that it is in a room's call, or has left it. One
// that changes nothing is answered at once, and written with others; a change is
// answered when it is there.
func (s *Session) beat(ctx context.Context, params jsontext.Value) Reply {
	p, bad := parse(params, func(p *wire.Beat) string { return p.Room })
	if bad != nil {
		return Reply{Err: bad}
	}
	if p.Status == nil || *p.Status > 1 {
		return Reply{Err: wire.ErrParams("status is 1 (in the call) or 0 (left it)")}
	}
	at := s.place(p.Room)
	if at == nil {
		return Reply{Err: notMember()}
	}
	if s.door.Fenced() {
		return Reply{Err: wire.ErrUnavailable()}
	}
	in, now := *p.Status == 1, time.Now()
	s.mu.Lock()
	// While an offer stands the session may live elsewhere at any moment, and
	// the client is to be told so.
	again := in && s.calling(at, now) && s.move.State() == redirect.Active
	soon := !again && now.Sub(at.news) >= newsEvery
	if soon {
		at.news = now
	}
	if again {
		at.beat = now
	}
	s.mu.Unlock()
	answer := make(chan error, 1)
	s.door.Calls.Beat(at.room, s.member(), in, soon, func(err error) {
		s.mu.Lock()
		switch {
		case err != nil:
		case !in:
			at.beat = time.Time{}
		case at.beat.Before(now):
			at.beat = now
		}
		s.mu.Unlock()
		if again && err != nil && !errors.Is(err, store.ErrNotMember) {
			s.fail("call.beat", err) // for what follows from it
		}
		answer <- err
	})
	if again {
		return Reply{Result: wire.Empty{}}
	}
	var err error
	select {
	case err = <-answer:
	case <-ctx.Done():
		err = store.ErrUnavailable
	}
	if err != nil {
		return s.fail("call.beat", err)
	}
	return Reply{Result: wire.Empty{}}
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
