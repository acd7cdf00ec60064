package session

import (
	"context"
	"time"
)

const (
	// turnsAtOnce is how many logins and resumes of a node are under way at once.
	// More would not be served sooner: they wait for the same connections to the
	// store, each until its time is over, and all of them come again.
	turnsAtOnce = 64
	// turnWithin is how long one waits for its turn. There are never more waiting
	// than there may be sockets.
	turnWithin = 4 * time.Second
	// claimWithin is how old a resume may be that takes its session up. Clients
	// wait longer than that for the answer: one that has given up and gone to
	// another node would be put out there by this one.
	claimWithin = 5 * time.Second
)

// Turns is the line in which logins and resumes wait, first come first served. A
// handover waits for nobody: its source keeps a pace.
type Turns struct{ taken chan struct{} }

// NewTurns makes a line that nobody waits in.
func NewTurns() *Turns { return &Turns{make(chan struct{}, turnsAtOnce)} }

// turn is one that was taken.
type turn struct {
	of   *Turns
	came time.Time // when its owner began to wait for it
}

// take waits for a turn, of which done is to be called. It says false when none
// came in time, or ctx ended.
func (t *Turns) take(ctx context.Context) (turn, bool) {
	came := time.Now()
	late := time.NewTimer(turnWithin)
	defer late.Stop()
	select {
	case t.taken <- struct{}{}:
		return turn{t, came}, true
	case <-late.C:
	case <-ctx.Done():
	}
	return turn{}, false
}

func (t turn) done() { <-t.of.taken }

// late says whether it is too late to take a session up.
func (t turn) late() bool { return time.Since(t.came) > claimWithin }
