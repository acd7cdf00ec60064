package client_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"godwit/client"
	"godwit/wire"
)

func send(t testing.TB, c *client.Client, text string, o ...client.SendOption) func(testing.TB) (wire.Sent, error) {
	return async(func() (wire.Sent, error) { return c.Send(t.Context(), "r", text, o...) })
}

func wantSent(t testing.TB, res func(testing.TB) (wire.Sent, error), want wire.Sent) {
	t.Helper()
	got, err := res(t)
	if err != nil || got != want {
		t.Fatalf("send: %+v, %v, want %+v", got, err, want)
	}
}

func TestSend_IsRepeatedWithItsNumberWhenTheAnswerIsLost(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(options(s))
	s.join(c, p, "r", 1)
	a := send(t, c, "a")
	p.wantSend(1, "a")
	b := send(t, c, "b")
	p.wantSend(2, "b")
	p.cut()

	p = s.accept()
	p.answer(p.want("resume"), resumed(wire.SessionRoom{Room: "r", Epoch: "e1", Seq: 2, Recovered: true, CSeq: 1}))
	p.answer(p.wantSend(1, "a"), wire.Sent{Seq: 2, TS: 5, Dup: true})
	p.answer(p.wantSend(2, "b"), wire.Sent{Seq: 3, TS: 6})
	wantSent(t, a, wire.Sent{Seq: 2, TS: 5, Dup: true})
	wantSent(t, b, wire.Sent{Seq: 3, TS: 6})
}

func TestSend_ARefusedSendFreesItsNumberForTheNext(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(options(s))
	s.join(c, p, "r", 1)

	// Alone: the next send takes the number.
	a := send(t, c, "a", client.ToUser("nobody"))
	p.refuse(p.wantSend(1, "a"), wire.Errorf(wire.NoRecipient, "nobody there"))
	if _, err := a(t); !client.Is(err, wire.NoRecipient) {
		t.Fatalf("send: %v, want no_recipient", err)
	}
	// Pipelined: those behind answer gap and are sent again, in order, once all
	// answers are in.
	b := send(t, c, "b")
	fb := p.wantSend(1, "b")
	d := send(t, c, "d")
	fd := p.wantSend(2, "d")
	e := send(t, c, "e")
	fe := p.wantSend(3, "e")
	p.refuse(fb, wire.Errorf(wire.TooLarge, "too large"))
	p.refuse(fd, wire.ErrGap(1))
	if _, err := b(t); !client.Is(err, wire.TooLarge) {
		t.Fatalf("send: %v, want too_large", err)
	}
	p.quiet()
	p.refuse(fe, wire.ErrGap(1))
	p.answer(p.wantSend(1, "d"), wire.Sent{Seq: 2})
	p.answer(p.wantSend(2, "e"), wire.Sent{Seq: 3})
	wantSent(t, d, wire.Sent{Seq: 2})
	wantSent(t, e, wire.Sent{Seq: 3})
	f := send(t, c, "f")
	p.answer(p.wantSend(3, "f"), wire.Sent{Seq: 4})
	wantSent(t, f, wire.Sent{Seq: 4})
}

func TestSend_IsRepeatedAfterUnavailableAndRateLimited(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(options(s))
	s.join(c, p, "r", 1)
	a := send(t, c, "a")
	p.refuse(p.wantSend(1, "a"), wire.ErrUnavailable())
	f := p.wantSend(1, "a")
	const wait = 80 * time.Millisecond
	start := time.Now()
	p.refuse(f, wire.ErrRateLimited(wait))
	f = p.wantSend(1, "a")
	if d := time.Since(start); d < wait {
		t.Errorf("repeated after %v, want at least the %v that the server asked for", d, wait)
	}
	p.answer(f, wire.Sent{Seq: 2})
	wantSent(t, a, wire.Sent{Seq: 2})
}

// With a window of one, nothing may overtake what waits.
func TestSend_ALateAnswerLetsTheNextGoInOrder(t *testing.T) {
	x := cross(t)
	a := send(t, x.c, "a")
	f := x.old.wantSend(1, "a")
	for range 6 {
		x.old.refuse(f, wire.ErrRateLimited(time.Millisecond))
		f = x.old.wantSend(1, "a")
	}
	b := send(t, x.c, "b")
	x.old.sync()
	x.old.quiet()
	d := send(t, x.c, "d")
	x.over(at(5, 1))
	x.p.wantSend(1, "a")
	x.p.want("handover.done")
	x.old.answer(f, wire.Sent{Seq: 5})
	wantSent(t, a, wire.Sent{Seq: 5})
	first := x.p.want("room.send")
	second := x.p.want("room.send")
	for i, f := range []frame{first, second} {
		if m := param[wire.Send](t, f); m.CSeq == nil || *m.CSeq != uint64(i+2) {
			t.Errorf("send %d is %s, want cseq %d", i, f.Params, i+2)
		}
		x.p.answer(f, wire.Sent{Seq: uint64(i + 6)})
	}
	_, _ = b(t)
	_, _ = d(t)
}

func TestSend_CallsArePipelinedInOrderUpToWhatTheStoreRemembers(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(options(s))
	s.join(c, p, "r", 1)
	const n = 70
	var res []func(testing.TB) (wire.Sent, error)
	var got []frame
	for range n {
		res = append(res, send(t, c, "x"))
		if len(got) < 64 {
			got = append(got, p.wantSend(uint64(len(got)+1), "x"))
		}
	}
	p.answer(got[0], wire.Sent{Seq: 2})
	got = append(got, p.wantSend(65, "x"))
	p.quiet()
	for i := 1; i < n; i++ {
		p.answer(got[i], wire.Sent{Seq: uint64(i + 2)})
		if len(got) < n {
			got = append(got, p.wantSend(uint64(len(got)+1), "x"))
		}
	}
	for _, r := range res {
		if _, err := r(t); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSend_OneThatWasWrittenIsSettledAfterItsCallerLeft(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(options(s))
	s.join(c, p, "r", 1)
	ctx, cancel := context.WithCancel(t.Context())
	a := async(func() (wire.Sent, error) { return c.Send(ctx, "r", "a") })
	p.wantSend(1, "a")
	cancel()
	if _, err := a(t); !errors.Is(err, client.ErrUnsettled) || !errors.Is(err, context.Canceled) {
		t.Fatalf("send: %v, want ErrUnsettled and context.Canceled", err)
	}
	p.cut()
	p = s.accept()
	p.answer(p.want("resume"), resumed(wire.SessionRoom{Room: "r", Epoch: "e1", Seq: 1, Recovered: true}))
	p.answer(p.wantSend(1, "a"), wire.Sent{Seq: 2})
	b := send(t, c, "b")
	p.answer(p.wantSend(2, "b"), wire.Sent{Seq: 3})
	wantSent(t, b, wire.Sent{Seq: 3})
}

func TestSend_OneThatWasNotWrittenIsWithdrawn(t *testing.T) {
	s := newScript(t)
	o := options(s)
	o.MinBackoff, o.MaxBackoff = time.Hour, time.Hour
	down := make(chan struct{})
	o.OnState = func(st client.State) {
		if _, ok := st.(client.Disconnected); ok {
			close(down)
		}
	}
	c, p := s.dial(o)
	s.join(c, p, "r", 1)
	p.cut()
	<-down
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err := c.Send(ctx, "r", "a")
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, client.ErrUnsettled) {
		t.Fatalf("send: %v, want only the end of its context", err)
	}
}

func TestSend_WithoutNumberIsNotRepeated(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(options(s))
	s.join(c, p, "r", 1)
	a := send(t, c, "a", client.NoRepeat())
	p.wantSend(0, "a")
	p.cut()
	if _, err := a(t); !errors.Is(err, client.ErrUnsettled) {
		t.Fatalf("send: %v, want ErrUnsettled", err)
	}
	p = s.accept()
	p.answer(p.want("resume"), resumed(wire.SessionRoom{Room: "r", Epoch: "e1", Seq: 1, Recovered: true}))
	e := send(t, c, "e", client.Ephemeral(), client.ToClient(9), client.Type(3))
	f := p.wantSend(0, "e")
	if m := param[wire.Send](t, f); !m.Ephemeral || m.To == nil || *m.To.Client != 9 || *m.Type != 3 {
		t.Errorf("send is %s, want ephemeral, to client 9, type 3", f.Params)
	}
	p.refuse(f, wire.ErrUnavailable())
	if _, err := e(t); !client.Is(err, wire.Unavailable) {
		t.Fatalf("send: %v, want unavailable", err)
	}
}

func TestSend_DataPassesByteForByte(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(options(s))
	s.join(c, p, "r", 1)
	const raw = `{ "n": 1.0e2,  "s":"\u00e9" }`
	a := async(func() (wire.Sent, error) { return c.Send(t.Context(), "r", wire.Raw(raw)) })
	f := p.want("room.send")
	if got := string(param[wire.Send](t, f).Data); got != raw {
		t.Errorf("data is %s, want %s", got, raw)
	}
	p.answer(f, wire.Sent{Seq: 2})
	wantSent(t, a, wire.Sent{Seq: 2})
	if _, err := c.Send(t.Context(), "r", wire.Raw(`{"a":1,"a":2}`)); err == nil {
		t.Error("data with a key twice was taken")
	}
}

func TestSend_WhatTheServerWouldCloseForIsRefusedHere(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(options(s))
	s.join(c, p, "r", 1)
	if _, err := c.Send(t.Context(), "r", make([]byte, 40000)); !client.Is(err, wire.TooLarge) {
		t.Errorf("send of 53 KB: %v, want too_large", err)
	}
	if _, err := c.Join(t.Context(), string(make([]byte, 70000))); !client.Is(err, wire.TooLarge) {
		t.Errorf("join of a name of 70 KB: %v, want too_large", err)
	}
	if _, err := c.Send(t.Context(), "elsewhere", "a"); !client.Is(err, wire.NotMember) {
		t.Errorf("send to a room not joined: %v, want not_member", err)
	}
	p.quiet()
}

func TestReset_UnansweredSendsCountOnFromTheServersNumber(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(options(s))
	s.join(c, p, "r", 1)
	x := send(t, c, "x")
	p.answer(p.wantSend(1, "x"), wire.Sent{Seq: 2})
	wantSent(t, x, wire.Sent{Seq: 2})
	a := send(t, c, "a")
	fa := p.wantSend(2, "a")
	b := send(t, c, "b")
	fb := p.wantSend(3, "b")
	p.notice("room.reset", wire.Reset{Room: "r", Epoch: "e2", Seq: 1, CSeq: 0})
	p.refuse(fa, wire.ErrUnavailable())
	p.refuse(fb, wire.ErrGap(1))
	p.answer(p.wantSend(1, "a"), wire.Sent{Seq: 2})
	p.answer(p.wantSend(2, "b"), wire.Sent{Seq: 3})
	wantSent(t, a, wire.Sent{Seq: 2})
	wantSent(t, b, wire.Sent{Seq: 3})
	if r, ok := next(t, c).(*wire.Reset); !ok || r.Epoch != "e2" {
		t.Fatalf("event is %+v, want the reset", r)
	}
	d := send(t, c, "d")
	p.answer(p.wantSend(3, "d"), wire.Sent{Seq: 4})
	wantSent(t, d, wire.Sent{Seq: 4})
	if pos := c.Positions()["r"]; pos != (wire.Position{Epoch: "e2", Seq: 1}) {
		t.Errorf("position is %+v, want e2/1, of the reset and not of the answers", pos)
	}
}

func TestReset_AnAnswerAfterItMovesTheCountOn(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(options(s))
	s.join(c, p, "r", 1)
	a := send(t, c, "a")
	fa := p.wantSend(1, "a")
	b := send(t, c, "b")
	fb := p.wantSend(2, "b")
	p.notice("room.reset", wire.Reset{Room: "r", Epoch: "e2", Seq: 1, CSeq: 0})
	p.answer(fa, wire.Sent{Seq: 2}) // the node repeated it in the new epoch
	wantSent(t, a, wire.Sent{Seq: 2})
	p.refuse(fb, wire.ErrUnavailable())
	p.answer(p.wantSend(2, "b"), wire.Sent{Seq: 3})
	wantSent(t, b, wire.Sent{Seq: 3})
}

func TestLeave_WaitsForUnansweredSendsAndEndsTheCount(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(options(s))
	s.join(c, p, "r", 1)
	a := send(t, c, "a")
	fa := p.wantSend(1, "a")
	left := async(func() (any, error) { return nil, c.Leave(t.Context(), "r") })
	p.answer(fa, wire.Sent{Seq: 2})
	wantSent(t, a, wire.Sent{Seq: 2})
	p.want("room.leave")
	p.cut() // the answer is lost, the leave was not
	p = s.accept()
	p.answer(p.want("resume"), resumed())
	p.refuse(p.want("room.leave"), wire.Errorf(wire.NotMember, "not a member"))
	if _, err := left(t); err != nil {
		t.Fatalf("leave: %v, want nil: its first try had worked", err)
	}
	wantResumed(t, c)
	s.join(c, p, "r", 4) // no Lost in the stream before
	b := send(t, c, "b")
	p.answer(p.wantSend(1, "b"), wire.Sent{Seq: 5})
	wantSent(t, b, wire.Sent{Seq: 5})
}

// A join whose caller has gone may still succeed; the leave behind it undoes that.
func TestLeave_UndoesAJoinThatIsStillOnItsWay(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(options(s))
	ctx, cancel := context.WithCancel(t.Context())
	join := async(func() (wire.Joined, error) { return c.Join(ctx, "r") })
	asked := p.want("room.join")
	cancel()
	if _, err := join(t); !errors.Is(err, context.Canceled) {
		t.Fatalf("join: %v, want its ctx's end", err)
	}
	leave := async(func() (any, error) { return nil, c.Leave(t.Context(), "r") })
	left := p.want("room.leave")
	p.answer(asked, wire.Joined{Room: "r", Epoch: "e1", Seq: 3})
	p.answer(left, wire.Empty{})
	if _, err := leave(t); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Send(t.Context(), "r", "a"); !client.Is(err, wire.NotMember) {
		t.Errorf("a send after the leave: %v, want not_member", err)
	}
}
