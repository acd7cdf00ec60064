package server_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/go-json-experiment/json"

	"godwit/internal/trial"
	"godwit/store"
	"godwit/wire"
)

// drawn drains node 1 of a fleet of three, of so many who follow offers but to a
// node that they cannot reach, which they say or not, and returns who has moved
// after a while; end waits for the end of the drain.
func drawn(t *testing.T, f *trial.Fleet, many int, lost string, says, after time.Duration) (moves chan passage, end func()) {
	t.Helper()
	moves = make(chan passage, many)
	var following sync.WaitGroup
	for i := range many {
		p := follower(t, f, 1, fmt.Sprint("u", i))
		p.lost, p.says = lost, says
		following.Go(func() { p.follow(f, moves) })
	}
	ended := make(chan error, 1)
	go func() { ended <- f.Nodes[0].Core.Drain(context.Background()) }()
	time.Sleep(after)
	return moves, func() {
		if err := <-ended; err != nil {
			t.Errorf("drain: %v", err)
		}
		for _, n := range f.Nodes {
			n.Cut()
		}
		following.Wait()
	}
}

// late has a node's words of a kind come so much later.
func late(f *trial.Fleet, node, what string, by time.Duration) {
	f.Redis.Server().SetPreHook(func(p *server.Peer, cmd string, args ...string) bool {
		if cmd != "PUBLISH" || !strings.Contains(args[1], `"what":"`+what+`"`) || !strings.Contains(args[1], `"node":"`+node+`"`) {
			return false
		}
		time.AfterFunc(by, func() { f.Redis.Publish(args[0], args[1]) })
		p.WriteInt(1)
		return true
	})
}

// It keeps a place for each who is to come, but takes its time to say so: who is
// asked to move to the other does not wait for it.
func TestDrain_ATargetThatIsSlowToAnswerHoldsUpNobodyElse(t *testing.T) {
	const many = 60
	trio(t, few, func(t *testing.T, f *trial.Fleet) {
		late(f, "n2", "prepared", 1200*time.Millisecond)
		moves, end := drawn(t, f, many, "", 0, time.Second)
		n := len(moves)
		for range n {
			if m := <-moves; m.to != f.Nodes[2].URL {
				t.Errorf("%s has moved to %s", m.user, m.to)
			}
		}
		if n != many-1 { // two may be asked at once
			t.Errorf("%d of %d have moved before the slow one answers, want all but the one that it is asked for", n, many)
		}
		end()
		if n += len(moves); n != many {
			t.Errorf("%d of %d moved", n, many)
		}
	})
}

// It answers at once, but nobody who is sent there gets there: offers to it stand
// until they end by themselves.
func TestDrain_ATargetThatNobodyReachesHoldsUpNobodyElse(t *testing.T) {
	const many = 60
	trio(t, few, func(t *testing.T, f *trial.Fleet) {
		moves, end := drawn(t, f, many, f.Nodes[1].URL, 0, 3*time.Second)
		if n := len(moves); n != many-fewOffers/2 {
			t.Errorf("%d of %d have moved, want all but the %d that one of two may hold", n, many, fewOffers/2)
		}
		end()
	})
}

// It is the only one of the newest revision, so that each offer is of it, until the
// first ones have said that they do not find it: a revision that is broken holds no
// drain up for longer than that.
func TestDrain_ATargetThatClientsDoNotFindIsPassedOver(t *testing.T) {
	const many, dials = 60, 8 * time.Second
	newest := func(s *trial.Settings, node string) {
		few(s, node)
		if s.Server.DrainBudget = time.Minute; node == "n2" {
			s.Server.Revision = "new"
		}
	}
	trio(t, newest, func(t *testing.T, f *trial.Fleet) {
		f.Nodes[1].Cut()
		time.Sleep(time.Second)
		f.Restart(1) // later, so that its revision is the newest
		for i := range many {
			enter(t, f, 3, fmt.Sprint("cy", i)) // the other one has more than its share
		}
		time.Sleep(4 * time.Second)
		moves, end := drawn(t, f, many, f.Nodes[1].URL, dials, dials+2*time.Second)
		// Eight have to say so, and in the place of each but the last one more is sent.
		if n := len(moves); n < many-7 {
			t.Errorf("%d of %d have moved 2 s after the first said so, want all but 7", n, many)
		}
		end()
		if n := len(moves); n != many {
			t.Errorf("%d of %d moved", n, many)
		}
	})
}

// Nobody takes an offer up: the drain waits, and makes another where one has ended.
func TestDrain_WaitsWhereEachTargetHoldsItsShare(t *testing.T) {
	trio(t, few, func(t *testing.T, f *trial.Fleet) {
		type offer struct {
			wire.Redirect
			to *person
		}
		offers := make(chan offer, 100)
		var listening sync.WaitGroup
		for i := range 40 {
			p := follower(t, f, 1, fmt.Sprint("u", i))
			listening.Go(func() {
				for {
					n, err := p.next(context.Background())
					if err != nil {
						return
					}
					if o := (offer{to: p}); n.Method == "redirect" && json.Unmarshal(n.Params, &o.Redirect) == nil {
						offers <- o
					}
				}
			})
		}
		ended := make(chan error, 1)
		go func() { ended <- f.Nodes[0].Core.Drain(context.Background()) }()
		time.Sleep(3 * time.Second)
		held := make(map[string][]offer)
		for range len(offers) {
			o := <-offers
			held[o.URL] = append(held[o.URL], o)
		}
		for _, n := range f.Nodes[1:] {
			if got := len(held[n.URL]); got != fewOffers/2 {
				t.Errorf("%d are offered %s, want %d", got, n.URL, fewOffers/2)
			}
		}
		for _, n := range f.Nodes[1:] {
			gone := held[n.URL][0]
			gone.to.Drop()
			time.Sleep(time.Second)
			if len(offers) != 1 {
				t.Fatalf("%d offers after the end of one, want 1", len(offers))
			}
			if next := <-offers; next.URL != n.URL {
				t.Errorf("offered %s, where one of %s has ended", next.URL, n.URL)
			}
		}
		for _, n := range f.Nodes {
			n.Cut()
		}
		<-ended
		listening.Wait()
	})
}

// Whatever an offer comes to, it is under way no more after that.
func TestOffer_ThatIsOverOrNeverWasHoldsNoShare(t *testing.T) {
	full := func(s *trial.Settings, node string) {
		stale(s, node)
		if node != "n1" {
			s.Server.MaxSessions = 1
		}
	}
	fleetwide := func(s *trial.Settings, _ string) { s.Server.URL, s.Server.PublicURL = "", "wss://fleet.test/v1/ws" }
	asks := func(t *testing.T, p *person, want wire.Reason) {
		t.Helper()
		if err := p.Call(t.Context(), "redirect.request", wire.RedirectRequest{}, nil); reason(err) != want {
			t.Errorf("answered %v, want %q", err, want)
		}
	}
	refused := func(t *testing.T, p *person) {
		t.Helper()
		if err := p.Call(t.Context(), "redirect.refuse", wire.RedirectRefuse{ID: p.offered().ID}, nil); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		change func(*trial.Settings, string)
		offer  func(t *testing.T, f *trial.Fleet, ann *person)
	}{
		"denied": {full, func(t *testing.T, f *trial.Fleet, ann *person) {
			enter(t, f, 2, "bob")
			enter(t, f, 3, "cy")
			asks(t, ann, wire.NoTarget)
		}},
		"not answered": {stale, func(t *testing.T, f *trial.Fleet, ann *person) {
			f.Nodes[1].Part()
			f.Nodes[2].Part()
			asks(t, ann, wire.NoTarget)
			f.Nodes[1].Join()
			f.Nodes[2].Join()
		}},
		"refused":                 {stale, func(t *testing.T, _ *trial.Fleet, ann *person) { refused(t, ann) }},
		"of any node and refused": {fleetwide, func(t *testing.T, _ *trial.Fleet, ann *person) { refused(t, ann) }},
		"of the slower of two": {stale, func(t *testing.T, f *trial.Fleet, ann *person) {
			late(f, "n2", "prepared", time.Second)
			self := f.Nodes[0]
			w := store.Word{What: store.WordMove, Session: ann.session.Session, Offer: "o1", Target: "n2"}
			if err := self.Store.Tell(t.Context(), self.Core.Ref(), w); err != nil {
				t.Fatal(err)
			}
			synctest.Wait() // it asks by now
			if n := self.Core.Stats().Offers; n != 0 {
				t.Errorf("%d offers stand while a place is asked for, want none", n)
			}
			var o wire.Redirect
			if err := ann.Call(t.Context(), "redirect.request", wire.RedirectRequest{Node: "n3"}, nil); err != nil {
				t.Fatal(err)
			}
			ann.notice("redirect", &o)
			time.Sleep(2 * time.Second)
			if n := self.Core.Stats().Offers; n != 1 {
				t.Errorf("%d offers stand, want 1", n)
			}
			if err := ann.Call(t.Context(), "redirect.refuse", wire.RedirectRefuse{ID: o.ID}, nil); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			trio(t, c.change, func(t *testing.T, f *trial.Fleet) {
				c.offer(t, f, follower(t, f, 1, "ann"))
				synctest.Wait()
				if n := f.Nodes[0].Core.Stats().Offers; n != 0 {
					t.Errorf("%d offers stand, want none", n)
				}
			})
		})
	}
}

// fewOffers is how many may be under way in a fleet of few.
const fewOffers = 16

func few(s *trial.Settings, node string) {
	stale(s, node)
	s.Server.Offers, s.Server.DrainBudget = fewOffers, 20*time.Second
}
