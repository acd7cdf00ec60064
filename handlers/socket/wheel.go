package socket

import (
	"context"
	"sync"
	"time"
)

const (
	wheelSlots = 128
	wheelStep  = 100 * time.Millisecond
)

// wheel asks each connection, when its time has come, what it has to do, and
// when to ask again. One goroutine and no timer for all of them.
type wheel struct {
	mu    sync.Mutex
	slots [wheelSlots]map[*Conn]time.Time // guarded by mu
	at    int                             // guarded by mu: the slot that is due next
}

// add puts a connection in the slot of its time, or in the furthest one.
func (w *wheel) add(c *Conn, due time.Time, now time.Time) {
	steps := int(max(0, due.Sub(now))/wheelStep) + 1
	w.mu.Lock()
	defer w.mu.Unlock()
	slot := (w.at + min(steps, wheelSlots-1)) % wheelSlots
	if w.slots[slot] == nil {
		w.slots[slot] = make(map[*Conn]time.Time)
	}
	w.slots[slot][c] = due
}

// run turns the wheel until ctx ends.
func (w *wheel) run(ctx context.Context) {
	t := time.NewTicker(wheelStep)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			w.turn(now)
		}
	}
}

func (w *wheel) turn(now time.Time) {
	w.mu.Lock()
	due := w.slots[w.at]
	w.slots[w.at] = nil
	w.at = (w.at + 1) % wheelSlots
	w.mu.Unlock()
	for c, at := range due {
		if now.Before(at) { // it was too far for the wheel
			w.add(c, at, now)
			continue
		}
		if next := c.due(now); !next.IsZero() {
			w.add(c, next, now)
		}
	}
}
