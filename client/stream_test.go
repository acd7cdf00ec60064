package client_test

import (
	"context"
	"errors"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"godwit/client"
	"godwit/wire"
)

func TestPositions_AreTheLastEventReceivedNotTheAnswerOfASend(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(options(s))
	s.join(c, p, "r", 3)
	s.join(c, p, "quiet", 8)
	p.event("r", 4)
	p.event("r", 6) // 5 was not addressed to this session
	nextSeq(t, c, 4)
	if got := c.Positions()["r"]; got != (wire.Position{Epoch: "e1", Seq: 4, TS: 1004}) {
		t.Errorf("position is %+v, want what the application has read, seq 4", got)
	}
	a := send(t, c, "a")
	p.answer(p.wantSend(1, "a"), wire.Sent{Seq: 9})
	wantSent(t, a, wire.Sent{Seq: 9})
	p.cut()

	p = s.accept()
	f := p.want("resume")
	want := wire.Resume{Session: "s1", Secret: "secret1", Positions: map[string]wire.Position{
		"r": {Epoch: "e1", Seq: 6, TS: 1006}, "quiet": {Epoch: "e1", Seq: 8},
	}, Caps: []string{"redirect"}}
	if got := param[wire.Resume](t, f); !reflect.DeepEqual(got, want) {
		t.Errorf("resume is %+v, want %+v", got, want)
	}
	// A recovered room keeps its own position: the replay up to the head follows.
	p.answer(f, resumed(wire.SessionRoom{Room: "r", Epoch: "e1", Seq: 9, Recovered: true, CSeq: 1},
		wire.SessionRoom{Room: "quiet", Epoch: "e1", Seq: 8, Recovered: true}))
	p.event("r", 6) // seen
	p.event("r", 8)
	p.event("r", 8) // doubled
	p.event("r", 10)
	nextSeq(t, c, 6)
	wantResumed(t, c)
	nextSeq(t, c, 8)
	nextSeq(t, c, 10)
	if got := c.Positions()["r"]; got.Seq != 10 {
		t.Errorf("position is %+v, want seq 10", got)
	}
}

func TestResume_WhatIsMissingIsSaid(t *testing.T) {
	s := newScript(t)
	o := options(s)
	states := make(chan client.State, 8)
	o.OnState = func(st client.State) { states <- st }
	c, p := s.dial(o)
	if st, ok := (<-states).(client.Connected); !ok || st.Resumed || st.Session.Secret != "" {
		t.Errorf("first state is %+v, want a new session without its secret", st)
	}
	s.join(c, p, "holed", 3)
	s.join(c, p, "kept", 3)
	s.join(c, p, "out", 3)
	out := async(func() (wire.Sent, error) { return c.Send(t.Context(), "out", "a") })
	p.wantSend(1, "a")
	p.close(wire.CloseTooSlow)
	if st, ok := (<-states).(client.Disconnected); !ok || st.Code != wire.CloseTooSlow || st.Final {
		t.Errorf("state is %+v, want disconnected by 4200, not final", st)
	}
	p = s.accept()
	p.answer(p.want("resume"), resumed(
		wire.SessionRoom{Room: "holed", Epoch: "e2", Seq: 1},
		wire.SessionRoom{Room: "kept", Epoch: "e1", Seq: 3, Recovered: true}))
	wantResumed(t, c)
	if got := next(t, c); got != (client.Gap{Room: "holed", Epoch: "e2", Seq: 1}) {
		t.Errorf("event is %+v, want the gap", got)
	}
	lost, ok := next(t, c).(client.Lost)
	if !ok || !reflect.DeepEqual(lost.Rooms, []string{"out"}) || !client.Is(lost.Err, wire.NotMember) {
		t.Errorf("event is %+v, want lost of room out: not_member", lost)
	}
	if _, err := out(t); !errors.Is(err, client.ErrUnsettled) {
		t.Errorf("send to the lost room: %v, want ErrUnsettled", err)
	}
	st, ok := (<-states).(client.Connected)
	if !ok || !st.Resumed || len(st.Rooms) != 2 || st.Rooms[0].Recovered || !st.Rooms[1].Recovered {
		t.Errorf("state is %+v, want resumed with each room's flag", st)
	}
	p.event("holed", 2)
	nextSeq(t, c, 2)
}

func TestJoin_AnswerLostButMembershipKept(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(options(s))
	join := async(func() (wire.Joined, error) { return c.Join(t.Context(), "r") })
	p.want("room.join")
	p.cut()
	p = s.accept()
	p.answer(p.want("resume"), resumed(wire.SessionRoom{Room: "r", Epoch: "e1", Seq: 5}))
	f := p.want("room.join")
	if since := param[wire.Join](t, f).Since; since == nil || *since != (wire.Position{Epoch: "e1", Seq: 5}) {
		t.Errorf("the repeat asks for what follows %+v, want e1/5 which the resume told", since)
	}
	p.event("r", 6)
	p.answer(f, wire.Joined{Room: "r", Epoch: "e1", Seq: 6, Recovered: true})
	p.event("r", 7)
	if _, err := join(t); err != nil {
		t.Fatal(err)
	}
	wantResumed(t, c)
	if got := next(t, c); got != (client.Joined{Room: "r", Epoch: "e1", Seq: 5}) {
		t.Errorf("event is %+v, want joined at 5", got)
	}
	nextSeq(t, c, 6)
	nextSeq(t, c, 7)
}

func TestJoin_ReplayBeginsAtThePositionAskedFor(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(options(s))
	join := async(func() (wire.Joined, error) {
		return c.Join(t.Context(), "r", wire.Position{Epoch: "e1", Seq: 2})
	})
	p.answer(p.want("room.join"), wire.Joined{Room: "r", Epoch: "e1", Seq: 4, Recovered: true})
	p.event("r", 3)
	if j, err := join(t); err != nil || !j.Recovered {
		t.Fatalf("join: %+v, %v, want recovered", j, err)
	}
	if got := next(t, c); got != (client.Joined{Room: "r", Epoch: "e1", Seq: 2, Recovered: true}) {
		t.Errorf("event is %+v, want joined at 2, recovered", got)
	}
	nextSeq(t, c, 3)
}

func TestSessionGone_HelloAgainAndRoomsJoinedAgain(t *testing.T) {
	for name, end := range map[string]func(s *script, p *peer){
		"close code 4300": func(_ *script, p *peer) { p.close(wire.CloseTokenExpired) },
		"close code 43xx": func(_ *script, p *peer) { p.close(4399) },
		"resume answered no_session": func(s *script, p *peer) {
			p.cut()
			p = s.accept()
			p.refuse(p.want("resume"), wire.Errorf(wire.NoSession, "no such session"))
			p.close(wire.CloseSessionGone)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript(t)
			o := options(s)
			var asked int
			o.Token = func(context.Context) (string, error) {
				asked++
				return []string{"first", "second"}[asked-1], nil
			}
			c, p := s.dial(o)
			s.join(c, p, "a", 3)
			s.join(c, p, "r", 3)
			open := send(t, c, "open")
			p.wantSend(1, "open")
			end(s, p)

			p = s.accept()
			f := p.want("hello")
			if got := param[wire.Hello](t, f).Token; got != "second" {
				t.Errorf("hello with token %q, want a fresh one", got)
			}
			p.answer(f, hello())
			if _, err := open(t); !errors.Is(err, client.ErrUnsettled) || !errors.Is(err, client.ErrSessionGone) {
				t.Errorf("send in flight: %v, want ErrUnsettled, ErrSessionGone", err)
			}
			lost, ok := next(t, c).(client.Lost)
			if !ok || !reflect.DeepEqual(lost.Rooms, []string{"a", "r"}) || !errors.Is(lost.Err, client.ErrSessionGone) {
				t.Fatalf("event is %+v, want lost of a and r", lost)
			}
			f = p.want("room.join")
			if j := param[wire.Join](t, f); j.Room != "a" || j.Since == nil || j.Since.Seq != 3 {
				t.Errorf("join is %s, want a since 3", f.Params)
			}
			p.refuse(f, wire.Errorf(wire.RoomFull, "full"))
			lost, ok = next(t, c).(client.Lost)
			if !ok || !reflect.DeepEqual(lost.Rooms, []string{"a"}) || !client.Is(lost.Err, wire.RoomFull) {
				t.Fatalf("event is %+v, want lost of a: room_full", lost)
			}
			later := send(t, c, "later") // waits for the room
			p.answer(p.want("room.join"), wire.Joined{Room: "r", Epoch: "e1", Seq: 9})
			if got := next(t, c); got != (client.Joined{Room: "r", Epoch: "e1", Seq: 9}) {
				t.Errorf("event is %+v, want joined at 9", got)
			}
			p.answer(p.wantSend(1, "later"), wire.Sent{Seq: 10})
			wantSent(t, later, wire.Sent{Seq: 10})
		})
	}
}

func TestKick_EndsTheMembershipAndItsSends(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(options(s))
	s.join(c, p, "r", 1)
	a := send(t, c, "a")
	fa := p.wantSend(1, "a")
	leave := &wire.RoomEvent{Room: "r", Seq: 2, Kind: wire.KindLeave, Reason: wire.LeftKicked, From: wire.Member{User: "ann", Client: 7}}
	p.write(leave.Frame())
	p.event("r", 3)
	p.refuse(fa, wire.Errorf(wire.NotMember, "not a member"))
	if _, err := a(t); !client.Is(err, wire.NotMember) || errors.Is(err, client.ErrUnsettled) {
		t.Errorf("send: %v, want not_member", err)
	}
	nextSeq(t, c, 2)
	if _, err := c.Send(t.Context(), "r", "b"); !client.Is(err, wire.NotMember) {
		t.Errorf("send after the kick: %v, want not_member", err)
	}
	if len(c.Positions()) != 0 {
		t.Errorf("positions are %v, want none", c.Positions())
	}
	s.join(c, p, "r", 5) // seq 3 is not in the stream
	b := send(t, c, "b")
	p.answer(p.wantSend(1, "b"), wire.Sent{Seq: 6})
	wantSent(t, b, wire.Sent{Seq: 6})
}

func TestEvents_AFullQueueStopsTheReaderAndDropsNothing(t *testing.T) {
	s := newScript(t)
	o := options(s)
	o.EventBuffer = 4
	c, p := s.dial(o)
	s.join(c, p, "r", 0)
	// More than the kernel's buffers hold, so the node's writes come to a stop.
	const n = 3000
	pad := make([]byte, 8000)
	for i := range pad {
		pad[i] = 'x'
	}
	var written atomic.Int64
	finished := async(func() (any, error) {
		for i := 1; i <= n; i++ {
			p.write((&wire.RoomEvent{
				Room: "r", Seq: uint64(i), Kind: wire.KindMessage, From: wire.Member{User: "bo", Client: 99},
				Data: wire.Raw(`"` + string(pad) + `"`),
			}).Frame())
			written.Add(1)
		}
		return nil, nil
	})
	// The node's writes have come to a stop when a tenth of a second adds none.
	for before := int64(-1); written.Load() != before; {
		before = written.Load()
		<-time.After(100 * time.Millisecond)
	}
	if got := written.Load(); got == n {
		t.Fatal("the client read all events though nobody took them")
	}
	for i := 1; i <= n; i++ {
		nextSeq(t, c, uint64(i))
	}
	_, _ = finished(t)
}

func TestEvents_ACallFromTheReaderOfEventsGetsItsAnswer(t *testing.T) {
	s := newScript(t)
	o := options(s)
	o.EventBuffer = 2
	c, p := s.dial(o)
	s.join(c, p, "r", 0)
	a := send(t, c, "a")
	f := p.wantSend(1, "a")
	for i := range 10 {
		p.event("r", uint64(i+1))
	}
	p.answer(f, wire.Sent{Seq: 11})
	wantSent(t, a, wire.Sent{Seq: 11}) // nobody has read an event
	for i := range 10 {
		nextSeq(t, c, uint64(i+1))
	}
}

func TestEvents_RangeEndsWithTheClient(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(options(s))
	s.join(c, p, "r", 0)
	p.event("r", 1)
	p.notice("presence", map[string]any{"user": "x"}) // unknown: ignored
	p.event("r", 2)
	p.close(wire.CloseSignedOut)
	var seqs []uint64
	var last error
	for e, err := range c.Events(t.Context()) {
		if err != nil {
			last = err
			continue
		}
		seqs = append(seqs, e.(*wire.RoomEvent).Seq)
	}
	var ce *client.CloseError
	if !reflect.DeepEqual(seqs, []uint64{1, 2}) || !errors.As(last, &ce) || ce.Code != wire.CloseSignedOut {
		t.Errorf("events %v then %v, want 1, 2, then close code 4403", seqs, last)
	}
	if _, err := c.Send(t.Context(), "r", "a"); !errors.As(err, &ce) {
		t.Errorf("send after the end: %v, want the close error", err)
	}
	<-c.Done()
}

// What put the session out before it joined again is read with the rest, and puts
// it out of nothing.
func TestJoin_WhatEndedTheMembershipBeforeEndsNoOther(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(options(s))
	since := wire.Position{Epoch: "e1", Seq: 10}
	res := async(func() (wire.Joined, error) { return c.Join(t.Context(), "r", since) })
	p.answer(p.want("room.join"), wire.Joined{Room: "r", Epoch: "e1", Seq: 20, Recovered: true})
	if _, err := res(t); err != nil {
		t.Fatal(err)
	}
	next(t, c) // joined
	leave := func(seq uint64) {
		p.write((&wire.RoomEvent{Room: "r", Seq: seq, Kind: wire.KindLeave, Reason: wire.LeftClosed, TS: 1}).Frame())
	}
	leave(15)
	nextSeq(t, c, 15)
	p.event("r", 16)
	nextSeq(t, c, 16)
	leave(21)
	nextSeq(t, c, 21)
	if _, err := c.Send(t.Context(), "r", "a"); !client.Is(err, wire.NotMember) {
		t.Errorf("a send after the room was closed: %v, want not_member", err)
	}
}
