package server_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json"

	"godwit/e2e/raw"
	"godwit/internal/trial"
	"godwit/store"
	"godwit/wire"
)

// follower is a person whose client follows redirects.
func follower(t *testing.T, f *trial.Fleet, node int, user string) *person {
	t.Helper()
	p := &person{t: t, Conn: dial(t, f, node)}
	if err := p.Call(t.Context(), "hello", wire.Hello{Token: "dev:" + user, Caps: []string{"redirect"}}, &p.session); err != nil {
		t.Fatal(err)
	}
	return p
}

// offered asks for an offer, and takes it.
func (p *person) offered() (o wire.Redirect) {
	p.t.Helper()
	if err := p.Call(p.t.Context(), "redirect.request", wire.RedirectRequest{}, nil); err != nil {
		p.t.Fatal(err)
	}
	p.notice("redirect", &o)
	return o
}

// notice expects the next notice, soon, to be of a method.
func (p *person) notice(method string, params any) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	n, err := p.next(ctx)
	if err != nil || n.Method != method {
		p.t.Fatalf("got %+v, %v, want %s", n, err, method)
	}
	if err := json.Unmarshal(n.Params, params); err != nil {
		p.t.Fatal(err)
	}
}

// handover shows an offer to a node.
func handover(t *testing.T, f *trial.Fleet, node int, o wire.Redirect, since map[string]wire.Position) (*raw.Conn, wire.Session, error) {
	t.Helper()
	c := dial(t, f, node)
	var s wire.Session
	err := c.Call(t.Context(), "handover", wire.Handover{ID: o.ID, Token: o.Token, Positions: since, Caps: []string{"redirect"}}, &s)
	return c, s, err
}

// at joins a room and tells where that stands.
func (p *person) at(room string) map[string]wire.Position {
	p.t.Helper()
	var in wire.Joined
	if err := p.Call(p.t.Context(), "room.join", wire.Join{Room: room}, &in); err != nil {
		p.t.Fatal(err)
	}
	return map[string]wire.Position{room: {Epoch: in.Epoch, Seq: in.Seq}}
}

func TestRedirect_MovesASessionAndNobodySeesIt(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		bob, ann := enter(t, f, 2, "bob"), follower(t, f, 1, "ann")
		bob.join("lobby")
		since := ann.at("lobby")
		bob.sees("join")
		if err := ann.say("one", 1); err != nil {
			t.Fatal(err)
		}
		bob.sees("one")
		o := ann.offered()
		if o.URL != f.Nodes[1].URL || o.Reason != wire.ForRequest || o.Final || o.ExpiresInMS != 15000 {
			t.Errorf("offered %+v", o)
		}
		if err := bob.say("meanwhile", 1); err != nil {
			t.Fatal(err)
		}
		ann.sees("meanwhile") // the old socket goes on
		c, s, err := handover(t, f, 2, o, since)
		if err != nil {
			t.Fatal(err)
		}
		if s.Gen != 2 || s.Node != "n2" || !s.Resumed || s.Client != ann.session.Client || s.Secret != "" ||
			len(s.Rooms) != 1 || !s.Rooms[0].Recovered || s.Rooms[0].CSeq != 1 {
			t.Errorf("handed over as %+v", s)
		}
		if err := ann.say("too late", 2); reason(err) != wire.Moved {
			t.Errorf("a send on the old socket answers %v, want moved", err)
		}
		now := &person{t: t, Conn: c, session: s}
		now.sees("meanwhile") // its own is not for it
		if err := now.say("two", 2); err != nil {
			t.Fatal(err)
		}
		bob.sees("two")
		if err := bob.say("both", 2); err != nil {
			t.Fatal(err)
		}
		now.sees("both")
		ann.sees("both") // the old socket listens on
		if err := c.Call(t.Context(), "handover.done", wire.HandoverDone{ID: o.ID}, nil); err != nil {
			t.Fatal(err)
		}
		var moved wire.MovedAway
		ann.notice("moved", &moved)
		if end, err := ann.End(t.Context()); err != nil || end.Code != wire.CloseMoved || moved.ID != o.ID {
			t.Errorf("the old socket ends with %v, %v, after moved %q", end, err, moved.ID)
		}
		bob.seesNothing(2 * time.Minute)
		if end := c.Closed(); end != nil {
			t.Errorf("the new socket: %v", end)
		}
	})
}

func TestRedirect_TheOldSocketIsClosedThoughNobodySaysDone(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		ann := follower(t, f, 1, "ann")
		o := ann.offered()
		began := time.Now()
		if _, _, err := handover(t, f, 2, o, nil); err != nil {
			t.Fatal(err)
		}
		end, err := ann.End(t.Context())
		if took := time.Since(began); err != nil || end.Code != wire.CloseMoved || took < 5*time.Second || took > 6*time.Second {
			t.Errorf("%v, %v after %s, want 4100 after 5s", end, err, took)
		}
	})
}

// The claim has won, and the old socket's node has not heard of it: what is
// said there does not end the session.
func TestRedirect_AByeOnTheOldSocketIsMoved(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		ann := follower(t, f, 1, "ann")
		taken(t, f, ann)
		if err := ann.Call(t.Context(), "bye", wire.Empty{}, nil); reason(err) != wire.Moved {
			t.Errorf("bye answers %v, want moved", err)
		}
		if end, err := ann.End(t.Context()); err != nil || end.Code != wire.CloseReplaced {
			t.Errorf("the old socket ends with %v, %v, want 4101", end, err)
		}
		if _, _, err := f.Nodes[1].Store.Peek(t.Context(), ann.session.Session); err != nil {
			t.Errorf("the session: %v", err)
		}
	})
}

func TestHandover_WhatIsNoGoodOfferChangesNothing(t *testing.T) {
	type spoil func(*testing.T, *person, *wire.Redirect)
	for name, c := range map[string]struct {
		node  int
		spoil spoil
		want  wire.Reason
	}{
		"flipped": {2, func(_ *testing.T, _ *person, o *wire.Redirect) {
			b := []byte(o.Token)
			b[10] ^= 1
			o.Token = string(b)
		}, wire.BadToken},
		"truncated":     {2, func(_ *testing.T, _ *person, o *wire.Redirect) { o.Token = o.Token[:len(o.Token)-4] }, wire.BadToken},
		"empty":         {2, func(_ *testing.T, _ *person, o *wire.Redirect) { o.Token = "" }, wire.BadToken},
		"oversize":      {2, func(_ *testing.T, _ *person, o *wire.Redirect) { o.Token += strings.Repeat("A", 2048) }, wire.BadToken},
		"at the source": {1, nil, wire.WrongAudience},
		"another id":    {2, func(_ *testing.T, _ *person, o *wire.Redirect) { o.ID = "x" }, wire.Cancelled},
		"expired":       {2, func(*testing.T, *person, *wire.Redirect) { time.Sleep(15 * time.Second) }, wire.Expired},
		"refused": {2, func(t *testing.T, p *person, o *wire.Redirect) {
			if err := p.Call(t.Context(), "redirect.refuse", wire.RedirectRefuse{ID: o.ID}, nil); err != nil {
				t.Fatal(err)
			}
		}, wire.Cancelled},
	} {
		t.Run(name, func(t *testing.T) {
			fleet(t, func(t *testing.T, f *trial.Fleet) {
				ann := follower(t, f, 1, "ann")
				ann.join("lobby")
				o := ann.offered()
				if c.spoil != nil {
					c.spoil(t, ann, &o)
				}
				sock, _, err := handover(t, f, c.node, o, nil)
				if reason(err) != c.want {
					t.Errorf("answers %v, want %s", err, c.want)
				}
				if end, err := sock.End(t.Context()); err != nil || end.Code != wire.CloseMoved {
					t.Errorf("its socket ends with %v, %v, want 4100", end, err)
				}
				time.Sleep(20 * time.Second)
				if err := ann.say("still here", 1); err != nil {
					t.Errorf("on the old socket: %v", err)
				}
			})
		})
	}
}

// The target was told which token its source has signed. Where it was not, by a
// source of an earlier version, it checks the signature.
func TestHandover_OfATokenThatItsSourceVouchedForNeedsNoKey(t *testing.T) {
	for name, c := range map[string]struct {
		told bool
		want wire.Reason
	}{"told": {true, ""}, "not told": {false, wire.BadToken}} {
		t.Run(name, func(t *testing.T) {
			fleet(t, func(t *testing.T, f *trial.Fleet) {
				ann := follower(t, f, 1, "ann")
				at, to := f.Nodes[0].Core.Ref(), f.Nodes[1].Core.Ref()
				o := ann.offered()
				if !c.told { // as if the source had not said it
					for _, what := range []string{store.WordRelease, store.WordPrepare} {
						w := store.Word{What: what, Offer: o.ID, Node: at.Node, Boot: at.Boot}
						if err := f.Nodes[0].Store.Tell(t.Context(), to, w); err != nil {
							t.Fatal(err)
						}
					}
					synctest.Wait()
				}
				f.Redis.HDel(fmt.Sprintf("gw:{n:%s/%s}:record", at.Node, at.Boot), "key")
				if _, _, err := handover(t, f, 2, o, nil); reason(err) != c.want {
					t.Errorf("answers %v, want %q", err, c.want)
				}
			})
		})
	}
}

func TestHandover_ASecondTimeIsUsedAndDisconnectsNobodyElse(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		ann := follower(t, f, 1, "ann")
		o := ann.offered()
		first, _, err := handover(t, f, 2, o, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := handover(t, f, 2, o, nil); reason(err) != wire.Used {
			t.Errorf("a second time: %v, want used", err)
		}
		synctest.Wait()
		if end := first.Closed(); end != nil {
			t.Errorf("the first is closed: %v", end)
		}
	})
}

func TestRedirect_OfASourceThatDiedStillWorks(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		bob, ann := enter(t, f, 2, "bob"), follower(t, f, 1, "ann")
		bob.join("lobby")
		since := ann.at("lobby")
		bob.sees("join")
		o := ann.offered()
		f.Nodes[0].Cut()
		if err := bob.say("while nobody was there", 1); err != nil {
			t.Fatal(err)
		}
		c, s, err := handover(t, f, 2, o, since)
		if err != nil || s.Gen != 2 {
			t.Fatalf("%+v, %v", s, err)
		}
		(&person{t: t, Conn: c}).sees("while nobody was there")
		bob.seesNothing(2 * time.Minute)
	})
}

func TestRedirect_ThreeInAMinuteAndNotBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := trial.Start(trial.Options{Nodes: 6, Bubble: true, Change: func(s *trial.Settings) {
			s.Server.Lease, s.Store.Lease = 10*time.Second, 10*time.Second
		}})
		defer f.Close()
		time.Sleep(3 * time.Second)
		ann := follower(t, f, 1, "ann")
		for i, node := range []string{"n2", "n3", "n4", "n5"} {
			if back := ann.Call(t.Context(), "redirect.request", wire.RedirectRequest{Node: "n1"}, nil); reason(back) != wire.NoTarget {
				t.Errorf("after %d moves, to n1: %v, want no_target", i, back)
			}
			err := ann.Call(t.Context(), "redirect.request", wire.RedirectRequest{Node: node}, nil)
			if i == 3 {
				if reason(err) != wire.NoTarget {
					t.Errorf("a fourth move in a minute: %v, want no_target", err)
				}
				break
			}
			if err != nil {
				t.Fatalf("to %s: %v", node, err)
			}
			var o wire.Redirect
			ann.notice("redirect", &o)
			c, s, err := handover(t, f, i+2, o, nil)
			if err != nil {
				t.Fatal(err)
			}
			ann = &person{t: t, Conn: c, session: s}
		}
		time.Sleep(time.Minute)
		if err := ann.Call(t.Context(), "redirect.request", wire.RedirectRequest{Node: "n1"}, nil); err != nil {
			t.Errorf("back after a minute: %v", err)
		}
	})
}

func TestDrain_MovesWhoFollowsAndTellsTheOthers(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		bob, ann, cy := enter(t, f, 2, "bob"), follower(t, f, 1, "ann"), enter(t, f, 1, "cy")
		bob.join("lobby")
		since := ann.at("lobby")
		cy.join("lobby")
		ann.sees("join")
		drained := make(chan error, 1)
		go func() { drained <- f.Nodes[0].Core.Drain(context.Background()) }()
		var o wire.Redirect
		ann.notice("redirect", &o)
		if o.Reason != wire.ForDrain || !o.Final {
			t.Errorf("offered %+v", o)
		}
		var bye wire.Bye
		cy.notice("bye", &bye)
		c, _, err := handover(t, f, 2, o, since)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Call(t.Context(), "handover.done", wire.HandoverDone{ID: o.ID}, nil); err != nil {
			t.Fatal(err)
		}
		if err := <-drained; err != nil {
			t.Errorf("drain: %v", err)
		}
		if end, err := ann.End(t.Context()); err != nil || end.Code != wire.CloseMoved {
			t.Errorf("the moved one's socket: %v, %v", end, err)
		}
		if end, err := cy.End(t.Context()); err != nil || end.Code != wire.CloseRestart {
			t.Errorf("the other's socket: %v, %v", end, err)
		}
	})
}

// Who does not take its offer up is told bye in time.
func TestDrain_EndsWithinItsBudget(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		ann := follower(t, f, 1, "ann")
		drained := make(chan error, 1)
		began := time.Now()
		go func() { drained <- f.Nodes[0].Core.Drain(context.Background()) }()
		var o wire.Redirect
		ann.notice("redirect", &o)
		var cancel wire.RedirectCancel
		ann.notice("redirect.cancel", &cancel)
		var bye wire.Bye
		ann.notice("bye", &bye)
		if err := <-drained; err != nil || cancel.ID != o.ID || time.Since(began) > time.Second {
			t.Errorf("drain: %v after %s; cancelled %q, want %q", err, time.Since(began), cancel.ID, o.ID)
		}
		if _, _, err := handover(t, f, 2, o, nil); reason(err) != wire.Cancelled {
			t.Errorf("the offer that was withdrawn: %v, want cancelled", err)
		}
		again := dial(t, f, 2)
		if err := again.Call(t.Context(), "resume", wire.Resume{Session: ann.session.Session, Secret: ann.session.Secret}, nil); err != nil {
			t.Errorf("the resume: %v", err)
		}
	})
}
