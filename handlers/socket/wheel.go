package socket

import (
	"context"
	"sync"
	"time"

	"godwit/server/wait"
)

const (
	wheelSlots = 512
	wheelStep  = 100 * time.Millisecond

	// Who may wait a little longer is asked with others, in every wheelGather-th
	// slot, so that the process wakes once for all of them; but no more than
	// wheelTogether, which hold up what is said just then by a few milliseconds.
	wheelGather   = 8
	wheelTogether = 256
)

// wheel asks each connection, when its time has come, what it has to do, and
// when to ask again. One goroutine and one timer for all of them, and nothing is
// allocated or looked up for one that waits. It sleeps while nobody is due.
type wheel struct {
	// due does what is due, and says when to ask again, and how much later that may
	// be; zero: never.
	due func(c *Conn, now time.Time) (next time.Time, slack time.Duration)

	spare []*Conn       // owned by run: the slot of the last turn
	woken chan struct{} // somebody is due before run wakes

	mu    sync.Mutex
	slots [wheelSlots][]*Conn // guarded by mu
	at    int                 // guarded by mu: the slot that is due next
	next  time.Time           // guarded by mu: when that is
	until time.Time           // guarded by mu: when run wakes; zero: it is awake
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

func newWheel(due func(*Conn, time.Time) (time.Time, time.Duration), now time.Time) *wheel {
	return &wheel{due: due, woken: make(chan struct{}, 1), next: now.Add(wheelStep)}
}

// add puts a connection on the wheel.
func (w *wheel) add(c *Conn, due, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.put(c, due, 0, now)
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
		w.put(c, now, 0, now)
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

// put puts a connection in the slot of its time, or in a later one within slack, or
// in the furthest one, and wakes run if it sleeps for longer; setting the clock does
// not change when that is. Called with mu held.
func (w *wheel) put(c *Conn, due time.Time, slack time.Duration, now time.Time) {
	due = now.Add(max(0, due.Sub(now)))
	turns := min(int(max(0, due.Sub(w.next)+wheelStep-1)/wheelStep), wheelSlots-1)
	slot := (w.at + turns) % wheelSlots
	if more := (wheelGather - slot%wheelGather) % wheelGather; time.Duration(more)*wheelStep <= slack && turns+more < wheelSlots {
		if with := (slot + more) % wheelSlots; len(w.slots[with]) < wheelTogether {
			slot, turns = with, turns+more
		}
	}
	c.place = place{due: due, slot: slot, index: len(w.slots[slot])}
	w.slots[slot] = append(w.slots[slot], c)
	if turn := w.next.Add(time.Duration(turns) * wheelStep); turn.Before(w.until) {
		w.until = turn
		wait.Ring(w.woken)
	}
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
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			w.turnTo(time.Now())
		case <-w.woken:
		}
		t.Reset(time.Until(w.sleep()))
	}
}

// sleep says when the next turn is that has somebody to ask, or the last one that
// the wheel knows of.
func (w *wheel) sleep() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	turns := 0
	for turns < wheelSlots-1 && len(w.slots[(w.at+turns)%wheelSlots]) == 0 {
		turns++
	}
	w.until = w.next.Add(time.Duration(turns) * wheelStep)
	return w.until
}

// turnTo makes the turns that are due: many, where it slept or the process stood
// still, but no more than it takes to ask everybody.
func (w *wheel) turnTo(now time.Time) {
	w.mu.Lock()
	if all := now.Add(-wheelSlots * wheelStep); w.next.Before(all) {
		w.next = all
	}
	w.mu.Unlock()
	for w.turn(now) {
	}
}

// turn asks who is due in the next slot, unless its time is yet to come.
func (w *wheel) turn(now time.Time) bool {
	w.mu.Lock()
	w.until = time.Time{}
	if w.next.After(now) {
		w.mu.Unlock()
		return false
	}
	due := w.slots[w.at]
	if len(due) > 0 {
		w.slots[w.at] = w.spare
	}
	w.at = (w.at + 1) % wheelSlots
	w.next = w.next.Add(wheelStep)
	for _, c := range due {
		c.place.asking = true
	}
	w.mu.Unlock()
	if len(due) == 0 {
		return true
	}
	for _, c := range due {
		w.ask(c, now)
	}
	clear(due)
	w.spare = due[:0]
	return true
}

// ask asks one connection, unless its time was too far for the wheel, and puts it
// where it is due next.
func (w *wheel) ask(c *Conn, now time.Time) {
	next, slack := c.place.due, time.Duration(0) // nobody puts it anywhere while it is being asked
	if !now.Before(next) {
		next, slack = w.due(c, now)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case c.place.off:
	case c.place.sooner:
		w.put(c, now, 0, now)
	case next.IsZero():
		c.place.off = true
	default:
		w.put(c, next, slack, now)
	}
}
