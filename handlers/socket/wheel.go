package socket

import (
	"context"
	"sync"
	"time"
)

const (
	wheelSlots = 512
	wheelStep  = 100 * time.Millisecond
)

// wheel asks each connection, when its time has come, what it has to do, and
// when to ask again. One goroutine and no timer for all of them, and nothing is
// allocated or looked up for one that waits.
type wheel struct {
	// due does what is due, and says when to ask again; zero: never.
	due func(c *Conn, now time.Time) time.Time

	// owned by run
	spare []*Conn   // the slot of the last turn
	next  time.Time // of the next turn

	mu    sync.Mutex
	slots [wheelSlots][]*Conn // guarded by mu
	at    int                 // guarded by mu: the slot that is due next
}

// place is a connection's place on the wheel. Guarded by the wheel's mu.
type place struct {
	due    time.Time
	slot   int
	index  int
	asking bool // it is on no slot, but being asked
	sooner bool // and is to be asked again at once
	off    bool // it is done with
}

// add puts a connection on the wheel, to be asked at once.
func (w *wheel) add(c *Conn, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.put(c, now, now)
}

// sooner has a connection asked at once.
func (w *wheel) sooner(c *Conn, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case c.place.off:
	case c.place.asking:
		c.place.sooner = true
	default:
		w.take(c)
		w.put(c, now, now)
	}
}

// remove takes a connection off for good.
func (w *wheel) remove(c *Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !c.place.off && !c.place.asking {
		w.take(c)
	}
	c.place.off = true
}

// put puts a connection in the slot of its time, or in the furthest one; setting
// the clock does not change when that is. Called with mu held.
func (w *wheel) put(c *Conn, due, now time.Time) {
	wait := max(0, due.Sub(now))
	slot := (w.at + min(int(wait/wheelStep)+1, wheelSlots-1)) % wheelSlots
	c.place = place{due: now.Add(wait), slot: slot, index: len(w.slots[slot])}
	w.slots[slot] = append(w.slots[slot], c)
}

// take takes a connection out of its slot; the slot's last one gets its place.
// Called with mu held.
func (w *wheel) take(c *Conn) {
	slot := w.slots[c.place.slot]
	end := len(slot) - 1
	slot[c.place.index] = slot[end]
	slot[c.place.index].place.index = c.place.index
	slot[end] = nil
	w.slots[c.place.slot] = slot[:end]
}

// run turns the wheel until ctx ends.
func (w *wheel) run(ctx context.Context) {
	t := time.NewTicker(wheelStep)
	defer t.Stop()
	w.next = time.Now().Add(wheelStep)
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			w.turnTo(now)
		}
	}
}

// turnTo makes the turns that are due: more than one where ticks were lost, as of a
// process that stood still, but no more than it takes to ask everybody.
func (w *wheel) turnTo(now time.Time) {
	for range wheelSlots {
		if w.next.After(now) {
			return
		}
		w.turn(now)
		w.next = w.next.Add(wheelStep)
	}
	w.next = now.Add(wheelStep)
}

// turn asks who is due.
func (w *wheel) turn(now time.Time) {
	w.mu.Lock()
	due := w.slots[w.at]
	w.slots[w.at] = w.spare
	w.at = (w.at + 1) % wheelSlots
	for _, c := range due {
		c.place.asking = true
	}
	w.mu.Unlock()
	for _, c := range due {
		w.ask(c, now)
	}
	clear(due)
	w.spare = due[:0]
}

// ask asks one connection, unless its time was too far for the wheel, and puts it
// where it is due next.
func (w *wheel) ask(c *Conn, now time.Time) {
	next := c.place.due // nobody puts it anywhere while it is being asked
	if !now.Before(next) {
		next = w.due(c, now)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case c.place.off:
	case c.place.sooner:
		w.put(c, now, now)
	case next.IsZero():
		c.place.off = true
	default:
		w.put(c, next, now)
	}
}
