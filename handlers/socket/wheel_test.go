package socket

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestWheel_AsksEachWhenItIsDue turns a wheel under connections that come and go,
// and that are to be asked sooner, some while they are being asked.
func TestWheel_AsksEachWhenItIsDue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1_000_000, 0)
		due := map[*Conn]time.Time{} // of those that are on the wheel
		var all []*Conn
		var w wheel
		w.due = func(c *Conn, at time.Time) time.Time {
			want, on := due[c]
			switch {
			case !on:
				t.Fatal("one is asked that is off")
			case at.After(want.Add(2 * wheelStep)):
				t.Fatalf("asked %s late", at.Sub(want))
			case at.Before(want):
				t.Fatalf("asked %s early", want.Sub(at))
			}
			var next time.Time
			switch rapid.IntRange(0, 9).Draw(t, "answer") {
			case 0:
				delete(due, c)
				return next
			case 1:
				w.remove(c)
				delete(due, c)
				return at.Add(wheelStep)
			case 2:
				w.sooner(c, at)
				due[c] = at
				return at.Add(time.Hour)
			}
			next = at.Add(time.Duration(rapid.IntRange(0, 2*wheelSlots*100).Draw(t, "ms")) * time.Millisecond)
			due[c] = next
			return next
		}
		for range wheelSlots + wheelSlots/4 {
			now = now.Add(wheelStep)
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0, 1:
				c := new(Conn)
				all = append(all, c)
				due[c] = now
				w.add(c, now)
			case 2, 3:
				if len(all) == 0 {
					break
				}
				c := all[rapid.IntRange(0, len(all)-1).Draw(t, "one")]
				if rapid.Bool().Draw(t, "goes") {
					w.remove(c)
					delete(due, c)
				}
				w.sooner(c, now)
				if _, on := due[c]; on {
					due[c] = now
				}
			}
			w.turn(now)
			for c, at := range due {
				if now.After(at.Add(2 * wheelStep)) {
					t.Fatalf("one is %s late", now.Sub(at))
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
		w := wheel{next: start, due: func(_ *Conn, at time.Time) time.Time { asked++; return at.Add(c.due) }}
		w.add(new(Conn), start)
		w.turnTo(start)
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
	w := wheel{due: func(_ *Conn, at time.Time) time.Time { return at.Add(25 * time.Second) }}
	for i := range 10_000 {
		w.add(new(Conn), now.Add(time.Duration(i)*2500*time.Microsecond))
	}
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(wheelStep)
		w.turn(now)
	}
}
