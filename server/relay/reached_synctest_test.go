package relay

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func over(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// knows expects the keeper of rosters to have been told that.
func (n *node) knows(t *testing.T, what string) {
	t.Helper()
	n.kept.mu.Lock()
	defer n.kept.mu.Unlock()
	if !slices.Contains(n.kept.said, what) {
		t.Errorf("the roster was told %q, not of %q", n.kept.said, what)
	}
}

func TestRoom_WhoWaitsForAHeadIsNotBeforeWhatLeadsThere(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n := w.node()
		ann := n.sit(1, "ann")
		n.on(nothing)
		bob := w.node().sit(2, "bob")
		synctest.Wait()
		now, later := ann.room.Reached(ann.at.Epoch, ann.at.Seq), ann.room.Reached(bob.at.Epoch, bob.at.Seq)
		synctest.Wait()
		if !over(now) || over(later) {
			t.Errorf("reached are %t and %t, want the first alone", over(now), over(later))
		}
		n.on(nil)
		bob.wrote(bob.at.Seq) // and says so again
		time.Sleep(2 * time.Second)
		if !over(later) {
			t.Error("the hole is filled, and it is not reached")
		}
		n.knows(t, "2 join bob")
	})
}

func TestRoom_WithoutAnOrderBeginsItWhereSomebodyWaits(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n := w.node()
		ann := n.enter(1, "ann")
		if !over(ann.room.Reached(ann.at.Epoch, ann.at.Seq)) {
			t.Error("its head is not reached")
		}
		bob := w.node().sit(2, "bob")
		synctest.Wait()
		if !over(ann.room.Reached(bob.at.Epoch, bob.at.Seq)) {
			t.Error("what came after it is not reached")
		}
		n.knows(t, "2 join bob")
	})
}

func TestRoom_WhoseOrderIsLostLetsNobodyWait(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n := w.node()
		ann := n.sit(1, "ann")
		waits := ann.room.Reached(ann.at.Epoch, 99)
		if over(waits) {
			t.Fatal("it is reached")
		}
		lost := ann.room.Lost()
		if !over(waits) || !over(ann.room.Reached(ann.at.Epoch, 99)) || !over(ann.room.Reached("another", 1)) {
			t.Error("somebody waits for an order that is over")
		}
		<-lost
	})
}
