package server_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"godwit/internal/trial"
	asked "godwit/server/fleet"
	"godwit/store"
	"godwit/wire"
)

func TestRedirect_AnyNodeIsAskedToMoveAnySession(t *testing.T) {
	for name, target := range map[string]string{"named": "n2", "any": ""} {
		t.Run(name, func(t *testing.T) {
			two(t, func(t *testing.T, f *trial.Fleet) {
				for _, asks := range []int{0, 1} { // the session's own node, and another
					ann := follower(t, f, 1, "ann")
					id, err := f.Nodes[asks].Core.Fleet().Redirect(t.Context(), ann.session.Session, target)
					if err != nil {
						t.Fatal(err)
					}
					var o wire.Redirect
					ann.notice("redirect", &o)
					if o.ID != id || o.Reason != wire.ForAdmin || o.Final || o.URL != f.Nodes[1].URL {
						t.Errorf("offered %+v, want %s", o, id)
					}
					take(t, f, o)
					if end, err := ann.End(t.Context()); err != nil || end.Code != wire.CloseMoved {
						t.Errorf("the old socket: %v, %v", end, err)
					}
				}
			})
		})
	}
}

// An operator's word is not bound by how often a session may move.
func TestRedirect_AnOperatorMovesASessionToAndFro(t *testing.T) {
	two(t, func(t *testing.T, f *trial.Fleet) {
		ann := follower(t, f, 1, "ann")
		for i := range 6 {
			to := f.Nodes[(i+1)%2].Core.Ref().Node
			if _, err := f.Nodes[0].Core.Fleet().Redirect(t.Context(), ann.session.Session, to); err != nil {
				t.Fatalf("move %d: %v", i, err)
			}
			var o wire.Redirect
			ann.notice("redirect", &o)
			c, s, err := handover(t, f, (i+1)%2+1, o, nil)
			if err != nil {
				t.Fatal(err)
			}
			ann = &person{t: t, Conn: c, session: s}
		}
	})
}

func TestRedirect_WhatCannotBeIsSaid(t *testing.T) {
	two(t, func(t *testing.T, f *trial.Fleet) {
		ann, bob, cy := follower(t, f, 1, "ann"), enter(t, f, 1, "bob"), follower(t, f, 1, "cy")
		cy.Drop()
		synctest.Wait()
		time.Sleep(100 * time.Millisecond)
		second := f.Nodes[1].Core.Fleet()
		refused := func(name, sid, node string, says string) {
			t.Helper()
			var conflict *asked.Conflict
			if _, err := second.Redirect(t.Context(), sid, node); !errors.As(err, &conflict) || !strings.Contains(err.Error(), says) {
				t.Errorf("%s: %v, want a conflict with %q", name, err, says)
			}
		}
		if _, err := second.Redirect(t.Context(), "nobody", ""); !errors.Is(err, asked.ErrNoSession) {
			t.Errorf("an unknown session: %v", err)
		}
		if _, err := second.Redirect(t.Context(), ann.session.Session, "n9"); !errors.Is(err, asked.ErrNoNode) {
			t.Errorf("to an unknown node: %v", err)
		}
		refused("one whose client follows none", bob.session.Session, "", "follows no redirect")
		refused("a detached one", cy.session.Session, "n2", "not attached")
		refused("to where it is", ann.session.Session, "n1", "already")
		if _, err := second.Redirect(t.Context(), ann.session.Session, ""); err != nil {
			t.Fatal(err)
		}
		refused("a second offer", ann.session.Session, "n2", "stands")
		drainFirst(t, f, time.Hour)
		refused("to a node that drains", ann.session.Session, "n1", "draining")
		if _, err := second.Undrain(t.Context(), "n1"); err != nil {
			t.Fatal(err)
		}
		dan := follower(t, f, 2, "dan")
		ended := make(chan error, 1)
		go func() { ended <- f.Nodes[0].Core.Drain(context.Background()) }()
		time.Sleep(time.Second)
		refused("with nobody to go to", dan.session.Session, "", "no node")
		<-ended
	})
}

// A node that is cut off from the store says nothing: who asked is told so.
func TestRedirect_AnAnswerThatDoesNotComeIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := trial.Start(trial.Options{Nodes: 2, Bubble: true, Change: func(s *trial.Settings) {
			s.Store.Lease, s.Server.Lease = time.Minute, time.Minute // it stays alive in the fleet's eyes
		}})
		defer f.Close()
		time.Sleep(3 * time.Second)
		ann := follower(t, f, 1, "ann")
		f.Nodes[0].Part()
		began := time.Now()
		_, err := f.Nodes[1].Core.Fleet().Redirect(t.Context(), ann.session.Session, "n2")
		if !errors.Is(err, asked.ErrNoAnswer) || time.Since(began) > 7*time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		if d, err := f.Nodes[1].Core.Fleet().Drain(t.Context(), "n1", time.Hour); err != nil || d.State != asked.Ordered {
			t.Errorf("its drain: %+v, %v", d, err)
		}
		f.Nodes[0].Join()
		if d := drained(t, f, store.DrainRunning); d.Left != 1 {
			t.Errorf("its drain, once it is back: %+v", d.Drain)
		}
	})
}
