package relay

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"godwit/store"
)

// A failover may lose entries that one node has delivered, and another has not
// heard, which then writes in their place: nobody goes on with what follows those.
func TestRelay_AnEntryInThePlaceOfOneThatWasDeliveredIsNoticed(t *testing.T) {
	for _, c := range []struct {
		name          string
		lost, written int
		clock         time.Duration // of the store that has lost them, beside the one before
	}{
		{"one of one", 1, 1, time.Second},
		{"one of one, by a clock that is behind", 1, 1, -time.Hour},
		{"one of two", 2, 1, time.Second},
		{"two at once, of one", 1, 2, time.Second},
		{"two at once, of one, by a clock that is behind", 1, 2, -time.Hour},
		{"more at once than were lost", 2, 4, time.Second},
		{"more at once than were lost, by a clock that is behind", 2, 4, -time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				n := w.node()
				ann, bob := n.sit(1, "ann"), n.sit(2, "bob")
				kept := ann.say(`"kept"`)
				head := kept
				for range c.lost {
					time.Sleep(time.Millisecond)
					head = ann.say(`"lost"`)
				}
				synctest.Wait()
				for _, m := range w.loses(ann, kept, c.written, c.clock) {
					n.Relay.Heard(lobby, m, true)
				}
				time.Sleep(100 * time.Millisecond)
				bob.resetAt(head)
			})
		})
	}
}

// A double of an entry is none in its place, nor is one that seems later only
// because the clock was set back meanwhile.
func TestRelay_AnEntryHeardAgainIsNotTakenForAnother(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n := w.node()
		ann, bob := n.sit(1, "ann"), n.sit(2, "bob")
		first := ann.say(`"first"`)
		ann.say(`"second"`)
		synctest.Wait()
		for what, ts := range map[string]time.Time{"a double": time.Now(), "one from before the clock was set back": time.Now().Add(time.Hour)} {
			n.Relay.Heard(lobby, store.Message{Epoch: ann.at.Epoch, Head: first, Entry: &store.Entry{Seq: first, TS: ts.UnixMilli()}}, true)
			last := ann.say(`"at once behind it"`)
			time.Sleep(100 * time.Millisecond)
			if resets, _ := bob.told(); len(resets) != 0 {
				t.Fatalf("%s is taken for another entry: %+v", what, resets)
			}
			bob.has(what, bob.at.Seq+1, last)
		}
	})
}

// What came in the place of a lost entry may have been said while nobody heard, and
// the next one after the room is followed again, but not yet all others.
func TestRelay_WhatIsHeardBeforeEverythingIsGoesByTheLog(t *testing.T) {
	for name, lost := range map[string]int{"an entry was lost, and two came in its place": 1, "nothing was lost": 0} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				n := w.node()
				ann, bob := n.sit(1, "ann"), n.sit(2, "bob")
				kept := ann.say(`"kept"`)
				head := kept
				for range lost {
					head = ann.say(`"lost"`)
				}
				synctest.Wait()
				written := w.loses(ann, kept, 2, time.Second)
				w.redis.SetError("LOADING not now")
				time.Sleep(3 * time.Second) // the probe fails: nothing is heard
				n.Relay.Heard(lobby, written[1], false)
				synctest.Wait()
				w.redis.SetError("")
				n.on(nil)
				time.Sleep(3 * time.Second)
				if lost > 0 {
					bob.resetAt(head)
				} else {
					bob.has(name, bob.at.Seq+1, head+2)
				}
			})
		})
	}
}

// Nor does what is heard first when everything is heard again, and before the log was
// asked whether it has all that was delivered.
func TestRelay_WhatIsHeardRightBehindAResetGoesByTheLog(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n := w.node()
		ann, bob := n.sit(1, "ann"), n.sit(2, "bob")
		kept := ann.say(`"kept"`)
		lost := ann.say(`"lost"`)
		synctest.Wait()
		written := w.loses(ann, kept, 2, time.Second)
		n.Reset()
		n.Relay.Heard(lobby, written[1], true)
		synctest.Wait()
		bob.resetAt(lost)
	})
}

// A node that may have missed something tells the store, with what it writes, when
// its newest entry was written; one that has not lets the store save the look.
func TestRoom_KnowsItsNewestEntryByItsTimeWhileInDoubt(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n := w.node()
		ann, bob := n.sit(1, "ann"), n.sit(2, "bob")
		head := ann.say(`"x"`)
		synctest.Wait()
		is := func(what string, ts int64) {
			t.Helper()
			if k := bob.room.Known(); k != (store.Known{Epoch: ann.at.Epoch, Seq: head, TS: ts}) {
				t.Errorf("%s: %+v, want entry %d at %d", what, k, head, ts)
			}
		}
		is("nothing was missed", 0)
		w.redis.SetError("LOADING not now")
		n.Relay.Suspect()
		synctest.Wait()
		is("in doubt", bob.got[len(bob.got)-1].TS)
		w.redis.SetError("")
		time.Sleep(3 * time.Second) // the probe, and the comparison after it
		is("compared", 0)
	})
}

// What follows an entry in the place of a lost one may come from the log, where the
// node has missed some of it.
func TestRelay_AHoleIsNotFilledFromAnotherOrder(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n := w.node()
		ann, bob := n.sit(1, "ann"), n.sit(2, "bob")
		kept := ann.say(`"kept"`)
		lost := ann.say(`"lost"`)
		synctest.Wait()
		written := w.loses(ann, kept, 3, time.Second)
		n.Relay.Heard(lobby, written[2], true)
		time.Sleep(100 * time.Millisecond)
		bob.resetAt(lost)
	})
}

// The node may have delivered more by the time that it is told of another entry in the
// place of one.
func TestRelay_AnotherEntryIsNoticedThoughTheOrderHasGoneOn(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n := w.node()
		ann, bob := n.sit(1, "ann"), n.sit(2, "bob")
		kept := ann.say(`"kept"`)
		lost := ann.say(`"lost"`)
		synctest.Wait()
		known := bob.room.position()
		written := w.loses(ann, kept, 2, time.Second)
		n.Relay.Heard(lobby, written[1], true)
		synctest.Wait()
		bob.has("what nobody doubts", bob.at.Seq+1, lost+1)
		bob.room.compare(n.era.Load(), known, store.Head{Epoch: known.Epoch, Seq: lost + 1, TS: written[0].Entry.TS})
		synctest.Wait()
		bob.resetAt(lost + 1)
	})
}

// A room in which nothing has happened since its first member sat down knows when
// its newest entry was written, too.
func TestRelay_TheEntryAtWhichARoomBeganIsKnown(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprintf("it was heard after the seat was taken: %t", late), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				n := w.node()
				if late {
					n.on(nothing)
				}
				ann := n.enter(1, "ann")
				synctest.Wait()
				if !ann.room.Sit(ann.seat, ann.at.Epoch, ann.at.Seq, ann.at.Seq) {
					t.Fatal("no seat")
				}
				if late {
					page, err := n.store.Read(t.Context(), lobby, 1, 1, 1)
					if err != nil {
						t.Fatal(err)
					}
					n.Relay.Heard(lobby, store.Message{Epoch: page.Epoch, Head: 1, Entry: &page.Entries[0]}, true)
				}
				synctest.Wait()
				for _, m := range w.loses(ann, 0, 2, time.Second) {
					n.Relay.Heard(lobby, m, true)
				}
				time.Sleep(100 * time.Millisecond)
				ann.resetAt(0)
			})
		})
	}
}

// rollBack has the store lose what the room has after kept.
func (w *world) rollBack(kept uint64) {
	w.Helper()
	w.log(func(seq uint64) bool { return seq <= kept })
	w.redis.HSet("gw:{r:lobby}:meta", "seq", strconv.FormatUint(kept, 10))
}

// log has the room's log hold only what is kept of it.
func (w *world) log(keep func(seq uint64) bool) {
	w.Helper()
	const log = "gw:{r:lobby}:log"
	entries, err := w.redis.Stream(log)
	if err != nil {
		w.Fatal(err)
	}
	w.redis.Del(log)
	for _, e := range entries {
		seq, err := strconv.ParseUint(strings.TrimSuffix(e.ID, "-0"), 10, 64)
		if err == nil && keep(seq) {
			_, err = w.redis.XAdd(log, e.ID, e.Values)
		}
		if err != nil {
			w.Fatal(err)
		}
	}
}

// loses has the store lose what the room has after kept, and then take some
// messages, at once, of one who knows nothing of that; its clock may be another.
// The guest's node has heard none of them yet.
func (w *world) loses(g *guest, kept uint64, some int, clock time.Duration) (written []store.Message) {
	w.Helper()
	w.rollBack(kept)
	w.redis.SetTime(time.Now().Add(clock))
	var mu sync.Mutex
	g.on(func(m store.Message) []store.Message {
		mu.Lock()
		defer mu.Unlock()
		if m.Entry != nil {
			written = append(written, m)
		}
		return nil
	})
	var all sync.WaitGroup
	for range some {
		all.Add(1)
		g.store.Send(w.Context(), lobby, g.Member, store.Known{}, store.Draft{Data: []byte(`"in its place"`)}, func(_ store.Sent, err error) {
			defer all.Done()
			if err != nil {
				w.Error(err)
			}
		})
	}
	all.Wait()
	synctest.Wait()
	mu.Lock()
	defer mu.Unlock()
	if len(written) != some || written[0].Head != kept+1 {
		w.Fatalf("after %d the store has taken %+v", kept, written)
	}
	return written
}

// resetAt expects that the guest was told of another order, and of nothing of the
// one before that is past head.
func (g *guest) resetAt(head uint64) {
	g.w.Helper()
	resets, _ := g.told()
	if len(resets) != 1 || resets[0].Epoch == g.at.Epoch {
		g.w.Fatalf("%s was reset %+v, want once", g.User, resets)
	}
	for _, seq := range g.seqs()[:g.before] {
		if seq > head {
			g.w.Errorf("%s got %v before the reset, want nothing past %d", g.User, g.seqs()[:g.before], head)
		}
	}
}
