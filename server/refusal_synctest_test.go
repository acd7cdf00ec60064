package server_test

import (
	"context"
	"testing"
	"time"

	"godwit/internal/trial"
	"godwit/store"
	"godwit/wire"
)

// decline refuses the offer that comes next, and says why.
func (p *person) decline(why string) (o wire.Redirect) {
	p.t.Helper()
	p.notice("redirect", &o)
	if err := p.Call(p.t.Context(), "redirect.refuse", wire.RedirectRefuse{ID: o.ID, Reason: why}, nil); err != nil {
		p.t.Fatal(err)
	}
	return o
}

// Whom the target did not take is offered the other one, once; whoever declines
// for reasons of its own, or has no other node to go to, is told bye.
func TestDrain_OffersElsewhereWhomATargetDidNotTake(t *testing.T) {
	long := func(s *trial.Settings, _ string) { s.Server.DrainBudget = time.Minute }
	for _, why := range []string{string(wire.Capacity), wire.RefusedDial, wire.RefusedClosed} {
		t.Run(why, func(t *testing.T) {
			trio(t, long, func(t *testing.T, f *trial.Fleet) {
				ann, bob, cy := follower(t, f, 1, "ann"), follower(t, f, 1, "bob"), follower(t, f, 1, "cy")
				began := time.Now()
				drainFirst(t, f, 0)
				var bye wire.Bye
				if one, two := ann.decline(why), ann.decline(why); one.URL == two.URL || one.ID == two.ID {
					t.Errorf("offered %s and then %s", one.URL, two.URL)
				}
				ann.notice("bye", &bye)
				bob.decline("mood")
				bob.notice("bye", &bye)
				cy.decline(why)
				var o wire.Redirect
				cy.notice("redirect", &o)
				if took := time.Since(began); took > time.Second {
					t.Errorf("all that took %s", took)
				}
				to := 2
				if o.URL == f.Nodes[2].URL {
					to = 3
				}
				c, _, err := handover(t, f, to, o, nil)
				if err != nil {
					t.Fatal(err)
				}
				if err := c.Call(t.Context(), "handover.done", wire.HandoverDone{ID: o.ID}, nil); err != nil {
					t.Fatal(err)
				}
				if end := drained(t, f, store.DrainDone); end.Moved != 1 || end.Refused != 2 || end.Resumed != 2 {
					t.Errorf("%+v", end.Drain)
				}
			})
		})
	}
	two(t, func(t *testing.T, f *trial.Fleet) {
		ann := follower(t, f, 1, "ann")
		drainFirst(t, f, time.Minute)
		began := time.Now()
		ann.decline(wire.RefusedDial)
		var bye wire.Bye
		ann.notice("bye", &bye)
		if took := time.Since(began); took > time.Second {
			t.Errorf("told bye after %s, with nobody else to be sent to", took)
		}
	})
}

// An offer of before the drain stands, and is taken up: the drain has moved it.
func TestDrain_CountsWhoMovesByAnOfferOfBefore(t *testing.T) {
	two(t, func(t *testing.T, f *trial.Fleet) {
		ann, bob := follower(t, f, 1, "ann"), follower(t, f, 1, "bob")
		a, b := ann.offered(), bob.offered()
		drainFirst(t, f, time.Minute)
		time.Sleep(3 * time.Second)
		take(t, f, a)
		time.Sleep(3 * time.Second)
		take(t, f, b)
		if end := drained(t, f, store.DrainDone); end.Moved != 2 || end.Resumed != 0 || end.Refused != 0 {
			t.Errorf("%+v", end.Drain)
		}
	})
}

// Who is gone, and has not moved, is no move.
func TestDrain_DoesNotCountWhoHasGone(t *testing.T) {
	two(t, func(t *testing.T, f *trial.Fleet) {
		ann, bob := follower(t, f, 1, "ann"), follower(t, f, 1, "bob")
		ann.offered()
		bob.offered()
		drainFirst(t, f, time.Minute)
		time.Sleep(time.Second)
		ann.Drop()
		if err := bob.Call(context.Background(), "bye", wire.Empty{}, nil); err != nil {
			t.Fatal(err)
		}
		if end := drained(t, f, store.DrainDone); end.Moved != 0 || end.Resumed != 0 {
			t.Errorf("%+v", end.Drain)
		}
	})
}
