// Package redirect decides one session's move to another node, as the node that
// it leaves sees it, and how often a session may move.
//
// It knows no store and no clock: what the store said, and when, are arguments.
//
//	         Offer             Claimed           Done, or 5 s
//	Active ---------> Offered ---------> Fenced ---------> Closed
//	  ^                  |
//	  +------------------+  Ended: refused, cancelled, expired
package redirect

import "time"

// State is where a session stands at its source.
type State int

// The states of a session at its source.
const (
	Active  State = iota // no offer
	Offered              // it serves as usual; the offer may be claimed
	Fenced               // it lives at the target; the old socket only listens
	Closed               // the old socket has no use any more
)

// FencedFor is how long the old socket listens at most.
const FencedFor = 5 * time.Second

// Source is one session at its source. The zero value is Active. Its owner
// guards it.
type Source struct {
	state State
	id    string
}

// State tells where the session stands.
func (s *Source) State() State { return s.state }

// Offer begins an offer. It says false while another one stands, and when the
// session is not this node's any more.
func (s *Source) Offer(id string) bool {
	if s.state != Active {
		return false
	}
	s.state, s.id = Offered, id
	return true
}

// Ended says that the offer was refused, cancelled or is over. It says whether
// that was news: a step of another offer changes nothing.
func (s *Source) Ended(id string) bool {
	if s.state != Offered || s.id != id {
		return false
	}
	s.state, s.id = Active, ""
	return true
}

// Claimed says that the store committed the offer. It says whether that was news.
func (s *Source) Claimed(id string) bool {
	if s.state != Offered || s.id != id {
		return false
	}
	s.state = Fenced
	return true
}

// Done says that the client needs the old socket no more, or that FencedFor is
// over. It says whether that was news.
func (s *Source) Done(id string) bool {
	if s.state != Fenced || s.id != id {
		return false
	}
	s.state = Closed
	return true
}

// How often a session may move, where nobody is in need of it.
const (
	// Often moves within Window are too many.
	Often  = 3
	Window = 60 * time.Second
)

// Move is one move of a session.
type Move struct {
	At   time.Time
	From string // the life of a node that it left
}

// Rested says whether a session has not moved within Window, so that a fleet
// that balances itself may move it.
func Rested(moves []Move, now time.Time) bool {
	for _, m := range moves {
		if now.Sub(m.At) < Window {
			return false
		}
	}
	return true
}

// MayMove says whether a session may be offered a move to a node, by the last
// Often moves or more, in any order. A node that it left within Window is not
// its target, so that two sick nodes do not pass it to and fro.
func MayMove(moves []Move, to string, now time.Time) bool {
	n := 0
	for _, m := range moves {
		if now.Sub(m.At) >= Window {
			continue
		}
		if m.From == to {
			return false
		}
		n++
	}
	return n < Often
}
