package client_test

import (
	"reflect"
	"testing"

	"godwit/client"
	"godwit/wire"
)

// joined is the answer to a join of r at epoch e1.
func joined(seq uint64) wire.Joined { return wire.Joined{Room: "r", Epoch: "e1", Seq: seq} }

func (p *peer) reset(epoch string, seq uint64) {
	p.notice("room.reset", wire.Reset{Room: "r", Epoch: epoch, Seq: seq})
	p.sync()
}

func wantReset(t *testing.T, c *client.Client, epoch string) {
	t.Helper()
	if r, ok := next(t, c).(*wire.Reset); !ok || r.Epoch != epoch {
		t.Fatalf("event is %+v, want the reset to %s", r, epoch)
	}
}

func TestRedirect_WhatTheNewNodeCannotRecoverIsSaid(t *testing.T) {
	for name, c := range map[string]struct {
		seen uint64           // by the old socket, after the handover was said
		told wire.SessionRoom // by the new one
		gap  bool
	}{
		"the log was trimmed":                  {4, wire.SessionRoom{Room: "r", Epoch: "e1", Seq: 9}, true},
		"another epoch":                        {4, wire.SessionRoom{Room: "r", Epoch: "e2", Seq: 9}, true},
		"another epoch, with a lower head":     {4, wire.SessionRoom{Room: "r", Epoch: "e2", Seq: 2}, true},
		"the log was rolled back":              {4, wire.SessionRoom{Room: "r", Epoch: "e1", Seq: 2}, true},
		"the old socket had told it meanwhile": {9, wire.SessionRoom{Room: "r", Epoch: "e1", Seq: 9}, false},
		"and more":                             {11, wire.SessionRoom{Room: "r", Epoch: "e1", Seq: 9}, false},
		"but not all of it":                    {8, wire.SessionRoom{Room: "r", Epoch: "e1", Seq: 9}, true},
	} {
		t.Run(name, func(t *testing.T) {
			x := cross(t)
			for seq := uint64(5); seq <= c.seen; seq++ {
				x.old.event("r", seq)
				nextSeq(t, x.c, seq)
			}
			x.over(c.told)
			if c.gap {
				if got := next(t, x.c); got != (client.Gap{Room: "r", Epoch: c.told.Epoch, Seq: c.told.Seq}) {
					t.Fatalf("event is %+v, want the gap", got)
				}
				c.seen = c.told.Seq
				// What the old socket tells is of an order that was left.
				x.old.event("r", c.seen+5)
				x.old.sync()
			}
			x.p.event("r", c.seen)
			x.p.event("r", c.seen+1)
			nextSeq(t, x.c, c.seen+1)
			a := send(t, x.c, "a")
			x.p.want("handover.done")
			x.p.answer(x.p.wantSend(1, "a"), wire.Sent{Seq: 100})
			wantSent(t, a, wire.Sent{Seq: 100})
		})
	}
}

func TestRedirect_ARoomThatIsNotNamedInTheAnswerIsLost(t *testing.T) {
	x := cross(t)
	x.over()
	lost, ok := next(t, x.c).(client.Lost)
	if !ok || !reflect.DeepEqual(lost.Rooms, []string{"r"}) || !client.Is(lost.Err, wire.NotMember) {
		t.Errorf("event is %+v, want lost of r", lost)
	}
	if got := x.c.Positions(); len(got) != 0 {
		t.Errorf("positions are %v, want none", got)
	}
}

// The answer was written before the kick, and is read after it.
func TestRedirect_AKickThatTheOldSocketToldIsNotUndone(t *testing.T) {
	x := cross(t)
	kick := &wire.RoomEvent{Room: "r", Seq: 6, Kind: wire.KindLeave, Reason: wire.LeftKicked, From: wire.Member{User: "ann", Client: 7}}
	x.old.event("r", 5)
	x.old.write(kick.Frame())
	nextSeq(t, x.c, 5)
	nextSeq(t, x.c, 6)
	x.over(at(4, 0))
	x.p.want("handover.done")
	x.p.event("r", 5)
	x.p.write(kick.Frame())
	if _, err := x.c.Send(t.Context(), "r", "a"); !client.Is(err, wire.NotMember) {
		t.Errorf("send: %v, want not_member", err)
	}
	x.s.join(x.c, x.p, "r", 9) // the next event is this Joined
	x.p.event("r", 10)
	nextSeq(t, x.c, 10)
	// But a later membership than the kick's is one.
	x.old.close(wire.CloseMoved)
	x.old = x.p
	x.offer("o2")
	kick = &wire.RoomEvent{Room: "r", Seq: 11, Kind: wire.KindLeave, Reason: wire.LeftKicked, From: wire.Member{User: "ann", Client: 7}}
	x.old.write(kick.Frame())
	nextSeq(t, x.c, 11)
	x.p.answer(x.ask, handed(3, wire.SessionRoom{Room: "r", Epoch: "e1", Seq: 15}))
	if got := next(t, x.c); got != (client.Joined{Room: "r", Epoch: "e1", Seq: 15}) {
		t.Errorf("event is %+v, want joined at 15", got)
	}
}

func TestRedirect_AResetCountsFromTheNewestSocket(t *testing.T) {
	t.Run("after the answer", func(t *testing.T) {
		x := cross(t)
		x.over(at(4, 0))
		x.old.reset("e2", 2) // not heard
		x.old.event("r", 7)  // and what follows is of e2
		x.old.sync()
		x.p.event("r", 5)
		nextSeq(t, x.c, 5)
		x.p.reset("e2", 1)
		wantReset(t, x.c, "e2")
		x.old.event("r", 8)
		x.old.sync()
		x.p.event("r", 2)
		x.p.event("r", 3)
		nextSeq(t, x.c, 2)
		nextSeq(t, x.c, 3)
	})
	t.Run("the old socket is still in the epoch before", func(t *testing.T) {
		x := cross(t)
		x.over(at(4, 0))
		x.p.reset("e2", 1)
		wantReset(t, x.c, "e2")
		x.old.event("r", 5)
		x.old.sync()
		x.p.event("r", 2)
		nextSeq(t, x.c, 2)
	})
	t.Run("the new socket is still in the epoch before", func(t *testing.T) {
		x := cross(t)
		x.old.reset("e2", 1)
		wantReset(t, x.c, "e2")
		x.old.event("r", 2)
		nextSeq(t, x.c, 2)
		x.over(at(6, 0)) // in e1, which is over
		x.p.event("r", 5)
		x.p.sync()
		x.old.event("r", 3)
		nextSeq(t, x.c, 3)
		x.p.reset("e2", 1) // told before
		x.p.event("r", 2)
		x.p.event("r", 3)
		x.p.event("r", 4)
		nextSeq(t, x.c, 4)
	})
	t.Run("a new membership ends it", func(t *testing.T) {
		x := cross(t)
		x.over(at(4, 0))
		x.p.want("handover.done")
		left := async(func() (any, error) { return nil, x.c.Leave(t.Context(), "r") })
		x.p.answer(x.p.want("room.leave"), wire.Empty{})
		if _, err := left(t); err != nil {
			t.Fatal(err)
		}
		res := async(func() (wire.Joined, error) { return x.c.Join(t.Context(), "r") })
		x.p.answer(x.p.want("room.join"), wire.Joined{Room: "r", Epoch: "e7", Seq: 1})
		if _, err := res(t); err != nil {
			t.Fatal(err)
		}
		if got := next(t, x.c); got != (client.Joined{Room: "r", Epoch: "e7", Seq: 1}) {
			t.Errorf("event is %+v, want joined at e7", got)
		}
		x.p.event("r", 2)
		nextSeq(t, x.c, 2)
	})
}

// A room that handover does not name could not be recovered.
func TestRedirect_JoinsAreSettledBeforeTheHandoverAndWaitForItsAnswer(t *testing.T) {
	s, to := newScript(t), newScript(t)
	c, old := s.dial(options(s))
	first := async(func() (wire.Joined, error) { return c.Join(t.Context(), "r") })
	f := old.want("room.join")
	old.offer("o1", to)
	p := to.accept() // dialled, and the join is not answered
	p.sync()
	p.quiet()
	old.answer(f, joined(3))
	if _, err := first(t); err != nil {
		t.Fatal(err)
	}
	ask := p.want("handover")
	if pos := param[wire.Handover](t, ask).Positions; len(pos) != 1 || pos["r"].Seq != 3 {
		t.Errorf("positions are %+v, want r at 3", pos)
	}
	second := async(func() (wire.Joined, error) { return c.Join(t.Context(), "q") })
	a := send(t, c, "a") // sends are not held up
	old.answer(old.wantSend(1, "a"), wire.Sent{Seq: 4})
	wantSent(t, a, wire.Sent{Seq: 4})
	p.answer(ask, handed(2, at(4, 1)))
	for range 2 { // the join may be called only now
		if f := <-p.frames; f.Method == "room.join" {
			p.answer(f, wire.Joined{Room: "q", Epoch: "e1", Seq: 1})
		} else if f.Method != "handover.done" {
			t.Errorf("client sent %s", f.Method)
		}
	}
	if _, err := second(t); err != nil {
		t.Error(err)
	}
	old.sync()
	old.quiet()
}

func TestRedirect_JoinsThatWaitedGoOutOnTheOldSocketWhenItFails(t *testing.T) {
	x := cross(t)
	res := async(func() (wire.Joined, error) { return x.c.Join(t.Context(), "q") })
	x.p.refuse(x.ask, wire.Errorf(wire.Capacity, "full"))
	x.p.gone()
	seen := map[string]bool{}
	for range 2 {
		f := <-x.old.frames
		seen[f.Method] = true
		if f.Method == "room.join" {
			x.old.answer(f, wire.Joined{Room: "q", Epoch: "e1", Seq: 1})
		}
	}
	if !seen["room.join"] || !seen["redirect.refuse"] {
		t.Errorf("client said %v, want the join and the refusal", seen)
	}
	if _, err := res(t); err != nil {
		t.Error(err)
	}
}

func TestRedirect_ALeaveWhoseAnswerIsLateIsDone(t *testing.T) {
	x := cross(t)
	left := async(func() (any, error) { return nil, x.c.Leave(t.Context(), "r") })
	f := x.old.want("room.leave")
	x.over() // it was done before
	x.old.answer(f, wire.Empty{})
	if _, err := left(t); err != nil {
		t.Error(err)
	}
	x.old.close(wire.CloseMoved)
	x.p.want("handover.done")
	x.s.join(x.c, x.p, "r", 9) // and there was no Lost
}

// A reader that waits for the application does not hold up what comes after.
func TestRedirect_AnOldSocketThatIsNotReadDoesNotHoldUpAResume(t *testing.T) {
	x := cross(t, func(o *client.Options) { o.EventBuffer = 2 })
	x.over(at(4, 0))
	x.p.want("handover.done")
	for seq := uint64(5); seq < 20; seq++ {
		x.old.event("r", seq) // nobody takes them
	}
	x.p.cut()
	x.old.gone()
	p := x.s.accept()
	s := resumed(at(30, 0))
	s.Gen = 3
	f := p.want("resume")
	p.answer(f, s)
	from := param[wire.Resume](t, f).Positions["r"].Seq
	for seq := uint64(5); seq <= from; seq++ {
		nextSeq(t, x.c, seq)
	}
	wantResumed(t, x.c)
	for seq := from; seq < 30; seq++ {
		p.event("r", seq+1)
		nextSeq(t, x.c, seq+1)
	}
}
