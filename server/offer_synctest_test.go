package server_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/go-json-experiment/json"

	"godwit/e2e/fault"
	"godwit/internal/trial"
	"godwit/store"
	"godwit/wire"
)

// trio is a fleet of three nodes, changed by name.
func trio(t *testing.T, change func(s *trial.Settings, node string), test func(t *testing.T, f *trial.Fleet)) {
	synctest.Test(t, func(t *testing.T) {
		f := trial.Start(trial.Options{Nodes: 3, Bubble: true, Change: func(s *trial.Settings) {
			if change != nil {
				change(s, s.Server.Node.Node)
			}
		}})
		defer f.Close()
		time.Sleep(3 * time.Second)
		test(t, f)
	})
}

func TestOffer_OfAFleetWithOneURLIsForAnyNodeButTheSource(t *testing.T) {
	const url = "wss://fleet.test/v1/ws"
	trio(t, func(s *trial.Settings, _ string) { s.Server.URL, s.Server.PublicURL = "", url }, func(t *testing.T, f *trial.Fleet) {
		ann := follower(t, f, 1, "ann")
		o := ann.offered()
		if o.URL != url {
			t.Errorf("offered %s, want %s", o.URL, url)
		}
		if _, _, err := handover(t, f, 1, o, nil); reason(err) != wire.SameNode {
			t.Errorf("at the source: %v, want same_node", err)
		}
		if _, s, err := handover(t, f, 3, o, nil); err != nil || s.Node != "n3" {
			t.Errorf("at another, after that: %+v, %v", s, err)
		}
	})
}

func TestOffer_WithoutAnyURLThereIsNobodyToBeSentTo(t *testing.T) {
	trio(t, func(s *trial.Settings, _ string) { s.Server.URL = "" }, func(t *testing.T, f *trial.Fleet) {
		ann := follower(t, f, 1, "ann")
		if err := ann.Call(t.Context(), "redirect.request", wire.RedirectRequest{}, nil); reason(err) != wire.NoTarget {
			t.Errorf("%v, want no_target", err)
		}
	})
}

func TestOffer_ToWhomHasRoom(t *testing.T) {
	full := func(s *trial.Settings, node string) {
		if node == "n2" {
			s.Server.MaxSessions = 1
		}
	}
	trio(t, full, func(t *testing.T, f *trial.Fleet) {
		enter(t, f, 2, "bob")
		for i := range 8 { // whatever is drawn
			ann := follower(t, f, 1, fmt.Sprint("ann", i))
			if o := ann.offered(); o.URL != f.Nodes[2].URL {
				t.Errorf("offered %s, which is full", o.URL)
			}
			if err := ann.Call(t.Context(), "redirect.request", wire.RedirectRequest{Node: "n2"}, nil); err != nil {
				t.Errorf("while an offer stands: %v, want that one to do", err)
			}
		}
		eve := follower(t, f, 1, "eve")
		for _, node := range []string{"n2", "n1", "none"} {
			if err := eve.Call(t.Context(), "redirect.request", wire.RedirectRequest{Node: node}, nil); reason(err) != wire.NoTarget {
				t.Errorf("to %s: %v, want no_target", node, err)
			}
		}
	})
}

func TestOffer_KeepsAPlaceAtItsTargetUntilItIsOver(t *testing.T) {
	two := func(s *trial.Settings, node string) {
		if node != "n1" {
			s.Server.MaxSessions = 1
		}
	}
	trio(t, two, func(t *testing.T, f *trial.Fleet) {
		ann, bob, eve := follower(t, f, 1, "ann"), follower(t, f, 1, "bob"), follower(t, f, 1, "eve")
		first, second := ann.offered(), bob.offered()
		if first.URL == second.URL {
			t.Errorf("both are offered the one place of %s", first.URL)
		}
		if err := eve.Call(t.Context(), "redirect.request", wire.RedirectRequest{}, nil); reason(err) != wire.NoTarget {
			t.Errorf("with every place kept: %v, want no_target", err)
		}
		if err := ann.Call(t.Context(), "redirect.refuse", wire.RedirectRefuse{ID: first.ID}, nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if o := eve.offered(); o.URL != first.URL {
			t.Errorf("offered %s, want the place that was given up at %s", o.URL, first.URL)
		}
		time.Sleep(16 * time.Second) // the others' are over
		if o := ann.offered(); o.ID == first.ID {
			t.Error("the same offer again")
		}
	})
}

// A place is taken up by the claim, not by who comes and shows something.
func TestOffer_KeepsItsPlaceUntilItIsClaimed(t *testing.T) {
	few := func(s *trial.Settings, node string) {
		switch node {
		case "n2":
			s.Server.MaxSessions = 2
		case "n3":
			s.Server.MaxSessions = 1
		}
	}
	trio(t, few, func(t *testing.T, f *trial.Fleet) {
		enter(t, f, 3, "full")
		ann, bob, eve := follower(t, f, 1, "ann"), follower(t, f, 1, "bob"), follower(t, f, 1, "eve")
		o, mixed := bob.offered(), ann.offered()
		mixed.ID = o.ID
		if _, _, err := handover(t, f, 2, mixed, nil); reason(err) != wire.Cancelled {
			t.Errorf("one's token with another's id: %v, want cancelled", err)
		}
		if err := eve.Call(t.Context(), "redirect.request", wire.RedirectRequest{}, nil); reason(err) != wire.NoTarget {
			t.Errorf("a third is offered the place: %v, want no_target", err)
		}
		if _, s, err := handover(t, f, 2, o, nil); err != nil || s.Node != "n2" {
			t.Errorf("who it is kept for: %+v, %v", s, err)
		}
	})
}

// Who just comes does not take the place of one who was told to come.
func TestOffer_APlaceThatIsKeptIsNoNewcomers(t *testing.T) {
	few := func(s *trial.Settings, node string) {
		if node != "n1" {
			s.Server.MaxSessions = 1
		}
	}
	trio(t, few, func(t *testing.T, f *trial.Fleet) {
		enter(t, f, 3, "full")
		ann := follower(t, f, 1, "ann")
		o := ann.offered()
		newcomer := dial(t, f, 2)
		if err := newcomer.Call(t.Context(), "hello", wire.Hello{Token: "dev:eve"}, nil); reason(err) != wire.Unavailable {
			t.Errorf("a newcomer: %v, want unavailable", err)
		}
		if _, s, err := handover(t, f, 2, o, nil); err != nil || s.Node != "n2" {
			t.Errorf("who the place is kept for: %+v, %v", s, err)
		}
		if err := admitted(t, f, 2); err == nil {
			t.Error("a full node lets a socket in")
		}
	})
	trio(t, few, func(t *testing.T, f *trial.Fleet) {
		enter(t, f, 3, "full")
		ann := follower(t, f, 1, "ann")
		o := ann.offered()
		if err := ann.Call(t.Context(), "redirect.refuse", wire.RedirectRefuse{ID: o.ID}, nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		enter(t, f, 2, "eve") // the place is anybody's again
	})
}

// A node that has just turned to draining was seen to be ready: it denies, and
// refuses whoever comes with an offer of before.
func TestOffer_ANodeThatDrainsTakesNobody(t *testing.T) {
	trio(t, nil, func(t *testing.T, f *trial.Fleet) {
		ann, bob := follower(t, f, 1, "ann"), follower(t, f, 1, "bob")
		first := ann.offered()
		drains, other := 2, 3
		if first.URL == f.Nodes[2].URL {
			drains, other = 3, 2
		}
		c := dial(t, f, drains)
		for i := range 8 {
			enter(t, f, other, fmt.Sprint("cy", i))
		}
		time.Sleep(3 * time.Second)
		eve := follower(t, f, 1, "eve")
		if o := eve.offered(); o.URL != first.URL {
			t.Fatalf("offered %s, want the less loaded %s", o.URL, first.URL)
		}
		if err := f.Nodes[drains-1].Core.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if o := bob.offered(); o.URL != f.Nodes[other-1].URL {
			t.Errorf("offered %s, which drains", o.URL)
		}
		err := c.Call(t.Context(), "handover", wire.Handover{ID: first.ID, Token: first.Token}, nil)
		if reason(err) != wire.Capacity {
			t.Errorf("a handover to who drains: %v, want capacity", err)
		}
	})
}

func TestHandover_OfManyAtOnceOneSucceeds(t *testing.T) {
	trio(t, nil, func(t *testing.T, f *trial.Fleet) {
		ann := follower(t, f, 1, "ann")
		ann.join("lobby")
		o := ann.offered()
		node := 2
		if o.URL == f.Nodes[2].URL {
			node = 3
		}
		var won atomic.Int32
		var all sync.WaitGroup
		for range 100 {
			c := dial(t, f, node)
			all.Go(func() {
				err := c.Call(t.Context(), "handover", wire.Handover{ID: o.ID, Token: o.Token}, nil)
				switch {
				case err == nil:
					won.Add(1)
				case reason(err) != wire.Used:
					t.Errorf("%v, want used", err)
				}
			})
		}
		all.Wait()
		if won.Load() != 1 {
			t.Errorf("%d of 100 succeeded", won.Load())
		}
	})
}

func TestHandover_WithoutAStoreLeavesTheSessionWhereItIs(t *testing.T) {
	trio(t, nil, func(t *testing.T, f *trial.Fleet) {
		ann, bob := follower(t, f, 1, "ann"), follower(t, f, 1, "bob")
		ann.join("lobby")
		o := ann.offered()
		f.Redis.SetError("LOADING not now")
		for _, node := range []int{2, 3} {
			c := dial(t, f, node)
			asked := time.Now()
			err := c.Call(t.Context(), "handover", wire.Handover{ID: o.ID, Token: o.Token}, nil)
			if reason(err) != wire.Capacity || time.Since(asked) > time.Second {
				t.Errorf("%v after %s, want capacity within 1s", err, time.Since(asked))
			}
		}
		if err := bob.Call(t.Context(), "redirect.request", wire.RedirectRequest{}, nil); reason(err) != wire.Unavailable {
			t.Errorf("an offer without a store: %v, want unavailable", err)
		}
		f.Redis.SetError("")
		time.Sleep(20 * time.Second)
		if err := ann.say("still here", 1); err != nil {
			t.Error(err)
		}
	})
}

// Whatever of the store fails before the claim, nothing was taken up.
func TestHandover_ThatCannotReadTheSessionIsOfNoUseHere(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		ann := follower(t, f, 1, "ann")
		o := ann.offered()
		f.Redis.Server().SetPreHook(func(p *server.Peer, cmd string, args ...string) bool {
			away := cmd == "HGETALL" && strings.HasPrefix(args[0], "gw:{s:")
			if away {
				p.WriteError("LOADING not now")
			}
			return away
		})
		if _, _, err := handover(t, f, 2, o, nil); reason(err) != wire.Capacity {
			t.Errorf("%v, want capacity", err)
		}
		f.Redis.Server().SetPreHook(nil)
		if _, s, err := handover(t, f, 2, o, nil); err != nil || s.Node != "n2" {
			t.Errorf("once more: %+v, %v", s, err)
		}
	})
}

func TestHandover_OfASessionThatHasEndedIsNoSession(t *testing.T) {
	trio(t, nil, func(t *testing.T, f *trial.Fleet) {
		ann := follower(t, f, 1, "ann")
		o := ann.offered()
		if err := ann.Call(t.Context(), "bye", wire.Empty{}, nil); err != nil {
			t.Fatal(err)
		}
		for i, node := range f.Nodes[1:] {
			if node.URL != o.URL {
				continue
			}
			if _, _, err := handover(t, f, i+2, o, nil); reason(err) != wire.NoSession {
				t.Errorf("%v, want no_session", err)
			}
		}
	})
}

// A resume elsewhere makes an offer void, and ends the old socket.
func TestOffer_OfASessionThatIsResumedElsewhereIsOver(t *testing.T) {
	trio(t, nil, func(t *testing.T, f *trial.Fleet) {
		ann := follower(t, f, 1, "ann")
		o := ann.offered()
		again := dial(t, f, 2)
		began := time.Now()
		if err := again.Call(t.Context(), "resume", wire.Resume{Session: ann.session.Session, Secret: ann.session.Secret}, nil); err != nil {
			t.Fatal(err)
		}
		if end, err := ann.End(t.Context()); err != nil || end.Code != wire.CloseReplaced || time.Since(began) > time.Second {
			t.Errorf("the old socket: %v, %v after %s, want 4101 at once", end, err, time.Since(began))
		}
		if _, _, err := handover(t, f, 3, o, nil); reason(err) != wire.Cancelled && reason(err) != wire.WrongAudience {
			t.Errorf("the offer: %v", err)
		}
		if end := again.Closed(); end != nil {
			t.Errorf("the new socket: %v", end)
		}
	})
}

func TestHandover_PositionsOfOtherRoomsAreIgnored(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		bob, ann := enter(t, f, 2, "bob"), follower(t, f, 1, "ann")
		bob.join("private")
		since := ann.at("lobby")
		since["private"], since["none"] = wire.Position{Epoch: "e", Seq: 1}, wire.Position{}
		o := ann.offered()
		c, s, err := handover(t, f, 2, o, since)
		if err != nil || len(s.Rooms) != 1 || s.Rooms[0].Room != "lobby" || !s.Rooms[0].Recovered {
			t.Fatalf("%+v, %v", s, err)
		}
		(&person{t: t, Conn: c}).seesNothing(time.Minute)
	})
}

// A target that was given up says its word while the next one is asked.
func TestOffer_ALateWordIsNotTakenForAnothers(t *testing.T) {
	for _, c := range []struct{ name, speaker, want string }{
		{"of the one before", "n3", ""},
		{"of the one that is asked", "n2", "n2"},
		{"of an earlier version, which does not say whose", "", "n2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			patient := func(s *trial.Settings, _ string) { s.Server.Lease, s.Store.Lease = 10*time.Second, 10*time.Second }
			trio(t, patient, func(t *testing.T, f *trial.Fleet) {
				enter(t, f, 2, "bob") // so that n3 is asked first
				time.Sleep(5 * time.Second)
				ann := follower(t, f, 1, "ann")
				f.Nodes[1].Part()
				f.Nodes[2].Part()
				first := f.Nodes[0]
				tell := func(w store.Word) {
					t.Helper()
					w.Session, w.Offer = ann.session.Session, "o1"
					if err := first.Store.Tell(t.Context(), first.Core.Ref(), w); err != nil {
						t.Fatal(err)
					}
				}
				tell(store.Word{What: store.WordMove})
				time.Sleep(2 * time.Second) // n3 was given up after 1.5s
				late := store.Word{What: store.WordPrepared, Node: c.speaker}
				for _, n := range f.Nodes {
					if n.Core.Ref().Node == c.speaker {
						late.Boot = n.Core.Ref().Boot
					}
				}
				tell(late)
				got := ""
				within, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				if n, err := ann.next(within); err == nil {
					var o wire.Redirect
					if err := json.Unmarshal(n.Params, &o); err != nil {
						t.Fatal(err)
					}
					got = strings.TrimSuffix(strings.TrimPrefix(o.URL, "ws://"), ":80/")
				}
				if got != c.want {
					t.Errorf("offered %q, want %q", got, c.want)
				}
				f.Nodes[1].Join()
				f.Nodes[2].Join()
			})
		})
	}
}

// Each answer to a question says whose it is, and of a target that is not heard
// the place is given back.
func TestOffer_ATargetSaysWhoItIsAndWhoIsNotHeardKeepsNoPlace(t *testing.T) {
	var points fault.Points
	one := func(s *trial.Settings, node string) {
		s.Server.Lease, s.Store.Lease = 10*time.Second, 10*time.Second
		switch node {
		case "n2":
			s.Server.MaxSessions = 1
		case "n3":
			s.Server.MaxSessions = 1
			s.Store.Dial = points.Dial(s.Store.Dial)
		}
	}
	trio(t, one, func(t *testing.T, f *trial.Fleet) {
		heard := f.Redis.NewSubscriber()
		defer heard.Close()
		at := f.Nodes[0].Core.Ref()
		words := fmt.Sprintf("gw:{n:%s/%s}:ctl", at.Node, at.Boot)
		heard.Subscribe(words)
		defer heard.Unsubscribe(words)
		said := make(chan string, 100)
		go func() {
			for m := range heard.Messages() {
				said <- m.Message
			}
		}()
		enter(t, f, 2, "full")
		time.Sleep(5 * time.Second)
		ann, bob := follower(t, f, 1, "ann"), follower(t, f, 1, "bob")
		lost := points.At(fault.Step{Name: "prepared", Does: fault.Says(`"` + store.WordPrepared + `"`)})
		if err := ann.Call(t.Context(), "redirect.request", wire.RedirectRequest{}, nil); reason(err) != wire.NoTarget {
			t.Errorf("with a full node and one that is not heard: %v, want no_target", err)
		}
		select {
		case <-lost.Reached():
		default:
			t.Error("nobody was asked")
		}
		lost.Release()
		synctest.Wait() // n3 has been told that nobody comes
		if o := bob.offered(); o.URL != f.Nodes[2].URL {
			t.Errorf("offered %s, want the place at %s", o.URL, f.Nodes[2].URL)
		}
		synctest.Wait()
		var speakers []string
		for range len(said) {
			var w store.Word
			if text, ok := strings.CutPrefix(<-said, "w "); ok && json.Unmarshal([]byte(text), &w) == nil && w.What != "" {
				for _, n := range f.Nodes {
					if n.Core.Ref() == (store.Ref{Node: w.Node, Boot: w.Boot}) {
						speakers = append(speakers, w.What+" "+w.Node)
					}
				}
			}
		}
		slices.Sort(speakers)
		if got := fmt.Sprint(slices.Compact(speakers)); got != "[denied n2 prepared n3]" {
			t.Errorf("n1 heard %s", got)
		}
	})
}

// The claim succeeds, and nobody hears of it: the client resumes.
func TestHandover_WhoseTargetDiesAtTheClaimIsResumed(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		bob, ann := enter(t, f, 1, "bob"), follower(t, f, 1, "ann")
		bob.join("lobby")
		since := ann.at("lobby")
		bob.sees("join")
		if _, _, err := handover(t, f, 2, ann.offered(), since); err != nil {
			t.Fatal(err)
		}
		f.Nodes[1].Cut()
		if err := ann.say("fenced", 1); reason(err) != wire.Moved {
			t.Errorf("on the old socket: %v, want moved", err)
		}
		ann.resume(f, 1, since["lobby"])
		if ann.session.Gen != 3 {
			t.Errorf("gen %d, want 3", ann.session.Gen)
		}
		if err := ann.say("back", 1); err != nil {
			t.Fatal(err)
		}
		bob.sees("back")
		bob.seesNothing(2 * time.Minute)
	})
}
