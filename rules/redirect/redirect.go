// Package redirect decides one session's move to another node, as each of the
// three who take part in it sees it, and how often a session may move.
//
// It knows no store and no clock: what the store said, and when, are arguments.
// The offer's record in the store is the one that decides; Source, Target and
// Client only follow what they hear of it, in any order, late, twice or never.
//
//	Source   the node that the session leaves
//
//	         Offer             Claimed           Done, or 5 s
//	Active ---------> Offered ---------> Fenced ---------> Closed
//	  ^                  |
//	  +------------------+  Ended: refused, cancelled, expired
//
//	Target   the node that it goes to; without Prepare where any node may claim
//
//	       Prepare            Claimed              Done
//	Free ----------> Pending ---------> Committed ------> Live
//	                    |
//	                    +--> Expired, by its time, or Cancelled, by the source
//
//	Client   who has the session's sockets
//
//	          Offer            Begin          Ask           Answered       OldLost
//	Connected -----> Considers -----> Dialing ---> Handshake -------> Dual -------> Switched
//	   ^                |                |   <---      |                |              |
//	   +----------------+----------------+-------------+  Withdrawn,    |              |
//	   |                                 |             |  Failed        |              |
//	   | Resumed                         v             v                v              v
//	   +--------------------------- Resuming: no socket is left that the session is on
package redirect

import "time"

// The longest that one party waits for another.
const (
	// DialWithin bounds the dial of an offer's node, the upgrade included.
	DialWithin = 8 * time.Second
	// AnswerWithin bounds the wait for the answer to handover. The session may
	// have no other socket by then, and its grace runs.
	AnswerWithin = 5 * time.Second
	// FencedFor is how long the old socket listens at the source at most.
	FencedFor = 5 * time.Second
)

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
