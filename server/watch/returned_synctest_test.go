package watch

import (
	"context"
	"fmt"
	"testing"

	"godwit/store"
)

func TestSweep_ANodeThatComesBackWhileItIsSweptKeepsItsSessions(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		node := store.Ref{Node: "late", Boot: "b"}
		for i := range 3 * sweepBatch {
			w.begin(node, uint32(i+1), fmt.Sprint("s", i))
		}
		s := &Sweep{Store: w.store, Ref: ours, Log: discard}
		// dead() has read that the lease is over; now the node renews and looks
		// at each of its sessions.
		if err := w.store.Renew(t.Context(), store.Node{Ref: node}); err != nil {
			t.Fatal(err)
		}
		for i := range 3 * sweepBatch {
			if _, _, err := w.store.Retake(t.Context(), node, fmt.Sprint("s", i), 1); err != nil {
				t.Fatal(err)
			}
		}
		_ = s.orphans(context.Background(), node)
		lost := 0
		for i := range 3 * sweepBatch {
			if w.state(fmt.Sprint("s", i)) != store.StateLive {
				lost++
			}
		}
		if lost > 0 || !w.alive(node) {
			t.Errorf("%d sessions of a node that is alive were detached; node alive: %t", lost, w.alive(node))
		}
	})
}
