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
	// turnWithin is how long one waits for its turn, less than clients wait for an
	// answer. There are never more waiting than there may be sockets.
	turnWithin = 8 * time.Second
)

// Turns is the line in which logins and resumes wait, first come first served. A
// handover waits for nobody: its source keeps a pace.
type Turns struct{ taken chan struct{} }

// NewTurns makes a line that nobody waits in.
func NewTurns() *Turns { return &Turns{make(chan struct{}, turnsAtOnce)} }

// take waits for a turn; done gives it back. It says false when none came in
// time, or ctx ended.
func (t *Turns) take(ctx context.Context) (done func(), ok bool) {
	late := time.NewTimer(turnWithin)
	defer late.Stop()
	select {
	case t.taken <- struct{}{}:
		return func() { <-t.taken }, true
	case <-late.C:
	case <-ctx.Done():
	}
	return nil, false
}
