package server_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"godwit/internal/trial"
	"godwit/wire"
)

// Whether the fleet is known to be so, or was looked at a moment before.
func TestRequest_ForANodeThatDrainsIsNoTarget(t *testing.T) {
	for name, known := range map[string]time.Duration{"known": time.Second, "not known yet": 0} {
		t.Run(name, func(t *testing.T) {
			trio(t, stale, func(t *testing.T, f *trial.Fleet) {
				ann, bob := follower(t, f, 1, "ann"), follower(t, f, 1, "bob")
				bob.offered() // the fleet is looked at
				if err := f.Nodes[1].Core.Drain(context.Background()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(known)
				began := time.Now()
				err := ann.Call(t.Context(), "redirect.request", wire.RedirectRequest{Node: "n2"}, nil)
				if took := time.Since(began); reason(err) != wire.NoTarget || took > time.Second {
					t.Errorf("to n2, which drains: %v after %s, want no_target at once", err, took)
				}
				if err := ann.Call(t.Context(), "redirect.request", wire.RedirectRequest{Node: "n3"}, nil); err != nil {
					t.Errorf("to n3: %v", err)
				}
				var o wire.Redirect
				if ann.notice("redirect", &o); o.URL != f.Nodes[2].URL {
					t.Errorf("offered %s, want n3 alone", o.URL)
				}
			})
		})
	}
}

// More than its rate are not even looked at; of the others one leads to an offer.
func TestRequest_AFloodIsLimitedAndLeadsToOneOfferAtMost(t *testing.T) {
	const burst, flood = 20, 100
	limited := func(s *trial.Settings, node string) {
		stale(s, node)
		s.Server.Rate, s.Server.Burst = 2, burst
	}
	for node, c := range map[string]struct {
		answer wire.Reason
		offers int
	}{
		"":     {"", 1},
		"n2":   {"", 1},
		"n1":   {wire.NoTarget, 0}, // its own
		"none": {wire.NoTarget, 0},
	} {
		t.Run("to "+node, func(t *testing.T) {
			trio(t, limited, func(t *testing.T, f *trial.Fleet) {
				ann := follower(t, f, 1, "ann")
				got := make(map[wire.Reason]int) // "": done
				var last error
				for range flood {
					last = ann.Call(t.Context(), "redirect.request", wire.RedirectRequest{Node: node}, nil)
					if got[reason(last)]++; last != nil && reason(last) == "" {
						t.Fatal(last)
					}
				}
				if got[c.answer] != burst || got[wire.RateLimited] != flood-burst {
					t.Errorf("answered %v, want %d times %q, and rate_limited", got, burst, c.answer)
				}
				e, ok := last.(*wire.Error)
				if !ok || !e.Data.Retry || e.Data.RetryAfterMS < 1 || e.Data.RetryAfterMS > 500 {
					t.Errorf("the last: %+v, want to be told to come again within 500 ms", last)
				}
				synctest.Wait()
				if n := f.Nodes[0].Core.Stats().Offers; n != c.offers {
					t.Errorf("%d offers stand, want %d", n, c.offers)
				}
				if n := f.Nodes[1].Core.Stats().Places + f.Nodes[2].Core.Stats().Places; n != c.offers {
					t.Errorf("%d places are kept, want %d", n, c.offers)
				}
				var o wire.Redirect
				for range c.offers {
					ann.notice("redirect", &o)
				}
				time.Sleep(10 * time.Second)
				if err := ann.Call(t.Context(), "redirect.refuse", wire.RedirectRefuse{ID: o.ID}, nil); err != nil {
					t.Errorf("a while later: %v", err)
				}
				ann.seesNothing(5 * time.Second)
			})
		})
	}
}
