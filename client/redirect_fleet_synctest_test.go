package client_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"godwit/client"
	"godwit/internal/trial"
	"godwit/wire"
)

func TestRedirect_AtRealNodesNothingIsLostOrDoubled(t *testing.T) {
	const each = 400
	synctest.Test(t, func(t *testing.T) {
		f := trial.Start(trial.Options{Nodes: 4, Bubble: true})
		defer f.Close()
		var moves, others atomic.Int32
		at := func(user string, node int) *client.Client {
			c, err := client.Dial(t.Context(), client.Options{
				URLs: []string{f.Nodes[node].URL}, Dial: f.Dial,
				Token: func(context.Context) (string, error) { return "dev:" + user, nil },
				OnState: func(s client.State) {
					if _, ok := s.(client.Redirected); ok {
						moves.Add(1)
					} else {
						others.Add(1)
					}
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Join(t.Context(), "r"); err != nil {
				t.Fatal(err)
			}
			return c
		}
		ann, bob := at("ann", 0), at("bob", 1)
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := range each {
				if _, err := ann.Send(t.Context(), "r", i); err != nil {
					t.Errorf("send %d: %v", i, err)
					return
				}
				time.Sleep(time.Millisecond)
			}
		})
		wg.Go(func() { // both are led about meanwhile, each to where it was not yet
			for _, node := range []string{"n3", "n4"} {
				for _, c := range []*client.Client{ann, bob} {
					if err := c.RequestRedirect(t.Context(), node); err != nil {
						t.Errorf("redirect to %s: %v", node, err)
					}
				}
				time.Sleep(150 * time.Millisecond)
			}
		})
		if _, err := bob.Next(t.Context()); err != nil { // Joined
			t.Fatal(err)
		}
		for i := range each {
			e, err := bob.Next(t.Context())
			if _, ok := e.(client.PresenceChanged); ok { // ann's
				e, err = bob.Next(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			if m, ok := e.(*wire.RoomEvent); !ok || m.Kind != wire.KindMessage || string(m.Data) != fmt.Sprint(i) {
				t.Fatalf("event is %+v, want message %d", e, i)
			}
		}
		wg.Wait()
		if moves.Load() != 4 || others.Load() != 2 {
			t.Errorf("%d redirects and %d other states, want 4, and 2 of the logins", moves.Load(), others.Load())
		}
		for _, c := range []*client.Client{ann, bob} {
			if s := c.Session(); s.Node != "n4" || s.Gen != 3 {
				t.Errorf("%s is at %s by gen %d, want n4 by 3", s.User, s.Node, s.Gen)
			}
			if err := c.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
}
