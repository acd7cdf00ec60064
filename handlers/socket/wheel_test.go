package socket

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// turning is a wheel whose time is the test's.
type turning struct {
	*wheel
	now, wakes time.Time
}

func newTurning(due func(*Conn, time.Time) (time.Time, time.Duration)) *turning {
	now := time.Unix(1_000_000, 0)
	w := &turning{newWheel(due, now), now, now}
	w.wakes = w.sleep()
	return w
}

// to lets time pass, in which run wakes when it is to.
func (w *turning) to(now time.Time) {
	for {
		select {
		case <-w.woken:
			w.wakes = w.sleep()
		default:
		}
		if w.wakes.After(now) {
			break
		}
		if w.wakes.After(w.now) {
			w.now = w.wakes
		}
		w.turnTo(w.now)
		w.wakes = w.sleep()
	}
	w.now = now
}

// TestWheel_AsksEachWhenItIsDue turns a wheel under connections that come and go,
// and that are to be asked sooner, some while they are being asked.
func TestWheel_AsksEachWhenItIsDue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type expected struct {
			at    time.Time
			slack time.Duration
		}
		due := map[*Conn]expected{} // of those that are on the wheel
		var all []*Conn
		var w *turning
		w = newTurning(func(c *Conn, at time.Time) (next time.Time, slack time.Duration) {
			want, on := due[c]
			switch {
			case !on:
				t.Fatal("one is asked that is off")
			case at.After(want.at.Add(want.slack + 2*wheelStep)):
				t.Fatalf("asked %s late, of at most %s", at.Sub(want.at), want.slack)
			case at.Before(want.at):
				t.Fatalf("asked %s early", want.at.Sub(at))
			}
			switch rapid.IntRange(0, 9).Draw(t, "answer") {
			case 0:
				delete(due, c)
				return next, 0
			case 1:
				w.remove(c)
				delete(due, c)
				return at.Add(wheelStep), 0
			case 2:
				w.sooner(c, at)
				due[c] = expected{at, 0}
				return at.Add(time.Hour), 0
			}
			next = at.Add(time.Duration(rapid.IntRange(0, 2*wheelSlots*100).Draw(t, "ms")) * time.Millisecond)
			slack = time.Duration(rapid.IntRange(0, 2000).Draw(t, "slack")) * time.Millisecond
			due[c] = expected{next, slack}
			return next, slack
		})
		for range 200 {
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0, 1:
				c := new(Conn)
				all = append(all, c)
				at := w.now.Add(time.Duration(rapid.IntRange(-1000, 20_000).Draw(t, "in")) * time.Millisecond)
				w.add(c, at, w.now)
				if at.Before(w.now) {
					at = w.now
				}
				due[c] = expected{at, 0}
			case 2, 3:
				if len(all) == 0 {
					break
				}
				c := all[rapid.IntRange(0, len(all)-1).Draw(t, "one")]
				if rapid.Bool().Draw(t, "goes") {
					w.remove(c)
					delete(due, c)
				}
				w.sooner(c, w.now)
				if _, on := due[c]; on {
					due[c] = expected{w.now, 0}
				}
			}
			w.to(w.now.Add(time.Duration(rapid.IntRange(0, 2000).Draw(t, "passes")) * time.Millisecond))
			for c, want := range due {
				if w.now.After(want.at.Add(want.slack + 2*wheelStep)) {
					t.Fatalf("one is %s late, of at most %s", w.now.Sub(want.at), want.slack)
				}
				if on := w.slots[c.place.slot]; on[c.place.index] != c {
					t.Fatal("one is not where it thinks that it is")
				}
			}
			held := 0
			for _, slot := range w.slots {
				held += len(slot)
			}
			if held != len(due) {
				t.Fatalf("the wheel holds %d of %d", held, len(due))
			}
		}
	})
}

// Who may wait is asked with others, so that the process wakes less often; but not
// with too many.
func TestWheel_GathersWhoMayWait(t *testing.T) {
	for name, c := range map[string]struct {
		n     int
		slack time.Duration
		wakes int // in which they are asked
	}{
		"some":        {100, time.Second, 1},
		"hurried":     {100, 0, 4},
		"in a slot":   {100, wheelStep, 4},
		"as many":     {wheelTogether, time.Second, 1},
		"and no more": {wheelTogether + 10, time.Second, 5},
	} {
		turns := map[time.Time]int{}
		w := newTurning(func(_ *Conn, at time.Time) (time.Time, time.Duration) {
			turns[at]++
			return time.Time{}, 0
		})
		first := w.next.Add((wheelGather + 1) * wheelStep) // the slot after one in which they gather
		w.mu.Lock()
		for i := range c.n {
			w.put(new(Conn), first.Add(time.Duration(i%4)*wheelStep), c.slack, w.now)
		}
		w.mu.Unlock()
		w.to(first.Add(3*wheelStep + c.slack + 2*wheelStep))
		asked := 0
		for at, n := range turns {
			asked += n
			if n > wheelTogether {
				t.Errorf("%s: %d are asked at once, after %s", name, n, at.Sub(first))
			}
		}
		if asked != c.n || len(turns) != c.wakes {
			t.Errorf("%s: %d asked in %d turns, want %d in %d", name, asked, len(turns), c.n, c.wakes)
		}
	}
}

func TestWheel_SleepsWhileNobodyIsDue(t *testing.T) {
	turns := 0
	w := newTurning(func(*Conn, time.Time) (time.Time, time.Duration) { turns++; return time.Time{}, 0 })
	furthest := w.now.Add(wheelSlots * wheelStep)
	if !w.wakes.Equal(furthest) {
		t.Errorf("an empty wheel wakes after %s, want %s", w.wakes.Sub(w.now), furthest.Sub(w.now))
	}
	begun := w.now
	w.to(begun.Add(30 * time.Second))
	c := new(Conn)
	w.add(c, w.now.Add(10*time.Second), w.now)
	if len(w.woken) != 1 {
		t.Fatal("it is not told of one that is due before it wakes")
	}
	w.add(new(Conn), w.now.Add(11*time.Second), w.now)
	w.to(w.now)
	if len(w.woken) != 0 || w.wakes.Before(begun.Add(40*time.Second)) || w.wakes.After(begun.Add(40*time.Second+wheelStep)) {
		t.Errorf("it wakes after %s, want 40s", w.wakes.Sub(begun))
	}
	w.sooner(c, w.now)
	w.to(w.now.Add(wheelStep))
	if turns != 1 {
		t.Errorf("asked %d times at once, want 1", turns)
	}
}

// Ticks are lost while a process stands still, and the clock may be set.
func TestWheel_AsksWhoWasDueWhileItStoodStill(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	for name, c := range map[string]struct {
		due, still time.Duration
		asked      bool
	}{
		"due since":            {20 * time.Second, time.Minute, true},
		"too far for it":       {90 * time.Second, 2 * time.Minute, true},
		"due later":            {90 * time.Second, time.Minute, false},
		"for days":             {20 * time.Second, 100 * time.Hour, true},
		"no longer than ticks": {20 * time.Second, 10 * time.Second, false},
	} {
		asked := 0
		w := newWheel(func(_ *Conn, at time.Time) (time.Time, time.Duration) { asked++; return at.Add(c.due), 0 }, start)
		w.add(new(Conn), start, start)
		w.turnTo(start.Add(wheelStep)) // it is asked, and due after that
		if asked != 1 {
			t.Fatalf("%s: asked %d times at first", name, asked)
		}
		w.turnTo(start.Add(wheelStep + c.still))
		if (asked == 2) != c.asked {
			t.Errorf("%s: asked %d times, want it asked again: %t", name, asked, c.asked)
		}
	}
}

// BenchmarkWheel turns a wheel of 10,000 connections, each due every 25 seconds.
func BenchmarkWheel(b *testing.B) {
	now := time.Unix(1_000_000, 0)
	w := newWheel(func(_ *Conn, at time.Time) (time.Time, time.Duration) { return at.Add(25 * time.Second), 0 }, now)
	for i := range 10_000 {
		w.add(new(Conn), now.Add(time.Duration(i)*2500*time.Microsecond), now)
	}
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(wheelStep)
		w.turn(now)
	}
}
