package server_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"godwit/internal/trial"
	"godwit/wire"
)

// stale has a lease that stands long after its node is gone.
func stale(s *trial.Settings, _ string) {
	s.Server.Lease, s.Store.Lease = 10*time.Second, 10*time.Second
}

// Its lease stands for a while, and says that it has the least: it is asked once,
// and not by each offer again.
func TestOffer_ATargetThatDiedIsPassedOver(t *testing.T) {
	trio(t, stale, func(t *testing.T, f *trial.Fleet) {
		enter(t, f, 3, "cy")
		time.Sleep(4 * time.Second)
		f.Nodes[1].Part()
		for i := range 4 {
			ann := follower(t, f, 1, fmt.Sprint("ann", i))
			began := time.Now()
			o := ann.offered()
			took := time.Since(began)
			if o.URL != f.Nodes[2].URL {
				t.Errorf("offered %s, which is dead", o.URL)
			}
			if waits := took > time.Second; waits != (i == 0) {
				t.Errorf("offer %d took %s", i, took)
			}
		}
		f.Nodes[1].Join()
		time.Sleep(6 * time.Second)
		seen := false
		for i := range 4 { // it has the least, and is asked again
			seen = seen || follower(t, f, 1, fmt.Sprint("bob", i)).offered().URL == f.Nodes[1].URL
		}
		if !seen {
			t.Error("a node that is back is offered to nobody")
		}
	})
}

// Where there is no other, it is asked all the same.
func TestOffer_ATargetThatWasSilentIsAskedWhereThereIsNoOther(t *testing.T) {
	trio(t, stale, func(t *testing.T, f *trial.Fleet) {
		f.Nodes[2].Cut()
		time.Sleep(time.Second)
		ann := follower(t, f, 1, "ann")
		f.Nodes[1].Part()
		if err := ann.Call(t.Context(), "redirect.request", wire.RedirectRequest{}, nil); reason(err) != wire.NoTarget {
			t.Errorf("while it is away: %v, want no_target", err)
		}
		f.Nodes[1].Join()
		time.Sleep(2 * time.Second)
		if o := ann.offered(); o.URL != f.Nodes[1].URL {
			t.Errorf("offered %s", o.URL)
		}
	})
}

// A node that is gone, and has the least by what is known of it, is asked by as
// many as may ask at once, and by nobody after them.
func TestDrain_MovesAllThoughOneOfTheOthersIsSilent(t *testing.T) {
	const many = 120
	short := func(s *trial.Settings, node string) {
		stale(s, node)
		s.Server.DrainBudget = 3 * time.Second
	}
	trio(t, short, func(t *testing.T, f *trial.Fleet) {
		enter(t, f, 3, "cy")
		moves := make(chan passage, many)
		var following sync.WaitGroup
		for i := range many {
			p := follower(t, f, 1, fmt.Sprint("u", i))
			following.Go(func() { p.follow(f, moves) })
		}
		time.Sleep(4 * time.Second)
		f.Nodes[1].Part()
		if err := f.Nodes[0].Core.Drain(context.Background()); err != nil {
			t.Errorf("drain: %v", err)
		}
		if n := len(moves); n != many {
			t.Errorf("%d of %d moved", n, many)
		}
		for _, n := range f.Nodes {
			n.Cut()
		}
		following.Wait()
	})
}

// Every node of the newest revision is full, and one of an older has room.
func TestOffer_AsksOnWhileOthersRemain(t *testing.T) {
	const nodes = 7
	synctest.Test(t, func(t *testing.T) {
		f := trial.Start(trial.Options{Nodes: nodes, Bubble: true, Change: func(s *trial.Settings) {
			stale(s, s.Server.Node.Node)
			if n := s.Server.Node.Node; n != "n1" && n != "n2" {
				s.Server.Revision, s.Server.MaxSessions = "new", 1
			}
		}})
		defer f.Close()
		for i := 2; i < nodes; i++ { // later, so that their revision is the newest
			f.Nodes[i].Cut()
			time.Sleep(time.Second)
			f.Restart(i)
			enter(t, f, i+1, fmt.Sprint("cy", i))
		}
		ann := follower(t, f, 1, "ann")
		time.Sleep(4 * time.Second)
		if o := ann.offered(); o.URL != f.Nodes[1].URL {
			t.Errorf("offered %s, which is full", o.URL)
		}
	})
}
