// Package wait is how the duties of a node wait: for a bell, for a while, and for the
// end of something.
package wait

import (
	"context"
	"time"
)

// Ring rings a bell, a channel with a capacity, and does not wait: where it has
// been rung that often and nobody has looked yet, they will.
func Ring(bell chan<- struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

// Pause waits a little, or until ctx ends; it says whether to go on.
func Pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
