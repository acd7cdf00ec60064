package server_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"godwit/e2e/raw"
	"godwit/internal/trial"
	asked "godwit/server/fleet"
	"godwit/store"
	"godwit/wire"
)

// admitted says whether a node lets a socket in, and if not, how it refuses.
func admitted(t *testing.T, f *trial.Fleet, node int) error {
	t.Helper()
	conn, err := f.Dial(t.Context(), "tcp", strings.TrimSuffix(strings.TrimPrefix(f.Nodes[node-1].URL, "ws://"), "/"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := raw.Over(conn, f.Nodes[node-1].URL, nil)
	if err == nil {
		c.Drop()
	}
	return err
}

// drainFirst has node 2 asked to drain node 1.
func drainFirst(t *testing.T, f *trial.Fleet, budget time.Duration) asked.Drain {
	t.Helper()
	d, err := f.Nodes[1].Core.Fleet().Drain(t.Context(), "n1", budget)
	if err != nil || d.State != store.DrainRunning || d.By != store.ByOperator || d.Node.Node != "n1" {
		t.Fatalf("asked to drain: %+v, %v", d, err)
	}
	return d
}

// drained waits until node 2 tells that the drain of node 1 is in a state.
func drained(t *testing.T, f *trial.Fleet, state string) asked.Drain {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		d, err := f.Nodes[1].Core.Fleet().Drained(t.Context(), "n1")
		if err != nil {
			t.Fatal(err)
		}
		if d.State == state {
			return d
		}
		if time.Now().After(deadline) {
			t.Fatalf("the drain stays %+v, want %s", d, state)
		}
	}
}

func nodeState(t *testing.T, f *trial.Fleet, name string) string {
	t.Helper()
	n, err := f.Nodes[1].Core.Fleet().Node(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return n.State
}

// take shows an offer to node 2, and says that the old socket is not needed.
func take(t *testing.T, f *trial.Fleet, o wire.Redirect) {
	t.Helper()
	c, _, err := handover(t, f, 2, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Call(t.Context(), "handover.done", wire.HandoverDone{ID: o.ID}, nil); err != nil {
		t.Fatal(err)
	}
}

func TestOrder_AnyNodeDrainsAnyOtherAndTellsHowItGoes(t *testing.T) {
	two(t, func(t *testing.T, f *trial.Fleet) {
		ann, bob, dan, eve := follower(t, f, 1, "ann"), follower(t, f, 1, "bob"), follower(t, f, 1, "dan"), enter(t, f, 1, "eve")
		drainFirst(t, f, 20*time.Second)
		if err := admitted(t, f, 1); err == nil || !strings.Contains(err.Error(), "503") {
			t.Errorf("a socket at the node that drains: %v, want 503", err)
		}
		if s := nodeState(t, f, "n1"); s != store.NodeDraining {
			t.Errorf("the fleet sees it %s", s)
		}
		var a, b, d wire.Redirect
		var bye wire.Bye
		eve.notice("bye", &bye)
		ann.notice("redirect", &a)
		bob.notice("redirect", &b)
		dan.notice("redirect", &d)
		if a.Reason != wire.ForDrain || !a.Final {
			t.Errorf("offered %+v", a)
		}
		time.Sleep(2 * time.Second)
		if now := drained(t, f, store.DrainRunning); now.Left != 3 || now.Moved != 0 || now.Resumed != 1 || now.ETA <= 0 || now.ETA > 20*time.Second {
			t.Errorf("with three that wait: %+v", now.Drain)
		}
		take(t, f, a)
		if err := bob.Call(t.Context(), "redirect.refuse", wire.RedirectRefuse{ID: b.ID}, nil); err != nil {
			t.Fatal(err)
		}
		bob.notice("bye", &bye)
		// Moved too, though it says no done and its old socket goes first.
		if _, _, err := handover(t, f, 2, d, nil); err != nil {
			t.Fatal(err)
		}
		dan.Drop()
		end := drained(t, f, store.DrainDone)
		if end.Moved != 2 || end.Refused != 1 || end.Resumed != 2 || end.Left != 0 || end.ETA != 0 || end.Rate <= 0 || end.Elapsed <= 2*time.Second {
			t.Errorf("at the end: %+v", end.Drain)
		}
		time.Sleep(90 * time.Second) // the node stays so, and tells so
		if now := drained(t, f, store.DrainDone); now.Drain != end.Drain || nodeState(t, f, "n1") != store.NodeDraining {
			t.Errorf("later: %+v, %s", now.Drain, nodeState(t, f, "n1"))
		}
	})
}

// two is fleet with a budget of a drain by signal that shows.
func two(t *testing.T, test func(t *testing.T, f *trial.Fleet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := trial.Start(trial.Options{Nodes: 2, Bubble: true, Change: func(s *trial.Settings) { s.Server.DrainBudget = 3 * time.Second }})
		defer f.Close()
		time.Sleep(3 * time.Second)
		test(t, f)
	})
}

func TestOrder_UndoneOffersAreWithdrawnAndTheNodeTakesSocketsAgain(t *testing.T) {
	two(t, func(t *testing.T, f *trial.Fleet) {
		ann := follower(t, f, 1, "ann")
		ann.join("lobby")
		drainFirst(t, f, time.Minute)
		var o wire.Redirect
		ann.notice("redirect", &o)
		d, err := f.Nodes[1].Core.Fleet().Undrain(t.Context(), "n1")
		if err != nil || d.State != store.DrainStopped || d.Left != 1 {
			t.Fatalf("undone: %+v, %v", d, err)
		}
		if err := admitted(t, f, 1); err != nil {
			t.Errorf("a socket after that: %v", err)
		}
		var cancel wire.RedirectCancel
		ann.notice("redirect.cancel", &cancel)
		if _, _, err := handover(t, f, 2, o, nil); cancel.ID != o.ID || reason(err) != wire.Cancelled {
			t.Errorf("cancelled %q, want %q; taken up: %v", cancel.ID, o.ID, err)
		}
		if s := nodeState(t, f, "n1"); s != store.NodeReady {
			t.Errorf("the fleet sees it %s", s)
		}
		ann.seesNothing(2 * time.Minute) // no bye either
		if err := ann.say("still here", 1); err != nil {
			t.Error(err)
		}
		if again, err := f.Nodes[1].Core.Fleet().Drained(t.Context(), "n1"); !errors.Is(err, asked.ErrNoDrain) {
			t.Errorf("long after: %+v, %v", again, err)
		}
		drainFirst(t, f, time.Minute)
		ann.notice("redirect", &o)
		take(t, f, o)
		if end := drained(t, f, store.DrainDone); end.Moved != 1 {
			t.Errorf("drained again: %+v", end.Drain)
		}
	})
}

func TestOrder_ADrainEndsWithinTheBudgetThatItWasGiven(t *testing.T) {
	two(t, func(t *testing.T, f *trial.Fleet) {
		ann := follower(t, f, 1, "ann")
		began := time.Now()
		drainFirst(t, f, 10*time.Second)
		var o wire.Redirect
		ann.notice("redirect", &o)
		var bye wire.Bye
		ann.notice("redirect.cancel", &wire.RedirectCancel{})
		ann.notice("bye", &bye)
		if took := time.Since(began); took < 8*time.Second || took > 10*time.Second {
			t.Errorf("told bye after %s", took)
		}
		if end := drained(t, f, store.DrainDone); end.Resumed != 1 || end.Moved != 0 || end.Elapsed > 10*time.Second {
			t.Errorf("%+v", end.Drain)
		}
	})
}

func TestOrder_ANewBudgetHoldsForTheDrainUnderWay(t *testing.T) {
	two(t, func(t *testing.T, f *trial.Fleet) {
		ann := follower(t, f, 1, "ann")
		first := drainFirst(t, f, time.Hour)
		var o wire.Redirect
		ann.notice("redirect", &o)
		if same := drainFirst(t, f, 0); same.Order != first.Order || same.Budget != time.Hour {
			t.Errorf("asked again without a budget: %+v", same.Drain)
		}
		if next := drainFirst(t, f, 5*time.Second); next.Order == first.Order || next.Budget != 5*time.Second {
			t.Errorf("asked again with one: %+v", next.Drain)
		}
		time.Sleep(5 * time.Second)
		if end := drained(t, f, store.DrainDone); end.Resumed != 1 {
			t.Errorf("%+v", end.Drain)
		}
	})
}

func TestDrain_ASignalDuringAnOperatorsDrainEndsWithinItsOwnBudget(t *testing.T) {
	two(t, func(t *testing.T, f *trial.Fleet) {
		ann := follower(t, f, 1, "ann")
		drainFirst(t, f, time.Hour)
		var o wire.Redirect
		ann.notice("redirect", &o)
		began, ended := time.Now(), make(chan error, 1)
		go func() { ended <- f.Nodes[0].Core.Drain(context.Background()) }()
		time.Sleep(time.Second)
		var conflict *asked.Conflict
		if _, err := f.Nodes[1].Core.Fleet().Undrain(t.Context(), "n1"); !errors.As(err, &conflict) {
			t.Errorf("undone all the same: %v", err)
		}
		if _, err := f.Nodes[1].Core.Fleet().Drain(t.Context(), "n1", time.Hour); !errors.As(err, &conflict) {
			t.Errorf("asked for more time: %v", err)
		}
		if err := <-ended; err != nil || time.Since(began) > 3*time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		if end, err := ann.End(t.Context()); err != nil || end.Code != wire.CloseRestart {
			t.Errorf("her socket: %v, %v", end, err)
		}
	})
}

// Whatever an order says after the signal, it comes too late.
func TestDrain_AnOrderThatCrossesASignalDoesNotUndoIt(t *testing.T) {
	two(t, func(t *testing.T, f *trial.Fleet) {
		follower(t, f, 1, "ann")
		drainFirst(t, f, time.Hour)
		ended := make(chan error, 1)
		go func() { ended <- f.Nodes[0].Core.Drain(context.Background()) }()
		synctest.Wait()
		// At once, so that what is told of the drain does not show the signal yet.
		if d, err := f.Nodes[1].Core.Fleet().Undrain(t.Context(), "n1"); err == nil {
			t.Errorf("undone: %+v", d)
		}
		if err := admitted(t, f, 1); err == nil {
			t.Error("it takes a socket")
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestDrain_ASignalAfterAnOperatorsDrainHasNothingToWaitFor(t *testing.T) {
	two(t, func(t *testing.T, f *trial.Fleet) {
		if _, err := f.Nodes[1].Core.Fleet().Drain(t.Context(), "n1", time.Hour); err != nil {
			t.Fatal(err)
		}
		drained(t, f, store.DrainDone)
		began := time.Now()
		if err := f.Nodes[0].Core.Drain(t.Context()); err != nil || time.Since(began) > 100*time.Millisecond {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

// Who was let in before the node turned, and says who it is later, moves too.
func TestOrder_ADrainWaitsForSocketsThatHaveNotSaidWhoTheyAre(t *testing.T) {
	two(t, func(t *testing.T, f *trial.Fleet) {
		late := dial(t, f, 1)
		drainFirst(t, f, time.Minute)
		time.Sleep(2 * time.Second)
		if now := drained(t, f, store.DrainRunning); now.Left != 0 {
			t.Errorf("%+v", now.Drain)
		}
		p := &person{t: t, Conn: late}
		if err := p.Call(t.Context(), "hello", wire.Hello{Token: "dev:ann", Caps: []string{"redirect"}}, &p.session); err != nil {
			t.Fatal(err)
		}
		var o wire.Redirect
		p.notice("redirect", &o)
		take(t, f, o)
		if end := drained(t, f, store.DrainDone); end.Moved != 1 {
			t.Errorf("%+v", end.Drain)
		}
	})
}

// Another offer, made before, is refused: the drain comes back to the session.
func TestOrder_ADrainOffersAgainWhereAnotherOfferStood(t *testing.T) {
	two(t, func(t *testing.T, f *trial.Fleet) {
		ann := follower(t, f, 1, "ann")
		earlier := ann.offered()
		drainFirst(t, f, time.Minute)
		time.Sleep(3 * time.Second)
		if err := ann.Call(t.Context(), "redirect.refuse", wire.RedirectRefuse{ID: earlier.ID}, nil); err != nil {
			t.Fatal(err)
		}
		var o wire.Redirect
		ann.notice("redirect", &o)
		if o.Reason != wire.ForDrain || o.ID == earlier.ID {
			t.Errorf("offered %+v", o)
		}
		take(t, f, o)
		if end := drained(t, f, store.DrainDone); end.Moved != 1 || end.Refused != 0 {
			t.Errorf("%+v", end.Drain)
		}
	})
}

// The word that a session is elsewhere is lost: the drain finds out, and does
// not take its socket for somebody who is left.
func TestOrder_ADrainClosesTheSocketOfASessionThatIsElsewhere(t *testing.T) {
	two(t, func(t *testing.T, f *trial.Fleet) {
		ann := follower(t, f, 1, "ann")
		taken(t, f, ann)
		if _, err := f.Nodes[1].Core.Fleet().Drain(t.Context(), "n1", time.Minute); err != nil {
			t.Fatal(err)
		}
		if end := drained(t, f, store.DrainDone); end.Elapsed > 2*time.Second || end.Resumed != 0 {
			t.Errorf("%+v", end.Drain)
		}
		if end, err := ann.End(t.Context()); err != nil || end.Code != wire.CloseReplaced {
			t.Errorf("its socket: %v, %v, want 4101", end, err)
		}
	})
}

// taken has a session resumed at a node that tells nobody.
func taken(t *testing.T, f *trial.Fleet, p *person) {
	t.Helper()
	elsewhere := store.Ref{Node: "n9", Boot: "b"}
	if _, err := f.Nodes[1].Store.Claim(t.Context(), p.session.Session, store.HashSecret(p.session.Secret), elsewhere, ""); err != nil {
		t.Fatal(err)
	}
}

// key is a node's key by what it ends with.
func key(t *testing.T, f *trial.Fleet, node, tail string) string {
	t.Helper()
	for _, k := range f.Redis.Keys() {
		if strings.HasPrefix(k, "gw:{n:"+node+"/") && strings.HasSuffix(k, "}:"+tail) {
			return k
		}
	}
	t.Fatalf("no %s of %s in %v", tail, node, f.Redis.Keys())
	return ""
}

func TestOrder_IsObeyedThoughTheWordIsLost(t *testing.T) {
	two(t, func(t *testing.T, f *trial.Fleet) {
		time.Sleep(30 * time.Millisecond) // no node looks at this moment
		record := key(t, f, "n1", "record")
		f.Redis.HSet(record, "order", "1", "order_what", "drain", "order_budget", "20000")
		if d, err := f.Nodes[1].Core.Fleet().Drained(t.Context(), "n1"); err != nil || d.State != asked.Ordered || d.Order != "1" || d.Budget != 20*time.Second {
			t.Errorf("before the node has seen it: %+v, %v", d, err)
		}
		if end := drained(t, f, store.DrainDone); end.Budget != 20*time.Second || nodeState(t, f, "n1") != store.NodeDraining {
			t.Errorf("%+v, %s", end.Drain, nodeState(t, f, "n1"))
		}
		f.Redis.HSet(record, "order", "2", "order_what", "what a later version asks")
		time.Sleep(5 * time.Second)
		if s := nodeState(t, f, "n1"); s != store.NodeDraining {
			t.Errorf("after an order that it does not know: %s", s)
		}
		f.Redis.HSet(record, "order", "3", "order_what", "stop")
		drained(t, f, store.DrainStopped)
		if err := admitted(t, f, 1); err != nil {
			t.Error(err)
		}
	})
}

func TestOrder_ToWhoCannotObeyIsAConflict(t *testing.T) {
	two(t, func(t *testing.T, f *trial.Fleet) {
		time.Sleep(30 * time.Millisecond) // no node sweeps at this moment
		_, _ = f.Redis.SAdd("gw:nodes", "old b1", "dead b2")
		f.Redis.HSet("gw:{n:old/b1}:record", "url", "", "revision", "r0", "state", "ready", "sessions", "7", "started", "1000", "key", "k")
		if err := f.Redis.Set("gw:{n:old/b1}:lease", "1"); err != nil {
			t.Fatal(err)
		}
		_, _ = f.Redis.SAdd("gw:{n:old/b1}:sessions", "s1", "s2")
		f.Redis.SetTTL("gw:{n:old/b1}:lease", time.Minute)
		second := f.Nodes[1].Core.Fleet()
		old, err := second.Node(t.Context(), "old")
		if err != nil || old.State != store.NodeReady || old.Sessions != 7 || old.Owned != 2 || old.Revision != "r0" || old.Lease <= 0 {
			t.Errorf("a node of an earlier version: %+v, %v", old, err)
		}
		var conflict *asked.Conflict
		if _, err := second.Drain(t.Context(), "old", 0); !errors.As(err, &conflict) || !strings.Contains(err.Error(), "revision") {
			t.Errorf("its drain: %v", err)
		}
		if _, err := second.Drain(t.Context(), "dead", 0); !errors.As(err, &conflict) || !strings.Contains(err.Error(), "lost") {
			t.Errorf("a dead one's: %v", err)
		}
		if _, err := second.Drain(t.Context(), "nobody", 0); !errors.Is(err, asked.ErrNoNode) {
			t.Errorf("one that there is not: %v", err)
		}
		if _, err := second.Undrain(t.Context(), "n1"); !errors.Is(err, asked.ErrNoDrain) {
			t.Errorf("undone what never began: %v", err)
		}
	})
}

func TestNodes_OfSeveralLivesTheOneThatLives(t *testing.T) {
	two(t, func(t *testing.T, f *trial.Fleet) {
		time.Sleep(30 * time.Millisecond) // no node sweeps at this moment
		_, _ = f.Redis.SAdd("gw:nodes", "n1 0", "n1 zz")
		n, err := f.Nodes[1].Core.Fleet().Node(t.Context(), "n1")
		if err != nil || n.Ref != f.Nodes[0].Core.Ref() || n.State != store.NodeReady {
			t.Errorf("%+v, %v", n, err)
		}
		all, err := f.Nodes[1].Core.Fleet().Nodes(t.Context())
		if err != nil || len(all) != 4 || all[0].State != store.NodeLost {
			t.Errorf("%+v, %v", all, err)
		}
	})
}

// A store that fails over is away for a while. Who waits for it is moved then,
// and not sent to resume on what cannot answer either.
func TestDrain_WaitsForAStoreThatIsAwayForAWhile(t *testing.T) {
	for name, c := range map[string]struct {
		away time.Duration
		want string
	}{
		"and moves whom it has": {2 * time.Second, "redirect"},
		"but not for ever":      {time.Minute, "bye"},
	} {
		t.Run(name, func(t *testing.T) {
			long := func(s *trial.Settings, _ string) { s.Server.DrainBudget = time.Minute }
			trio(t, long, func(t *testing.T, f *trial.Fleet) {
				ann := follower(t, f, 1, "ann")
				f.Nodes[0].Part()
				back := time.AfterFunc(c.away, f.Nodes[0].Join)
				defer back.Stop()
				ended := make(chan error, 1)
				go func() { ended <- f.Nodes[0].Core.Drain(context.Background()) }()
				ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
				defer cancel()
				for {
					n, err := ann.Next(ctx)
					if err != nil {
						t.Fatalf("she is told nothing: %v", err)
					}
					if n.Method == "redirect" || n.Method == "bye" {
						if n.Method != c.want {
							t.Errorf("she is told %s, want %s", n.Method, c.want)
						}
						break
					}
				}
				ann.Drop()
				<-ended
			})
		})
	}
}
