package main

import "time"

// silence measures, for one client, the longest time without an event around
// each of its moves: of the gaps between two events that touch the time from
// the loss of its socket (or the start of a hand-over) until it was connected
// again, the longest. The gap begins before and ends after the move, so it holds
// the room's own quiet, too. Time is an argument.
type silence struct {
	last          time.Time // the last event
	recent        [8]gap    // the last ones, for a move that is told when it is over
	next          int       // of recent
	moving, moved time.Time // of the move that is not done with; zero: none, not yet
	longest       time.Duration
}

// gap is a time without an event, and its end.
type gap struct {
	end  time.Time
	long time.Duration
}

// leaves begins a move, or goes on with one that has failed. It may have begun
// a while ago.
func (s *silence) leaves(at time.Time) {
	s.moved = time.Time{}
	if !s.moving.IsZero() {
		return
	}
	s.moving, s.longest = at, 0
	for _, g := range s.recent {
		if !g.end.Before(at) {
			s.longest = max(s.longest, g.long)
		}
	}
}

// arrives ends a move: the next event ends the quiet around it.
func (s *silence) arrives(at time.Time) {
	if !s.moving.IsZero() {
		s.moved = at
	}
}

// hears takes an event: how long it was quiet before it, and, when it is the
// first one after a move, how long the longest quiet around that was.
func (s *silence) hears(now time.Time) (quiet, around time.Duration, done bool) {
	if s.last.IsZero() {
		s.last = now
		s.moving, s.moved = time.Time{}, time.Time{} // nothing to measure from
		return 0, 0, false
	}
	quiet, s.last = now.Sub(s.last), now
	s.recent[s.next] = gap{now, quiet}
	s.next = (s.next + 1) % len(s.recent)
	if s.moving.IsZero() {
		return quiet, 0, false
	}
	s.longest = max(s.longest, quiet)
	if s.moved.IsZero() || now.Before(s.moved) {
		return quiet, 0, false
	}
	around = s.longest
	s.moving, s.moved = time.Time{}, time.Time{}
	return quiet, around, true
}
