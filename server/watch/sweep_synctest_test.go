package watch

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"godwit/server/wait"
	"godwit/store"
)

func (w *world) sweep(ref store.Ref, l *Lease) *Sweep {
	s := &Sweep{Store: w.store, Ref: ref, Lease: l, Log: discard}
	w.run(s.Run)
	return s
}

func TestSweep_WaitsUntilTheStoreWasGoodForAWholeLease(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.begin(ours, 1, "ann")
		if err := w.store.Detach(t.Context(), ours, "ann", 1); err != nil {
			t.Fatal(err)
		}
		l := w.hold(fine, fine)
		s := w.sweep(ours, l)
		time.Sleep(grace - time.Second)
		w.away(true)
		time.Sleep(time.Minute) // the grace ends meanwhile
		w.away(false)
		back := time.Now()
		time.Sleep(ttl - time.Millisecond)
		if got := w.state("ann"); got != store.StateDetached {
			t.Errorf("%s after the store came back the session is %q, want detached", time.Since(back), got)
		}
		time.Sleep(250*time.Millisecond + 2*sweepEvery)
		if got := w.state("ann"); got != "" || s.Ended.Load() != 1 || w.leaves()["ann"] != 1 {
			t.Errorf("a whole lease later the session is %q, %d ended, %d leaves; want it gone, once", got, s.Ended.Load(), w.leaves()["ann"])
		}
	})
}

func TestSweep_TheGraceEndsASessionOnceHoweverManySweep(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		l := w.hold(fine, fine)
		var all []*Sweep
		for i := range 3 {
			all = append(all, w.sweep(store.Ref{Node: fmt.Sprint("n", i), Boot: "b"}, l))
		}
		time.Sleep(2 * ttl)
		const sessions = 3 * sweepBatch
		for i := range sessions {
			sid := fmt.Sprint("s", i)
			w.begin(ours, uint32(i+1), sid)
			if err := w.store.Detach(t.Context(), ours, sid, 1); err != nil {
				t.Fatal(err)
			}
		}
		w.begin(ours, sessions+1, "attached")
		time.Sleep(grace - time.Second)
		if got := len(w.leaves()); got != 0 {
			t.Errorf("%d sessions left in the grace", got)
		}
		time.Sleep(3 * time.Second)
		leaves := w.leaves()
		for i := range sessions {
			if got := leaves[fmt.Sprint("s", i)]; got != 1 {
				t.Errorf("s%d left %d times, want once", i, got)
			}
		}
		var ended uint64
		for _, s := range all {
			ended += s.Ended.Load()
		}
		if ended != sessions || w.state("attached") != store.StateLive {
			t.Errorf("%d sessions ended, want %d; the attached one is %q", ended, sessions, w.state("attached"))
		}
	})
}

func TestSweep_ANodeOfTheSameNameIsToldOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		other, stop := store.Ref{Node: ours.Node, Boot: "other"}, make(chan struct{})
		before := store.Ref{Node: ours.Node, Boot: "before"}
		if err := w.store.Renew(t.Context(), store.Node{Ref: before}); err != nil {
			t.Fatal(err)
		}
		w.run(func(ctx context.Context) error {
			for wait.Pause(ctx, ttl/3) {
				select {
				case <-stop:
					return nil
				default:
				}
				if err := w.store.Renew(ctx, store.Node{Ref: other, URL: "ws://other.test"}); err != nil {
					t.Error(err)
				}
			}
			return nil
		})
		var said bytes.Buffer
		s := &Sweep{Store: w.store, Ref: ours, Lease: w.hold(fine, fine), Log: slog.New(slog.NewTextHandler(&said, nil))}
		w.run(s.Run)
		time.Sleep(5 * ttl)
		close(stop)
		time.Sleep(5 * ttl)
		synctest.Wait()
		if n := strings.Count(said.String(), "GODWIT_NODE_ID"); n != 1 || !strings.Contains(said.String(), "ws://other.test") {
			t.Errorf("told %d times, want once: %s", n, &said)
		}
	})
}

func TestSweep_ADeadNodesSessionsAreDetachedAndALiveOnesAreNot(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		dead := store.Ref{Node: "dead", Boot: "b"}
		if err := w.store.Renew(t.Context(), store.Node{Ref: dead}); err != nil {
			t.Fatal(err)
		}
		const sessions = 2*sweepBatch + 1
		for i := range sessions {
			w.begin(dead, uint32(i+1), fmt.Sprint("s", i))
		}
		w.begin(ours, 1000, "ours")
		l := w.hold(fine, fine)
		s := w.sweep(store.Ref{Node: "sweeper", Boot: "b"}, l)
		time.Sleep(ttl - time.Second)
		if got := s.Orphaned.Load(); got != 0 {
			t.Errorf("%d sessions were detached before the lease ended", got)
		}
		time.Sleep(ttl) // the sweep is settled, and looks twice a lease
		synctest.Wait()
		for i := range sessions {
			if got := w.state(fmt.Sprint("s", i)); got != store.StateDetached {
				t.Errorf("s%d is %q, want detached: its grace begins now", i, got)
			}
		}
		if got := w.state("ours"); got != store.StateLive || s.Orphaned.Load() != sessions {
			t.Errorf("a live node's session is %q; %d were detached, want %d", got, s.Orphaned.Load(), sessions)
		}
		nodes, err := w.store.Nodes(t.Context())
		if err != nil || len(nodes) != 1 || nodes[0].Ref != ours {
			t.Errorf("nodes %+v, %v, want the live one alone", nodes, err)
		}
		time.Sleep(grace + time.Second)
		if got := len(w.leaves()); got != sessions {
			t.Errorf("%d sessions have left after the grace, want %d", got, sessions)
		}
	})
}

func TestSweep_ASessionThatCameBackInItsGraceIsLeftAloneAndForgotten(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		l := w.hold(fine, fine)
		s := w.sweep(ours, l)
		w.begin(ours, 1, "ann")
		if err := w.store.Detach(t.Context(), ours, "ann", 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(grace / 2)
		if _, err := w.store.Claim(t.Context(), "ann", "", ours, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * grace)
		if got := w.state("ann"); got != store.StateLive || s.Ended.Load() != 0 {
			t.Errorf("the session is %q, %d were ended; want live, none", got, s.Ended.Load())
		}
		for _, key := range w.redis.Keys() {
			if strings.HasSuffix(key, ":detached") {
				t.Errorf("%s still names it: every sweep looks again", key)
			}
		}
	})
}
