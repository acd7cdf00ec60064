package store

import "sync/atomic"

// latch is what somebody waits for that takes several.
type latch struct {
	left  atomic.Int32
	ready chan struct{} // closed when all have come
}

func newLatch(several int) *latch {
	l := &latch{ready: make(chan struct{})}
	l.left.Store(int32(several))
	return l
}

// open is one of them.
func (l *latch) open() {
	if l.left.Add(-1) == 0 {
		close(l.ready)
	}
}

// ring wakes who waits for a channel of one place, or will.
func ring(kick chan struct{}) {
	select {
	case kick <- struct{}{}:
	default:
	}
}
