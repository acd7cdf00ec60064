package server_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2/server"

	"godwit/internal/trial"
	"godwit/wire"
)

// beat says that the person is in the lobby's call, or has left it.
func (p *person) beat(status uint8) error {
	return p.Call(p.t.Context(), "call.beat", wire.Beat{Room: "lobby", Status: &status}, nil)
}

// calls has the person in the lobby's call until stop is called.
func (p *person) calls() (stop func()) {
	p.t.Helper()
	if err := p.beat(1); err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(p.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(4 * time.Second):
				_ = p.beat(1)
			}
		}
	}()
	var stopped bool
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			<-done
		}
	}
	p.t.Cleanup(stop)
	return stop
}

// seesCall expects the next notice, within a time and but for presence, to be a
// change of the flag.
func (p *person) seesCall(on bool, within time.Duration) *wire.RoomEvent {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), within)
	defer cancel()
	n, err := p.next(ctx)
	for err == nil && n.Method == "presence" {
		n, err = p.next(ctx)
	}
	if err != nil || n.Event == nil || n.Event.Kind != wire.KindCall || n.Event.InCall == nil || *n.Event.InCall != on || n.Event.From != (wire.Member{}) {
		p.t.Fatalf("%s got %+v, %v, want call %t within %s", p.session.User, n, err, on, within)
	}
	return n.Event
}

func (p *person) info() (r wire.RoomInfo) {
	p.t.Helper()
	if err := p.Call(p.t.Context(), "room.info", wire.Info{Room: "lobby"}, &r); err != nil {
		p.t.Fatal(err)
	}
	return r
}

// lobby is three people in it, at two nodes.
func lobby(t *testing.T, f *trial.Fleet) (ann, bob, eve *person) {
	t.Helper()
	ann, bob, eve = enter(t, f, 1, "ann"), enter(t, f, 1, "bob"), enter(t, f, 2, "eve")
	eve.join("lobby")
	ann.join("lobby")
	eve.sees("join")
	bob.join("lobby")
	eve.sees("join")
	ann.sees("join")
	return ann, bob, eve
}

func TestCall_IsToldToAllInTheOneOrderAndToWhoComesLater(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		ann, bob, eve := lobby(t, f)
		phone := enter(t, f, 2, "ann")
		phone.join("lobby")
		for _, p := range []*person{ann, bob, eve} {
			p.sees("join")
		}
		ann.calls()
		phone.calls()
		eve.seesNothing(20 * time.Second) // two devices of one user are no call
		if i := eve.info(); i.InCall || len(i.Call) != 2 {
			t.Errorf("one user alone: %+v", i)
		}
		stop := bob.calls()
		for _, p := range []*person{ann, bob, eve, phone} {
			if e := p.seesCall(true, time.Millisecond); e.Seq != 5 {
				t.Errorf("the call is entry %d", e.Seq)
			}
		}
		dan := enter(t, f, 2, "dan")
		var in wire.Joined
		if err := dan.Call(t.Context(), "room.join", wire.Join{Room: "lobby"}, &in); err != nil || !in.InCall || in.Seq != 6 {
			t.Fatalf("a late joiner is told %+v, %v", in, err)
		}
		i := dan.info()
		if users := []string{i.Call[0].User, i.Call[1].User, i.Call[2].User}; !i.InCall || !slices.Contains(users, "bob") || slices.Contains(users, "dan") {
			t.Errorf("who is in: %+v", i.Call)
		}
		eve.sees("join")
		eve.seesNothing(20 * time.Second) // beats alone say nothing
		stop()
		if err := bob.beat(0); err != nil {
			t.Fatal(err)
		}
		eve.seesCall(false, time.Millisecond)
		eve.seesNothing(20 * time.Second)
	})
}

func TestCall_WhatIsNoBeatIsRefused(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		ann := enter(t, f, 1, "ann")
		if err := ann.beat(1); reason(err) != wire.NotMember {
			t.Errorf("for a room that one is not in: %v", err)
		}
		ann.join("lobby")
		if err := ann.beat(2); err == nil || reason(err) != "" {
			t.Errorf("status 2: %v, want -32602", err)
		}
		if err := ann.Call(t.Context(), "call.beat", wire.Info{Room: "lobby"}, nil); err == nil {
			t.Error("no status, and no error")
		}
		if err := ann.Call(t.Context(), "room.leave", wire.Leave{Room: "lobby"}, nil); err != nil {
			t.Fatal(err)
		}
		if err := ann.beat(1); reason(err) != wire.NotMember {
			t.Errorf("for a room that one has left: %v", err)
		}
	})
}

func TestCall_BeatsHoldNobodyUpAndAFloodCostsNoMore(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		ann, bob, eve := lobby(t, f)
		if err := errors.Join(ann.beat(1), bob.beat(1)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for range 300 {
			if err := ann.beat(1); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("300 beats took %s", took)
		}
		time.Sleep(700 * time.Millisecond)
		if err := ann.beat(1); err != nil {
			t.Fatal(err)
		}
		began = time.Now()
		one := uint8(1)
		id, err := bob.Ask("call.beat", wire.Beat{Room: "lobby", Status: &one}) // waits for others
		if err != nil {
			t.Fatal(err)
		}
		if err := bob.say("at once", 1); err != nil || time.Since(began) > 10*time.Millisecond {
			t.Errorf("a send behind a beat: %v after %s", err, time.Since(began))
		}
		if err := bob.Answer(t.Context(), id, nil); err != nil || time.Since(began) < 400*time.Millisecond {
			t.Errorf("the beat: %v after %s", err, time.Since(began))
		}
		began = time.Now()
		for range 10 {
			if err := errors.Join(ann.beat(0), ann.beat(1)); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took < 9*time.Second {
			t.Errorf("20 changes of one client took %s, want two a second", took)
		}
		eve.seesCall(true, time.Millisecond)
		eve.sees("at once")
		for range 10 {
			eve.seesCall(false, time.Millisecond)
			eve.seesCall(true, time.Millisecond)
		}
	})
}

// A beat may wait for others of its room, but not until its client is late.
func TestCall_ABeatThatComesJustInTimeIsInTime(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		ann, bob, eve := lobby(t, f)
		if err := errors.Join(ann.beat(1), bob.beat(1)); err != nil {
			t.Fatal(err)
		}
		eve.seesCall(true, time.Millisecond)
		for _, pause := range []time.Duration{10 * time.Second, 4700 * time.Millisecond} {
			time.Sleep(pause)
			if err := bob.beat(1); err != nil { // the room is written
				t.Fatal(err)
			}
		}
		time.Sleep(100 * time.Millisecond)
		if err := ann.beat(1); err != nil {
			t.Fatal(err)
		}
		eve.seesNothing(10 * time.Second)
	})
}

// Whoever is left finds who is late: here a node that heard of the call alone.
func TestCall_WhoStopsIsOutInTimeThoughItsNodeIsGone(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		ann, bob, eve := lobby(t, f)
		if err := ann.beat(1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Second)
		if err := bob.beat(1); err != nil {
			t.Fatal(err)
		}
		eve.seesCall(true, time.Millisecond)
		f.Nodes[0].Cut()
		began := time.Now()
		eve.seesCall(false, 10*time.Second)
		if late := time.Since(began); late < 9*time.Second {
			t.Errorf("over %s after the cut, want 9s: 15s after ann's beat", late)
		}
		eve.seesNothing(15 * time.Second) // the grace of those who are gone goes on
		eve.sees("leave")
		eve.sees("leave")
		eve.seesNothing(20 * time.Second)
	})
}

// A node whose first member comes when the call is on has heard of it by its
// answer alone.
func TestCall_WhoStopsIsOutInTimeThoughTheRoomIsNewToTheNodeThatIsLeft(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		ann, bob, eve := enter(t, f, 1, "ann"), enter(t, f, 1, "bob"), enter(t, f, 2, "eve")
		ann.join("lobby")
		bob.join("lobby")
		if err := errors.Join(ann.beat(1), bob.beat(1)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		time.Sleep(5 * time.Second)
		eve.join("lobby")
		f.Nodes[0].Cut()
		eve.seesCall(false, 11*time.Second)
		if late := time.Since(began); late < 15*time.Second || late > 16*time.Second {
			t.Errorf("over after %s, want 15s to 16s", late)
		}
	})
}

func TestCall_GoesOnThroughAResumeInTime(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		ann, bob, eve := lobby(t, f)
		bob.calls()
		stop := ann.calls()
		eve.seesCall(true, time.Millisecond)
		stop()
		ann.Drop()
		time.Sleep(10 * time.Second)
		again := &person{t: t, Conn: dial(t, f, 2)}
		if err := again.Call(t.Context(), "resume", wire.Resume{Session: ann.session.Session, Secret: ann.session.Secret}, &again.session); err != nil {
			t.Fatal(err)
		}
		if r := again.session.Rooms[0]; !r.InCall {
			t.Errorf("resumed: %+v", r)
		}
		again.calls()
		eve.seesNothing(20 * time.Second)
		again.Drop() // and so not, when no beat follows
		eve.seesCall(false, 16*time.Second)
	})
}

func TestCall_GoesOnThroughARedirect(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		ann, eve, bob := follower(t, f, 1, "ann"), enter(t, f, 2, "eve"), enter(t, f, 2, "bob")
		since := ann.at("lobby")
		eve.join("lobby")
		bob.join("lobby")
		eve.sees("join")
		bob.calls()
		ann.sees("join")
		ann.sees("join")
		stop := ann.calls()
		eve.seesCall(true, time.Millisecond)
		bob.seesCall(true, time.Millisecond)
		ann.seesCall(true, time.Millisecond)
		stop()
		o := ann.offered()
		f.Redis.Server().SetPreHook(func(p *server.Peer, cmd string, args ...string) bool {
			lost := cmd == "PUBLISH" && strings.HasPrefix(args[1], "w ") // the source is not told of the claim
			if lost {
				p.WriteInt(0)
			}
			return lost
		})
		c, s, err := handover(t, f, 2, o, since)
		if err != nil || !s.Rooms[0].InCall {
			t.Fatalf("%+v, %v", s, err)
		}
		if err := ann.beat(1); reason(err) != wire.Moved {
			t.Errorf("a beat on the old socket: %v, want moved", err)
		}
		if err := ann.beat(0); reason(err) != wire.Moved {
			t.Errorf("a last one: %v, want moved", err)
		}
		f.Redis.Server().SetPreHook(nil)
		now := &person{t: t, Conn: c, session: s}
		now.sees("join")
		now.sees("join")
		now.seesCall(true, time.Second)
		now.calls()
		eve.seesNothing(20 * time.Second)
		if err := bob.Call(t.Context(), "bye", wire.Empty{}, nil); err != nil {
			t.Fatal(err)
		}
		eve.sees("leave")
		eve.seesCall(false, time.Millisecond)
	})
}

// Nobody is late who beats again in time once the store is back.
func TestCall_GoesOnThroughAnOutageOfTheStore(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		ann, bob, eve := lobby(t, f)
		ann.calls()
		bob.calls()
		eve.seesCall(true, time.Millisecond)
		f.Redis.SetError("LOADING not now")
		time.Sleep(11 * time.Second)
		f.Redis.SetError("")
		eve.seesNothing(20 * time.Second)
		if i := eve.info(); !i.InCall || len(i.Call) != 2 {
			t.Errorf("afterwards: %+v", i)
		}
	})
}

func TestCall_ComesBackAfterAWipe(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		ann, bob, eve := lobby(t, f)
		ann.calls()
		bob.calls()
		eve.seesCall(true, time.Millisecond)
		f.Redis.FlushAll()
		var r wire.Reset
		eve.notice("room.reset", &r)
		calls := 0
		for deadline, cancel := context.WithTimeout(t.Context(), time.Minute); ; {
			n, err := eve.next(deadline)
			if err != nil {
				cancel()
				break
			}
			switch {
			case n.Method == "presence": // of those whose sessions were registered again
			case n.Event == nil:
				t.Errorf("got %s", n.Method)
			case n.Event.Kind == wire.KindCall && *n.Event.InCall:
				calls++
			case n.Event.Kind != wire.KindJoin:
				t.Errorf("got %+v", n.Event)
			}
		}
		if !r.InCall && calls != 1 || r.InCall && calls != 0 {
			t.Errorf("reset to in_call %t, and %d changes to true", r.InCall, calls)
		}
		if i := eve.info(); !i.InCall || len(i.Call) != 2 {
			t.Errorf("afterwards: %+v", i)
		}
	})
}

func TestDrain_WhoIsInACallMovesLast(t *testing.T) {
	two(t, func(t *testing.T, f *trial.Fleet) {
		const people, callers = 24, 3
		var all []*person
		for i := range people {
			p := follower(t, f, 1, fmt.Sprint("user", i))
			p.join("lobby")
			all = append(all, p)
		}
		// One has only just come to the node, and has not beaten here.
		late := follower(t, f, 2, "late")
		late.join("lobby")
		if err := late.beat(1); err != nil {
			t.Fatal(err)
		}
		o := late.offered()
		c, s, err := handover(t, f, 1, o, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range all[:callers-1] {
			if err := p.beat(1); err != nil {
				t.Fatal(err)
			}
		}
		all = append([]*person{{t: t, Conn: c, session: s}}, all...)
		offered := make([]time.Time, len(all))
		var waiting sync.WaitGroup
		for i, p := range all {
			waiting.Go(func() {
				for offered[i].IsZero() {
					n, err := p.Next(t.Context())
					if err != nil {
						t.Error(err)
						return
					}
					if n.Method == "redirect" {
						offered[i] = time.Now()
					}
				}
			})
		}
		drainFirst(t, f, 10*time.Second)
		waiting.Wait()
		last := slices.MaxFunc(offered[callers:], time.Time.Compare)
		for i, at := range offered[:callers] {
			if at.Before(last) {
				t.Errorf("caller %d was offered another node %s before the last of the others", i, last.Sub(at))
			}
		}
	})
}

// life has the store say which life of it this is, from now on.
func life(f *trial.Fleet, id string) {
	began := time.Now()
	f.Redis.Server().SetPreHook(func(p *server.Peer, cmd string, _ ...string) bool {
		if !strings.EqualFold(cmd, "INFO") {
			return false
		}
		p.WriteBulk(fmt.Sprintf("# Server\r\nrun_id:%s\r\nuptime_in_seconds:%d\r\n", id, int(time.Since(began).Seconds())))
		return true
	})
}

// The store is away for longer than from a beat to the next but one, and starts
// again with its data; the last node finds it a while after the first.
func TestCall_GoesOnThroughARestartOfTheStoreWithItsData(t *testing.T) {
	for _, restarted := range []bool{true, false} {
		fleet(t, func(t *testing.T, f *trial.Fleet) {
			life(f, "aaaa")
			ann, eve, bob := enter(t, f, 1, "ann"), enter(t, f, 1, "eve"), enter(t, f, 2, "bob")
			eve.join("lobby")
			ann.join("lobby")
			bob.join("lobby")
			eve.sees("join")
			eve.sees("join")
			stops := []func(){ann.calls(), bob.calls()}
			eve.seesCall(true, time.Millisecond)
			time.Sleep(3900 * time.Millisecond)
			f.Nodes[0].Part()
			f.Nodes[1].Part()
			time.Sleep(14 * time.Second)
			if restarted {
				life(f, "bbbb")
			}
			f.Nodes[0].Join()
			time.Sleep(1500 * time.Millisecond)
			f.Nodes[1].Join()
			if !restarted { // and with no new life, whose beats are not there is late
				eve.seesCall(false, 2*time.Second)
				return
			}
			eve.seesNothing(40 * time.Second)
			if i := eve.info(); !i.InCall || len(i.Call) != 2 {
				t.Errorf("after the outage: %+v", i)
			}
			for _, stop := range stops {
				stop()
			}
			eve.seesCall(false, 16*time.Second) // later on nobody is put off
		})
	}
}

// Who leaves a call while the node may not write has left it.
func TestCall_LeftWhileItsNodeIsFencedIsLeft(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		ann, bob, eve := enter(t, f, 1, "ann"), enter(t, f, 2, "bob"), enter(t, f, 2, "eve")
		eve.join("lobby")
		ann.join("lobby")
		bob.join("lobby")
		eve.sees("join")
		eve.sees("join")
		defer bob.calls()()
		if err := ann.beat(1); err != nil {
			t.Fatal(err)
		}
		eve.seesCall(true, time.Second)
		f.Nodes[0].Part()
		f.Nodes[1].Part() // which would take her for lost
		time.Sleep(9500 * time.Millisecond)
		if err := ann.beat(0); reason(err) != wire.Unavailable {
			t.Fatalf("her leave, of a fenced node: %v", err)
		}
		f.Nodes[0].Join()
		f.Nodes[1].Join()
		eve.seesCall(false, 3*time.Second) // and not when her last beat is too old
	})
}

func TestCall_AFloodOverTheRateIsRefusedAndTheCallGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := trial.Start(trial.Options{Bubble: true, Change: func(s *trial.Settings) { s.Server.Rate, s.Server.Burst = 1, 5 }})
		defer f.Close()
		time.Sleep(3 * time.Second)
		ann, bob := enter(t, f, 1, "ann"), enter(t, f, 1, "bob")
		ann.join("lobby")
		bob.join("lobby")
		ann.sees("join")
		if err := errors.Join(bob.beat(1), ann.beat(1)); err != nil {
			t.Fatal(err)
		}
		ann.seesCall(true, time.Second)
		var refused int
		for range 20 {
			switch err := ann.beat(1); reason(err) {
			case wire.RateLimited:
				refused++
			case "":
				if err != nil {
					t.Fatal(err)
				}
			default:
				t.Fatalf("a flood is answered %v", err)
			}
		}
		if refused < 15 {
			t.Errorf("%d of 20 beats at once were refused, want all but a few", refused)
		}
		time.Sleep(4 * time.Second)
		if err := errors.Join(ann.beat(1), bob.beat(1)); err != nil {
			t.Errorf("then, in time: %v", err)
		}
		ann.seesNothing(13 * time.Second)
	})
}
