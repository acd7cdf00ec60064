package relay

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"godwit/server/hub"
	"godwit/store"
)

func TestRelay_AnotherEpochIsToldAndGoesOn(t *testing.T) {
	for name, lose := range map[string]func(w *world, head uint64){
		"the store was wiped": func(w *world, _ uint64) { w.redis.FlushAll() },
		"the store lost its tail": func(w *world, head uint64) {
			w.redis.Del("gw:{r:lobby}:log")
			w.redis.HSet("gw:{r:lobby}:meta", "seq", strconv.FormatUint(head-3, 10))
		},
	} {
		for how, notice := range map[string]func(n *node){
			"by comparing": func(n *node) { n.Reset() },
			"by a message": func(n *node) { // of another node, that knew before
				n.Relay.Heard(lobby, store.Message{Epoch: "another", Head: 1}, true)
			},
			"by a write": func(n *node) { <-n.find(lobby).Lost() },
		} {
			t.Run(name+", noticed "+how, func(t *testing.T) {
				bubble(t, func(t *testing.T, w *world) {
					n := w.node()
					ann, bob := n.sit(1, "ann"), n.sit(2, "bob")
					var head uint64
					for range 5 {
						head = ann.say(`"before"`)
					}
					synctest.Wait()
					bob.has("before", 3, head)
					lose(w, head)
					notice(n)
					time.Sleep(100 * time.Millisecond)
					for _, g := range []*guest{ann, bob} {
						resets, out := g.told()
						if len(resets) != 1 || out != 0 {
							t.Fatalf("%s: %d resets, put out %d times; want one reset", g.User, len(resets), out)
						}
						if r := resets[0]; r.Room != lobby || r.Epoch == ann.at.Epoch || r.Epoch == "" || len(r.Members) != 2 {
							t.Errorf("%s: reset %+v, want another epoch than %s, with both in it", g.User, r, ann.at.Epoch)
						}
					}
					if n.whole() == 0 {
						t.Error("nobody was asked to register again first")
					}
					resets, _ := bob.told()
					last := ann.say(`"after"`)
					synctest.Wait()
					got := bob.seqs()[bob.before:]
					for i, seq := range got { // maybe ann's join of the new epoch first
						if seq != resets[0].Seq+uint64(i+1) {
							t.Errorf("after a reset to %d: got %v", resets[0].Seq, got)
						}
					}
					if len(got) == 0 || got[len(got)-1] != last {
						t.Errorf("after the reset: got %v, want up to %d", got, last)
					}
				})
			})
		}
	}
}

// Of what was said in an epoch nobody lacks anything who was a member all the time,
// however late its node finds out that there is one.
func TestRelay_WhoFindsOutLateGoesOnWhereTheEpochBegan(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		early, late := w.node(), w.node()
		ann, bob := early.sit(1, "ann"), late.sit(2, "bob")
		var head uint64
		for range 5 {
			head = ann.say(`"before"`)
		}
		synctest.Wait()
		bob.has("before", 3, head)
		late.on(nothing)
		kept := head - 3
		w.rollBack(kept)
		<-early.find(lobby).Lost()
		cy := early.sit(3, "cy")
		var last uint64
		for i := range 600 { // more than is read from the log at once
			last = ann.say(strconv.Itoa(i))
		}
		synctest.Wait()
		late.on(nil)
		late.Reset()
		synctest.Wait()
		bob.resetAt(head)
		resets, _ := bob.told()
		if resets[0].Seq != kept {
			t.Errorf("bob goes on from %d, want %d, where the epoch began", resets[0].Seq, kept)
		}
		var want []uint64
		for seq := kept + 1; seq <= last; seq++ {
			want = append(want, seq)
		}
		if got := bob.seqs()[bob.before:]; !slices.Equal(got, want) {
			t.Errorf("after the reset bob got %d entries, %v, want %d to %d", len(got), got, kept+1, last)
		}

		// Another look, in the same epoch, brings nothing again.
		had := len(bob.seqs())
		<-late.find(lobby).Lost()
		synctest.Wait()
		if resets, _ = bob.told(); len(resets) != 1 || len(bob.seqs()) != had {
			t.Errorf("reset %+v, and %d entries came again", resets, len(bob.seqs())-had)
		}
		if resets, _ = cy.told(); len(resets) > 0 {
			t.Errorf("who joined in the epoch was reset %+v", resets)
		}
	})
}

// What was said before a reset may come after it. The store may also have gone back
// to what was before: a primary that had not been told of the reset.
func TestRelay_AMessageOfTheEpochThatWasLeftIsHeldAgainstTheLog(t *testing.T) {
	for back, want := range map[bool]int{false: 1, true: 2} {
		t.Run(fmt.Sprintf("the store is back there: %t", back), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				n := w.node()
				ann, bob := n.sit(1, "ann"), n.sit(2, "bob")
				kept := ann.say(`"kept"`)
				ann.say(`"lost"`)
				synctest.Wait()
				written := w.loses(ann, kept, 2, time.Second)
				n.on(nil)
				n.Relay.Heard(lobby, written[0], true)
				time.Sleep(100 * time.Millisecond)
				if resets, _ := bob.told(); len(resets) != 1 {
					t.Fatalf("%d resets, want one", len(resets))
				}
				if back {
					w.redis.HSet("gw:{r:lobby}:meta", "epoch", ann.at.Epoch)
				}
				n.Relay.Heard(lobby, written[1], true)
				time.Sleep(100 * time.Millisecond)
				resets, out := bob.told()
				if len(resets) != want || out != 0 {
					t.Errorf("%d resets, put out %d times; want %d and never", len(resets), out, want)
				}
				if !back {
					last := ann.say(`"goes on"`)
					synctest.Wait()
					if got := bob.seqs(); got[len(got)-1] != last {
						t.Errorf("got %v, want up to %d", got, last)
					}
				}
			})
		})
	}
}

func TestRelay_AResetWaitsForTheStoreAndPutsOutWhoIsNotThere(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n := w.node()
		ann, bob, cy := n.sit(1, "ann"), n.sit(2, "bob"), n.sit(3, "cy")
		refuse := func(g *guest, err error) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.refuse = err
		}
		refuse(bob, store.ErrUnavailable)
		refuse(cy, store.ErrGone)
		w.redis.FlushAll()
		n.Reset()
		time.Sleep(5 * time.Second)
		if resets, _ := ann.told(); len(resets) > 0 {
			t.Error("told of a place while another member has none yet")
		}
		refuse(bob, nil)
		time.Sleep(2 * retryEvery)
		for _, c := range []struct {
			who  *guest
			want int
		}{{ann, 1}, {bob, 1}, {cy, 0}} {
			if resets, _ := c.who.told(); len(resets) != c.want {
				t.Errorf("%s: %d resets, want %d", c.who.User, len(resets), c.want)
			}
		}
		before := len(cy.seqs())
		ann.say(`"after"`)
		synctest.Wait()
		if got := cy.seqs()[before:]; len(got) > 0 {
			t.Errorf("who is not there any more got %v", got)
		}
	})
}

// A store that is wiped again while the members are asked to rejoin has some in one
// epoch and some in the next: nobody is told of the first.
func TestRelay_AResetThatAnotherOvertakesIsToldOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n := w.node()
		ann, bob := n.sit(1, "ann"), n.sit(2, "bob")
		asked, goOn := make(chan struct{}, 1), make(chan struct{})
		bob.mu.Lock()
		bob.asked = func() {
			asked <- struct{}{}
			<-goOn
		}
		bob.mu.Unlock()
		w.redis.FlushAll()
		done := n.find(lobby).Lost()
		<-asked
		synctest.Wait() // ann is in again
		w.redis.FlushAll()
		bob.mu.Lock()
		bob.asked = nil
		bob.mu.Unlock()
		close(goOn)
		<-done
		last := ann.say(`"after"`)
		time.Sleep(time.Second)
		epoch := w.redis.HGet("gw:{r:lobby}:meta", "epoch")
		for _, g := range []*guest{ann, bob} {
			if resets, out := g.told(); len(resets) != 1 || resets[0].Epoch != epoch || out != 0 {
				t.Errorf("%s was reset %+v and put out %d times, want one reset to %s", g.User, resets, out, epoch)
			}
		}
		if got := bob.seqs(); got[len(got)-1] != last {
			t.Errorf("bob got %v, want up to %d", got, last)
		}
	})
}

// Where the order is held to be lost, and is not, nobody is told, and nothing that was said
// meanwhile is missing.
func TestRelay_WhoIsInTheEpochAlreadyKeepsItsPlace(t *testing.T) {
	for name, doubt := range map[string]func(n *node){
		"a write was answered that the room is lost": func(n *node) { n.find(lobby).Lost() },
		"somebody sits down who is of another epoch": func(n *node) {
			cy := n.enter(3, "cy")
			if !cy.room.Sit(cy.seat, "left", cy.at.Seq, cy.at.Seq) {
				n.w.Error("cy has no seat")
			}
			n.w.Cleanup(func() {
				if resets, _ := cy.told(); len(resets) != 1 || resets[0].Epoch != cy.at.Epoch {
					n.w.Errorf("cy was reset %+v, want into %s", resets, cy.at.Epoch)
				}
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				here, there := w.node(), w.node()
				bob, ann := here.sit(1, "bob"), there.sit(2, "ann")
				ann.say(`"before"`)
				synctest.Wait()
				asked, goOn := make(chan struct{}), make(chan struct{})
				bob.asked = func() {
					close(asked)
					<-goOn
				}
				doubt(here)
				<-asked
				ann.say(`"meanwhile"`)
				close(goOn)
				synctest.Wait()
				last := ann.say(`"after"`)
				synctest.Wait()
				bob.has("all the time", 2, last)
				if resets, out := bob.told(); len(resets)+out > 0 {
					t.Errorf("reset %+v, put out %d times", resets, out)
				}
			})
		})
	}
}

// Where the log no longer has what a node missed, its members are told where it goes on:
// once, and only of that.
func TestRelay_AHoleThatTheLogNoLongerHasIsTold(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		here, there := w.node(), w.node()
		bob, ann := here.sit(1, "bob"), there.sit(2, "ann")
		here.on(nothing)
		var head uint64
		for range 10 {
			head = ann.say(`"missed"`)
		}
		synctest.Wait()
		w.log(func(seq uint64) bool { return seq > head-2 })
		here.on(nil)
		head = ann.say(`"heard"`)
		time.Sleep(time.Second)
		resets, out := bob.told()
		if len(resets) != 1 || resets[0].Seq != head || resets[0].Epoch != bob.at.Epoch || out != 0 || here.Stats.Resets.Load() != 1 {
			t.Errorf("reset %+v, put out %d times, %d counted; want one reset to %d", resets, out, here.Stats.Resets.Load(), head)
		}
		here.find(lobby).Lost()
		last := ann.say(`"after"`)
		time.Sleep(time.Second)
		if resets, _ = bob.told(); len(resets) != 1 || !slices.Equal(bob.seqs()[bob.before:], []uint64{last}) {
			t.Errorf("%d resets, and then %v, want one and %d", len(resets), bob.seqs()[bob.before:], last)
		}
	})
}

// Who sits down in an epoch that its node has still to find out about has its place in it.
func TestRelay_WhoJoinsAnEpochBeforeItsNodeDoesMissesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		early, late := w.node(), w.node()
		ann, bob := early.sit(1, "ann"), late.sit(2, "bob")
		kept := ann.say(`"kept"`)
		ann.say(`"lost"`)
		synctest.Wait()
		late.on(nothing)
		w.rollBack(kept)
		<-early.find(lobby).Lost()
		asked, goOn := make(chan struct{}), make(chan struct{})
		cy := late.enter(3, "cy")
		cy.asked = func() {
			close(asked)
			<-goOn
		}
		if !cy.room.Sit(cy.seat, cy.at.Epoch, cy.at.Seq, cy.at.Seq) {
			t.Fatal("no seat")
		}
		<-asked
		first := ann.say(`"meanwhile"`)
		synctest.Wait()
		late.on(nil)
		close(goOn)
		synctest.Wait()
		last := ann.say(`"after"`)
		synctest.Wait()
		bob.resetAt(kept + 1)
		cy.has("after its join", first, last)
		if resets, _ := cy.told(); len(resets) > 0 {
			t.Errorf("who joined in the epoch was reset %+v", resets)
		}
	})
}

// What was kept at hand for who sits down is of the order that it was delivered in.
func TestRelay_WhoSitsDownBehindAResetHasNothingOfTheEpochBefore(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n := w.node()
		ann := n.sit(1, "ann")
		n.Open(lobby).Hold(&hub.Seat{})
		kept := ann.say(`"kept"`)
		ann.say(`"lost"`)
		ann.say(`"lost, too"`)
		synctest.Wait()
		w.rollBack(kept)
		<-n.find(lobby).Lost()
		cy := n.enter(3, "cy")
		ann.say(`"after"`)
		synctest.Wait()
		if !cy.room.Sit(cy.seat, cy.at.Epoch, cy.at.Seq, cy.at.Seq) {
			t.Fatal("no seat")
		}
		if got := cy.data(); !slices.Equal(got, []string{`"after"`}) {
			t.Errorf("cy got %q, want what was said in its epoch", got)
		}
	})
}

func TestRelay_WhoIsPutOutIsToldOnceAndGetsNothingMore(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.node(), w.node()
		ann, bob, cy := a.sit(1, "ann"), b.sit(2, "bob"), b.sit(3, "cy")
		if _, err := a.store.Leave(t.Context(), lobby, bob.Member, store.Known{}, "kicked", false); err != nil {
			t.Fatal(err)
		}
		kick := cy.at.Seq + 1
		last := ann.say(`"after"`)
		synctest.Wait()
		bob.has("kicked", kick-1, kick) // cy's join, and its own leave
		cy.has("not kicked", kick, last)
		if _, out := bob.told(); out != 1 {
			t.Errorf("bob was told %d times that it was put out, want once", out)
		}
		if _, out := cy.told(); out != 0 {
			t.Error("cy was told that it was put out")
		}
	})
}

func TestOpen_ARoomIsFollowedUntilItsLastReferenceIsClosed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.node(), w.node()
		ann := a.sit(1, "ann")
		first, second := b.Open(lobby), b.Open(lobby)
		if first != second || b.Len() != 1 {
			t.Errorf("two rooms for one name, %d in all", b.Len())
		}
		<-first.Ready()
		heard := func() uint64 {
			before := b.Stats.Heard.Load()
			ann.say(`"x"`)
			synctest.Wait()
			return b.Stats.Heard.Load() - before
		}
		b.Close(first)
		if got := heard(); got != 1 {
			t.Errorf("one reference is left: heard %d messages, want 1", got)
		}
		b.Close(second)
		synctest.Wait()
		if got := heard(); got != 0 || b.Len() != 0 {
			t.Errorf("no reference is left: heard %d messages, %d rooms", got, b.Len())
		}
		bob := b.sit(2, "bob")
		last := ann.say(`"again"`)
		synctest.Wait()
		bob.has("opened again", last, last)
	})
}

// Whoever comes and goes while others talk gets a run of the order without a
// hole, from its own join to its leaving.
func TestRoom_ComingAndGoingWhileOthersTalk(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.node(), w.node()
		ann := a.sit(1, "ann")
		stop := make(chan struct{})
		var all sync.WaitGroup
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					ann.wrote(ann.say(`"x"`))
				}
			}
		})
		var coming sync.WaitGroup
		for i := range uint32(6) {
			coming.Go(func() {
				for range 20 {
					g := b.open(2+i, fmt.Sprint("guest", i))
					pos := g.at.Seq
					for !g.room.Sit(g.seat, g.at.Epoch, pos, g.at.Seq) {
						page, err := g.store.Read(t.Context(), lobby, pos+1, math.MaxInt64, 50)
						if err != nil {
							t.Error(err)
							return
						}
						pos = page.Entries[len(page.Entries)-1].Seq
					}
					ann.say(`"somebody is seated"`)
					g.room.Stand(g.seat)
					g.room.Release()
					after := len(g.seqs())
					for j, ev := range g.seqs() {
						if want := g.seqs()[0] + uint64(j); ev != want || ev <= pos {
							t.Errorf("seated at %d, got %v", pos, g.seqs())
						}
					}
					if _, err := g.store.Leave(t.Context(), lobby, g.Member, store.Known{}, "left", false); err != nil {
						t.Error(err)
					}
					b.Close(g.room)
					if got := len(g.seqs()); got != after {
						t.Errorf("%d entries came after it had stood up", got-after)
					}
				}
			})
		}
		coming.Wait()
		close(stop)
		all.Wait()
		if b.Len() != 0 {
			t.Errorf("%d rooms are left", b.Len())
		}
	})
}
