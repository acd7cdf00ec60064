package server_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2/server"

	"godwit/internal/trial"
	"godwit/rules/drain"
	"godwit/store"
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

// The token was signed before its target was asked: what is left of it is told.
func TestOffer_TellsHowLongItStillHolds(t *testing.T) {
	trio(t, stale, func(t *testing.T, f *trial.Fleet) {
		f.Nodes[2].Cut()
		time.Sleep(time.Second)
		ann := follower(t, f, 1, "ann")
		f.Nodes[1].Part()
		first, second := f.Nodes[0], f.Nodes[1].Core.Ref()
		if err := first.Store.Tell(t.Context(), first.Core.Ref(), store.Word{What: store.WordMove, Session: ann.session.Session, Offer: "o1"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // so long is its word on the way
		w := store.Word{What: store.WordPrepared, Offer: "o1", Node: second.Node, Boot: second.Boot}
		if err := first.Store.Tell(t.Context(), first.Core.Ref(), w); err != nil {
			t.Fatal(err)
		}
		var o wire.Redirect
		ann.notice("redirect", &o)
		if o.ExpiresInMS < 13_900 || o.ExpiresInMS > 14_000 {
			t.Errorf("it holds for %d ms, want 14,000", o.ExpiresInMS)
		}
		f.Nodes[1].Join()
	})
}

// A node that is gone, and has the least by what is known of it, is asked by its
// share of those who may ask at once, and by nobody after them.
func TestDrain_MovesAllThoughOneOfTheOthersIsSilent(t *testing.T) {
	// They are begun within 2.3 s, the last of them when the first ask has come to
	// nothing, after 1.5 s; who is left after 5.4 s would be told bye.
	const many, settled = 450, 100
	share := drain.Asks(drain.Offers) / 2
	paced := func(s *trial.Settings, node string) {
		stale(s, node)
		s.Server.DrainBudget = 8 * time.Second
	}
	trio(t, paced, func(t *testing.T, f *trial.Fleet) {
		for i := range settled {
			enter(t, f, 3, fmt.Sprint("cy", i))
		}
		moves := make(chan passage, many)
		var following sync.WaitGroup
		for i := range many {
			p := follower(t, f, 1, fmt.Sprint("u", i))
			following.Go(func() { p.follow(f, moves) })
		}
		time.Sleep(4 * time.Second)
		f.Nodes[1].Part()
		asks := asksOf(f, "n2")
		if err := f.Nodes[0].Core.Drain(context.Background()); err != nil {
			t.Errorf("drain: %v", err)
		}
		if n := len(moves); n != many {
			t.Errorf("%d of %d moved", n, many)
		}
		if n := asks.Load(); n != int64(share) {
			t.Errorf("the silent node was asked %d times, want %d", n, share)
		}
		for _, n := range f.Nodes {
			n.Cut()
		}
		following.Wait()
	})
}

// asksOf counts from now on how often a node is asked for a place.
func asksOf(f *trial.Fleet, node string) *atomic.Int64 {
	var n atomic.Int64
	f.Redis.Server().SetPreHook(func(_ *server.Peer, cmd string, args ...string) bool {
		if cmd == "PUBLISH" && strings.Contains(args[0], node+"/") && strings.Contains(args[1], `"what":"prepare"`) {
			n.Add(1)
		}
		return false
	})
	return &n
}

// The only other node cannot be asked yet, with most of the budget left: who is
// due waits, and is not sent to resume on it either.
func TestDrain_WaitsForANodeThatCannotBeAskedYet(t *testing.T) {
	for name, c := range map[string]struct {
		first func(f *trial.Fleet)
		want  string
		by    time.Duration
	}{
		"for it is frozen": {func(f *trial.Fleet) {
			f.Nodes[1].Part()
			time.AfterFunc(1500*time.Millisecond, f.Nodes[1].Join)
		}, "redirect", 8 * time.Second},
		"for it has yet to join": {func(f *trial.Fleet) { // until it says otherwise, once in a third of its lease
			at := f.Nodes[1].Core.Ref()
			f.Redis.HSet(fmt.Sprintf("gw:{n:%s/%s}:record", at.Node, at.Boot), "state", store.NodeJoining)
		}, "redirect", 8 * time.Second},
		"but not for ever": {func(f *trial.Fleet) { f.Nodes[1].Part() }, "bye", 30 * time.Second},
		"nor for one that drains": {func(f *trial.Fleet) {
			_ = f.Nodes[1].Core.Drain(context.Background())
			time.Sleep(time.Second)
		}, "bye", time.Second / 2},
		"nor for one that is gone": {func(f *trial.Fleet) { f.Nodes[1].Cut(); time.Sleep(time.Second) }, "bye", time.Second / 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := trial.Start(trial.Options{Nodes: 2, Bubble: true, Change: func(s *trial.Settings) {
					stale(s, "")
					s.Server.DrainBudget = time.Minute
				}})
				defer f.Close()
				time.Sleep(3500 * time.Millisecond)
				ann := follower(t, f, 1, "ann")
				c.first(f)
				began, ended := time.Now(), make(chan error, 1)
				go func() { ended <- f.Nodes[0].Core.Drain(context.Background()) }()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				n, err := ann.next(ctx)
				if took := time.Since(began); err != nil || n.Method != c.want || took > c.by {
					t.Errorf("told %s after %s, %v; want %s", n.Method, took, err, c.want)
				}
				ann.Drop()
				<-ended
			})
		})
	}
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
