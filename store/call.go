package store

import (
	"context"
	"time"
)

// BeatsMost is how many beats one write takes at most.
const BeatsMost = 256

// Beat is a client's word that it is in a room's call, or has left it.
type Beat struct {
	Client uint32
	Gen    uint64
	In     bool
	Age    time.Duration // since it came
}

// Call is how a room's call stands.
type Call struct {
	Head
	InCall bool
	// Next is in what time to look who is late, at the latest: nobody is before, and
	// beats have put off who was to be the first, maybe. Negative: nobody is in.
	Next time.Duration
	// New says that the flag has changed, and an entry tells so.
	New bool
}

// Beats takes beats, BeatsMost at most, each of which keeps its client in the
// call for timeout; without any it only looks who is late. It returns once the
// write is queued; done is called exactly once, from another goroutine, with an
// error beside each beat or, when none of them counts, with one for all. May be
// repeated.
//
// Errors of a beat: ErrMoved, ErrNotMember, ErrWiped. Of all: ErrWiped, ErrUnavailable.
func (s *Store) Beats(ctx context.Context, room string, known Known, timeout time.Duration, beats []Beat, done func(Call, []error, error)) {
	args := make([]any, 1, 1+4*len(beats))
	args[0] = timeout.Milliseconds()
	for _, b := range beats {
		in := 0
		if b.In {
			in = 1
		}
		args = append(args, b.Client, b.Gen, in, b.Age.Milliseconds())
	}
	c := s.roomCall(beatScript, room, known, args...)
	s.lane(room).submit(ctx, &write{call: c, done: func(a answer, err error) {
		if err == nil {
			err = verdict(a)
		}
		if err != nil {
			done(Call{}, nil, err)
			return
		}
		errs := make([]error, len(beats))
		for i := range beats {
			errs[i] = roomVerdict(answer{a.text(6 + i), a.text(1)}, known)
		}
		next := time.Duration(-1)
		if wait := a.text(4); wait != "-1" {
			next = time.Duration(a.uint(4)) * time.Millisecond
		}
		done(Call{
			Head: Head{Epoch: a.text(1), Seq: a.uint(2)}, InCall: a.text(3) == "1",
			Next: next, New: a.uint(5) > 0,
		}, errs, nil)
	}})
}
