package relay

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"godwit/store"
)

// within is when a node has filled a hole: two rounds of saying heads, and what
// reading the log may take. The contract gives it 2 s.
const within = 2*quiet + 50*time.Millisecond

func TestRelay_WhateverHappensOnTheWayASeatGetsTheLogInOrderAndOnce(t *testing.T) {
	const messages = 300
	// each spoils the nth message of the way.
	each := func(f func(n int, m store.Message) []store.Message) func() func(store.Message) []store.Message {
		return func() func(store.Message) []store.Message {
			n := 0
			return func(m store.Message) []store.Message {
				n++
				return f(n, m)
			}
		}
	}
	var kept []store.Message // by the ways that hold something back
	for _, c := range []struct {
		name  string
		spoil func() func(store.Message) []store.Message
		holes bool
	}{
		{"a good way", each(func(_ int, m store.Message) []store.Message { return []store.Message{m} }), false},
		{"all doubled", each(func(_ int, m store.Message) []store.Message { return []store.Message{m, m} }), false},
		{"said again much later", each(func(n int, m store.Message) []store.Message {
			kept = append(kept, m)
			return []store.Message{m, kept[max(0, n-100)]}
		}), false},
		{"one lost", each(func(n int, m store.Message) []store.Message {
			if n == messages/2 {
				return nil
			}
			return []store.Message{m}
		}), true},
		{"every third lost", each(func(n int, m store.Message) []store.Message {
			if n%3 == 0 {
				return nil
			}
			return []store.Message{m}
		}), true},
		{"a long run lost", each(func(n int, m store.Message) []store.Message {
			if n > 10 && n < messages-10 {
				return nil
			}
			return []store.Message{m}
		}), true},
		{"the last lost", each(func(n int, m store.Message) []store.Message {
			if n == messages {
				return nil
			}
			return []store.Message{m}
		}), true},
		{"neighbours swapped", each(func(n int, m store.Message) []store.Message {
			if n%2 == 1 && m.Entry != nil {
				kept = append(kept[:0], m)
				return nil
			}
			return append([]store.Message{m}, kept...)
		}), true},
		{"lost, doubled, late, by a seed", func() func(store.Message) []store.Message {
			dice := rand.New(rand.NewPCG(7, 7))
			return func(m store.Message) []store.Message {
				kept = append(kept, m)
				switch dice.IntN(5) {
				case 0:
					return nil
				case 1:
					return []store.Message{m, m}
				case 2:
					return []store.Message{kept[dice.IntN(len(kept))], m}
				}
				return []store.Message{m}
			}
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			kept = nil
			bubble(t, func(t *testing.T, w *world) {
				a, b := w.node(), w.node()
				ann := a.sit(1, "ann")
				bob := b.sit(2, "bob")
				cy := b.sit(3, "cy")
				first := cy.at.Seq + 1
				b.on(c.spoil())
				for range messages {
					ann.wrote(ann.say(`"x"`))
				}
				time.Sleep(within)
				bob.has(c.name, first-1, first+messages-1) // cy's join, too
				cy.has(c.name, first, first+messages-1)
				if holes := b.Stats.Holes.Load(); holes > 0 != c.holes {
					t.Errorf("%d holes were found, want some: %t", holes, c.holes)
				}
				if resets, _ := bob.told(); len(resets) > 0 {
					t.Errorf("reset %d times for what the log had", len(resets))
				}
			})
		})
	}
}

func TestRelay_TheLastEntryLostIsNoticedWithinTwoSecondsWheneverItWasWritten(t *testing.T) {
	// The node says its heads in rounds: the entry may fall anywhere between them.
	for _, after := range []time.Duration{0, time.Millisecond, 400 * time.Millisecond, quiet - time.Millisecond, quiet, quiet + time.Millisecond, 5 * time.Second} {
		bubble(t, func(t *testing.T, w *world) {
			a, b := w.node(), w.node()
			ann, bob := a.sit(1, "ann"), b.sit(2, "bob")
			ann.wrote(ann.say(`"before"`))
			time.Sleep(after)
			b.on(func(m store.Message) []store.Message {
				if m.Entry != nil {
					return nil
				}
				return []store.Message{m}
			})
			wrote := time.Now()
			last := ann.say(`"lost"`)
			ann.wrote(last)
			time.Sleep(within)
			bob.has("the last was lost", bob.at.Seq+1, last)
			if took := bob.when[len(bob.when)-1].Sub(wrote); took > within {
				t.Errorf("written %s after another: came after %s, want %s at most", after, took, within)
			}
		})
	}
}

func TestRelay_AHeadIsSaidAgainOnceWhenTheRoomIsQuiet(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.node(), w.node()
		ann, bob := a.sit(1, "ann"), b.sit(2, "bob")
		var last uint64
		for range 50 {
			last = ann.say(`"busy"`)
			ann.wrote(last)
			time.Sleep(100 * time.Millisecond)
		}
		said := func() []uint64 {
			synctest.Wait()
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.heads
		}
		if got := said(); len(got) > 0 {
			t.Errorf("heads %v were said in a busy room", got)
		}
		time.Sleep(time.Minute)
		if got := said(); len(got) != 1 || got[0] != last {
			t.Errorf("a quiet minute: heads %v were said, want %d once", got, last)
		}
		// What another node wrote later is for that node to say.
		ann.wrote(ann.say(`"mine"`))
		bob.say(`"not said to be written here"`)
		time.Sleep(time.Minute)
		if got := said(); len(got) != 1 {
			t.Errorf("heads %v were said, though another node wrote the newest entry", got)
		}
	})
}

func TestRelay_AResetOfTheSubscriberComparesHeadsAndFills(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.node(), w.node()
		ann, bob := a.sit(1, "ann"), b.sit(2, "bob")
		b.on(nothing)
		var last uint64
		for range 600 { // more than a page of the log
			last = ann.say(`"x"`)
		}
		synctest.Wait()
		bob.has("deaf", 1, 0)
		before := b.Stats.Verified.Load()
		b.on(nil)
		b.Reset()
		time.Sleep(100 * time.Millisecond)
		bob.has("after the reset", bob.at.Seq+1, last)
		if got := b.Stats.Verified.Load(); got != before+1 {
			t.Errorf("%d rounds of comparing, want one", got-before)
		}
		if got := b.Stats.Filled.Load(); got != 600 {
			t.Errorf("%d entries were filled, want 600", got)
		}
	})
}

func TestRelay_TheSlowRoundFindsWhatNobodySaid(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.node(), w.node()
		ann, bob := a.sit(1, "ann"), b.sit(2, "bob")
		b.on(nothing)
		last := ann.say(`"nobody says this head"`)
		time.Sleep(verifyEvery + time.Second)
		bob.has("after a round", last, last)
	})
}

func TestRelay_AHoleIsFilledOnceTheStoreIsBack(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.node(), w.node()
		ann, bob := a.sit(1, "ann"), b.sit(2, "bob")
		b.on(nothing)
		ann.say(`"lost"`)
		synctest.Wait()
		b.on(nil)
		last := ann.say(`"shows the hole"`)
		w.redis.SetError("LOADING not now") // before the node reads the log
		b.Relay.Heard(lobby, store.Message{Epoch: bob.at.Epoch, Head: last}, true)
		time.Sleep(10 * time.Second)
		w.redis.SetError("")
		time.Sleep(retryEvery + 10*time.Millisecond)
		bob.has("the store is back", last-1, last)
	})
}

func TestRelay_AWorkerThatIsFullDropsAndNothingIsLost(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node()
		b, run := w.idle() // its workers take nothing yet
		ann, bob := a.sit(1, "ann"), b.sit(2, "bob")
		old := store.Message{Epoch: bob.at.Epoch, Head: 1}
		for range workerQueue {
			b.Relay.Heard(lobby, old, true) // never waits, or the test would
		}
		dropped := b.Stats.Dropped.Load() // bob's own join was queued, too
		first := ann.say(`"finds no place"`)
		last := ann.say(`"nor does this"`)
		synctest.Wait()
		if got := b.Stats.Dropped.Load() - dropped; got != 2 {
			t.Errorf("%d messages were dropped, want 2", got)
		}
		run()
		time.Sleep(100 * time.Millisecond)
		bob.has("after the drop", first, last)
	})
}
