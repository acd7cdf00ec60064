package watch

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"godwit/store"
)

var ours = store.Ref{Node: "ours", Boot: "b"}

// hold runs a lease that is held, and returns it at a moment when it has just
// been renewed.
func (w *world) hold(whole, reclaim func(context.Context) error) *Lease {
	w.Helper()
	l := NewLease(w.store, ttl, func() store.Node {
		return store.Node{Ref: ours, State: store.NodeReady, Started: time.Now()}
	}, whole, reclaim, discard)
	w.run(l.Run)
	<-l.Joined()
	synctest.Wait()
	return l
}

// alive says whether the fleet sees the node's lease.
func (w *world) alive(ref store.Ref) bool {
	w.Helper()
	nodes, err := w.store.Nodes(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	for _, n := range nodes {
		if n.Ref == ref {
			return n.Alive
		}
	}
	return false
}

func TestLease_StandsForAsLongAsTheStoreAnswers(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		l := w.hold(fine, fine)
		for range 600 { // looks at all moments between two renewals
			time.Sleep(101 * time.Millisecond)
			if l.Fenced(time.Now()) || !l.Reachable() {
				t.Fatalf("fenced %t, reachable %t", l.Fenced(time.Now()), l.Reachable())
			}
		}
		if !w.alive(ours) {
			t.Error("the fleet does not see the lease")
		}
	})
}

func TestLease_FencesAtNineTenthsAndBeforeTheFleetSeesItEnd(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		l := w.hold(fine, fine)
		renewed := time.Now()
		w.away(true)
		time.Sleep(time.Until(renewed.Add(ttl*9/10 - time.Millisecond)))
		if l.Fenced(time.Now()) {
			t.Errorf("fenced %s after the last renewal", time.Since(renewed))
		}
		if l.Reachable() || l.Settled(time.Now()) {
			t.Errorf("reachable %t, settled %t without a store", l.Reachable(), l.Settled(time.Now()))
		}
		time.Sleep(time.Millisecond)
		if !l.Fenced(time.Now()) {
			t.Errorf("not fenced %s after the last renewal", time.Since(renewed))
		}
		if !w.redis.Exists("gw:{n:ours/b}:lease") {
			t.Error("the fleet saw the lease end before the node did")
		}
		time.Sleep(ttl / 5)
		if w.redis.Exists("gw:{n:ours/b}:lease") {
			t.Error("the lease stands on without a renewal")
		}
	})
}

func TestLease_WritesAgainOnlyAfterEachSessionWasLookedAt(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var looks, fails atomic.Int32
		var l *Lease
		l = w.hold(fine, func(context.Context) error {
			looks.Add(1)
			if !l.Fenced(time.Now()) {
				t.Error("writes are allowed while sessions are looked at")
			}
			if fails.Add(-1) >= 0 {
				return errors.New("a look that fails")
			}
			return nil
		})
		if looks.Load() != 0 {
			t.Error("sessions were looked at at the first renewal")
		}
		fails.Store(3)
		w.away(true)
		time.Sleep(time.Minute)
		if looks.Load() != 0 || !l.Fenced(time.Now()) {
			t.Errorf("%d looks, fenced %t without a store", looks.Load(), l.Fenced(time.Now()))
		}
		w.away(false)
		back := time.Now()
		for l.Fenced(time.Now()) && time.Since(back) < time.Minute {
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(back); took > 2*time.Second || looks.Load() != 4 {
			t.Errorf("unfenced %s after the store came back, after %d looks; want 4 looks in 2s", took, looks.Load())
		}
		// An outage that is shorter than the lease needs no look.
		w.away(true)
		time.Sleep(ttl / 2)
		w.away(false)
		time.Sleep(ttl)
		if looks.Load() != 4 || l.Fenced(time.Now()) {
			t.Errorf("%d looks after a short outage, fenced %t", looks.Load(), l.Fenced(time.Now()))
		}
	})
}

func TestLease_IsSettledAfterOneWholeLeaseOfAGoodStore(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		l := w.hold(fine, fine)
		settles := func(what string) {
			t.Helper()
			began := time.Now()
			for !l.Settled(time.Now()) && time.Since(began) < time.Minute {
				time.Sleep(10 * time.Millisecond)
			}
			// The store is asked again within 250 ms.
			if took := time.Since(began); took < ttl || took > ttl+300*time.Millisecond {
				t.Errorf("%s: settled after %s, want %s", what, took, ttl)
			}
		}
		settles("joined")
		w.away(true)
		time.Sleep(ttl / 2) // long enough that a renewal fails
		if l.Settled(time.Now()) {
			t.Error("settled without a store")
		}
		w.away(false)
		settles("the store is back")
	})
}

func TestLease_IsNotHeldBeforeAWipedStoreKnowsTheNodeAgain(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var wiped atomic.Bool
		l := w.hold(func(context.Context) error {
			if wiped.Load() {
				return errors.New("not registered again yet")
			}
			return nil
		}, fine)
		wiped.Store(true)
		time.Sleep(ttl)
		if !l.Fenced(time.Now()) {
			t.Error("held although the store does not know the sessions")
		}
		wiped.Store(false)
		time.Sleep(time.Second)
		if l.Fenced(time.Now()) {
			t.Error("still fenced")
		}
	})
}

func TestLease_AKickWritesTheRecordAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		state := store.NodeReady
		l := NewLease(w.store, ttl, func() store.Node {
			return store.Node{Ref: ours, State: state}
		}, fine, fine, discard)
		w.run(l.Run)
		<-l.Joined()
		synctest.Wait()
		state = store.NodeDraining
		l.Kick()
		synctest.Wait()
		if got := w.redis.HGet("gw:{n:ours/b}:record", "state"); got != store.NodeDraining {
			t.Errorf("the record says %q, want %q", got, store.NodeDraining)
		}
	})
}

// Others send nobody to a node that they believe to be joining.
func TestLease_TheFleetKnowsAtOnceThatANodeHasJoined(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var l *Lease
		l = NewLease(w.store, ttl, func() store.Node {
			n := store.Node{Ref: ours, State: store.NodeJoining}
			if l.Held() {
				n.State = store.NodeReady
			}
			return n
		}, fine, fine, discard)
		w.run(l.Run)
		<-l.Joined()
		nodes, err := w.store.Nodes(t.Context())
		if err != nil || len(nodes) != 1 || nodes[0].State != store.NodeReady {
			t.Errorf("the fleet sees %+v, %v, want it ready", nodes, err)
		}
	})
}
