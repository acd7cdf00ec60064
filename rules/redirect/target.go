package redirect

import "time"

// TargetState is where a session stands at the node that it goes to.
type TargetState int

// The states of a session at its target.
const (
	Free      TargetState = iota // nothing is kept
	Pending                      // a place is kept until the offer is over
	Committed                    // the session is this node's; its client may not know yet
	Live                         // the client has said so
	Expired                      // nobody came
	Cancelled                    // nobody comes
)

// Target is one offer at its target. The zero value is Free. Its owner guards it.
type Target struct {
	state TargetState
	id    string
	until time.Time
}

// State tells where the session stands.
func (t *Target) State() TargetState { return t.state }

// Prepare keeps a place for an offer until its time. It says false when
// something has become of the offer already: a word that comes late, or again.
func (t *Target) Prepare(id string, until time.Time) bool {
	if t.state != Free {
		return false
	}
	t.state, t.id, t.until = Pending, id, until
	return true
}

// Holds says whether a place is kept for somebody who is still to come; one
// whose time is over is given up.
func (t *Target) Holds(now time.Time) bool {
	if t.state == Pending && !now.Before(t.until) {
		t.state = Expired
	}
	return t.state == Pending
}

// Cancelled says that nobody comes for the offer. It says whether that was news.
func (t *Target) Cancelled(id string) bool {
	if t.state != Pending || t.id != id {
		return false
	}
	t.state = Cancelled
	return true
}

// Claimed says that the store committed the offer here. Whatever this node
// thought of it by its own clock, the session is here: a place is taken up at
// the commit, and a claim that fails leaves it as it was. It says whether that
// was news.
func (t *Target) Claimed(id string) bool {
	if t.state == Committed || t.state == Live || t.state != Free && t.id != id {
		return false
	}
	t.state, t.id = Committed, id
	return true
}

// Done says that the client has the answer, and needs its old socket no more.
// It says whether that is to be passed on: of this offer, also when it is said
// again, for the source may have missed it.
func (t *Target) Done(id string) bool {
	if t.state != Committed && t.state != Live || t.id != id {
		return false
	}
	t.state = Live
	return true
}
