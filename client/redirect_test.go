package client_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"godwit/client"
	"godwit/wire"
)

// offer offers the session a place at s.
func (p *peer) offer(id string, s *script) { p.offerAt(id, s.url()) }

func (p *peer) offerAt(id, url string) {
	p.notice("redirect", wire.Redirect{
		ID: id, URL: url, Token: "token-" + id, ExpiresInMS: patience.Milliseconds(), Reason: wire.ForBalance,
	})
}

// wantRefusal is the client's word that an offer came to nothing.
func (p *peer) wantRefusal(id, reason string) {
	p.t.Helper()
	f := p.want("redirect.refuse")
	if r := param[wire.RedirectRefuse](p.t, f); r.ID != id || r.Reason != reason {
		p.t.Fatalf("refused %+v, want %s for %q", r, id, reason)
	}
	p.answer(f, wire.Empty{})
}

// handed is the answer to handover: the session at node n2.
func handed(gen uint64, rooms ...wire.SessionRoom) wire.Session {
	s := resumed(rooms...)
	s.Gen, s.Node = gen, "n2"
	return s
}

// at is room r in a session object, recovered.
func at(seq, cseq uint64) wire.SessionRoom {
	return wire.SessionRoom{Room: "r", Epoch: "e1", Seq: seq, Recovered: true, CSeq: cseq}
}

// crossing is a session on its way: the handover is said and not answered.
type crossing struct {
	*testing.T
	s, to *script
	c     *client.Client
	old   *peer // in room r at seq 4
	p     *peer
	ask   frame // the handover
	told  chan client.State
}

// cross brings a session to where the handover is said. Change may set options.
func cross(t *testing.T, change ...func(*client.Options)) *crossing {
	t.Helper()
	x := &crossing{T: t, s: newScript(t), to: newScript(t), told: make(chan client.State, 64)}
	o := options(x.s)
	o.OnState = func(st client.State) { x.told <- st }
	for _, f := range change {
		f(&o)
	}
	x.c, x.old = x.s.dial(o)
	<-x.told
	x.s.join(x.c, x.old, "r", 3)
	x.old.event("r", 4)
	nextSeq(t, x.c, 4)
	x.offer("o1")
	return x
}

func (x *crossing) offer(id string) {
	x.Helper()
	x.old.offer(id, x.to)
	x.p = x.to.accept()
	x.ask = x.p.want("handover")
}

// over answers the handover; the client has then taken it.
func (x *crossing) over(rooms ...wire.SessionRoom) {
	x.Helper()
	x.p.answer(x.ask, handed(x.c.Session().Gen+1, rooms...))
	x.p.sync()
}

// wantState is the next state.
func wantState[S client.State](x *crossing) (st S) {
	x.Helper()
	got := <-x.told
	st, ok := got.(S)
	if !ok {
		x.Fatalf("state is %T %+v, want %T", got, got, st)
	}
	return st
}

// stays says that the session goes on at the old socket and nowhere else.
func (x *crossing) stays(seq uint64) {
	x.Helper()
	x.old.event("r", seq)
	nextSeq(x, x.c, seq)
	a := send(x, x.c, "still here")
	f := x.old.want("room.send")
	x.old.answer(f, wire.Sent{Seq: seq + 1})
	wantSent(x, a, wire.Sent{Seq: seq + 1})
	if got := x.c.Session(); got.Gen != 1 || got.Node != "n1" {
		x.Errorf("session is %+v, want gen 1 at n1", got)
	}
	select {
	case st := <-x.told:
		x.Errorf("state %T %+v, want none", st, st)
	default:
	}
}

func TestRedirect_TheStreamGoesOnOverBothSockets(t *testing.T) {
	x := cross(t)
	c, old, p := x.c, x.old, x.p
	want := wire.Handover{
		ID: "o1", Token: "token-o1", Caps: []string{"redirect"},
		Positions: map[string]wire.Position{"r": {Epoch: "e1", Seq: 4, TS: 1004}},
	}
	if got := param[wire.Handover](t, x.ask); !reflect.DeepEqual(got, want) {
		t.Errorf("handover is %+v, want %+v", got, want)
	}
	old.event("r", 5) // the old socket goes on
	nextSeq(t, c, 5)
	a := send(t, c, "a")
	old.answer(old.wantSend(1, "a"), wire.Sent{Seq: 6})
	wantSent(t, a, wire.Sent{Seq: 6})

	x.over(at(6, 1))
	p.want("handover.done")
	p.event("r", 5) // replayed, seen
	p.event("r", 7)
	nextSeq(t, c, 7)
	old.event("r", 7)
	old.event("r", 8) // ahead of the new one
	nextSeq(t, c, 8)
	p.event("r", 8)
	p.event("r", 9)
	nextSeq(t, c, 9)
	b := send(t, c, "b")
	p.answer(p.wantSend(2, "b"), wire.Sent{Seq: 10})
	wantSent(t, b, wire.Sent{Seq: 10})
	old.notice("moved", wire.MovedAway{ID: "o1"})
	old.close(wire.CloseMoved)
	old.gone()
	p.event("r", 11)
	nextSeq(t, c, 11)

	st := wantState[client.Redirected](x)
	if st.From != "n1" || st.To != "n2" || st.Reason != wire.ForBalance || st.Took <= 0 || st.Took > patience {
		t.Errorf("state is %+v, want redirected from n1 to n2", st)
	}
	if got := c.Session(); got.Gen != 2 || got.Node != "n2" || got.Secret != "" {
		t.Errorf("session is %+v, want gen 2 at n2", got)
	}
	p.sync()
	p.quiet()
	old.quiet()
	select {
	case st := <-x.told:
		t.Errorf("state %+v, want none more", st)
	default:
	}
}

// What is for the session has gaps, and either socket may be ahead.
func TestRedirect_EachEventOnceWhicheverSocketIsAhead(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	x := cross(t)
	var ours []uint64
	for seq := uint64(5); seq < 400; seq++ {
		if rng.IntN(3) == 0 { // the rest is addressed to others
			ours = append(ours, seq)
		}
	}
	before := rng.IntN(len(ours) / 2) // the old socket alone
	for _, seq := range ours[:before] {
		x.old.event("r", seq)
	}
	x.old.sync()
	x.over(at(399, 0))
	for i, j := before, 0; i < len(ours) || j < len(ours); {
		p, next := x.p, &j
		if j == len(ours) || i < len(ours) && rng.IntN(2) == 0 {
			p, next = x.old, &i
		}
		for range 1 + rng.IntN(20) {
			if *next < len(ours) {
				p.event("r", ours[*next])
				*next++
			}
		}
		if rng.IntN(2) == 0 { // the other waits for it, or not
			p.sync()
		}
	}
	for _, seq := range ours {
		nextSeq(t, x.c, seq)
	}
	x.old.sync()
	x.p.sync()
	x.p.event("r", 400)
	nextSeq(t, x.c, 400)
}

func TestRedirect_EphemeralsComeFromOneSocket(t *testing.T) {
	x := cross(t)
	say := func(p *peer, text string) {
		p.write((&wire.RoomEvent{
			Room: "r", Kind: wire.KindMessage, Ephemeral: true, From: wire.Member{User: "bo", Client: 99}, Data: wire.Raw(`"` + text + `"`),
		}).Frame())
		p.sync()
	}
	say(x.old, "a")
	x.over(at(4, 0))
	say(x.p, "b")
	say(x.old, "b")
	say(x.old, "c")
	say(x.p, "c")
	x.p.event("r", 5)
	for _, want := range []string{"a", "b", "c"} {
		if e, ok := next(t, x.c).(*wire.RoomEvent); !ok || !e.Ephemeral || string(e.Data) != `"`+want+`"` {
			t.Errorf("event %+v, want the ephemeral %q", e, want)
		}
	}
	nextSeq(t, x.c, 5)
}

// The node behind the new socket may hear of it after the client has changed over.
func TestRedirect_AnEphemeralThatBothSocketsBringIsTakenOnce(t *testing.T) {
	x := cross(t)
	say := func(p *peer, ts int64, text string) {
		p.write((&wire.RoomEvent{
			Room: "r", Kind: wire.KindMessage, Ephemeral: true, TS: ts, From: wire.Member{User: "bo", Client: 99}, Data: wire.Raw(`"` + text + `"`),
		}).Frame())
		p.sync()
	}
	say(x.old, 1, "a")
	say(x.old, 2, "twice")
	say(x.old, 2, "twice")
	x.over(at(4, 0))
	say(x.p, 1, "a")
	say(x.p, 2, "twice")
	say(x.p, 2, "twice")
	say(x.p, 3, "a")
	say(x.p, 3, "a")
	x.p.event("r", 5)
	for i, want := range []string{"a", "twice", "twice", "a", "a"} {
		if e, ok := next(t, x.c).(*wire.RoomEvent); !ok || string(e.Data) != `"`+want+`"` || i > 2 && e.TS != 3 {
			t.Errorf("event %d is %+v, want the ephemeral %q", i, e, want)
		}
	}
	nextSeq(t, x.c, 5)
}

func TestRedirect_OneAfterTheOther(t *testing.T) {
	x := cross(t)
	x.over(at(4, 0))
	x.p.want("handover.done")
	x.old.close(wire.CloseMoved)
	back := newScript(t)
	x.p.offer("o2", back)
	p := back.accept()
	f := p.want("handover")
	s := handed(3, at(4, 0))
	s.Node = "n3"
	p.answer(f, s)
	p.want("handover.done")
	p.event("r", 5)
	nextSeq(t, x.c, 5)
	x.p.event("r", 6)
	p.event("r", 6)
	nextSeq(t, x.c, 6)
	if st := wantState[client.Redirected](x); st.To != "n2" {
		t.Errorf("first state is %+v", st)
	}
	if st := wantState[client.Redirected](x); st.From != "n2" || st.To != "n3" {
		t.Errorf("second state is %+v", st)
	}
}

func TestRedirect_SendsUnderWayAreRepeatedOnceAndLateAnswersCount(t *testing.T) {
	x := cross(t)
	c, old, p := x.c, x.old, x.p
	a := send(t, c, "a")
	fa := old.wantSend(1, "a")
	b := send(t, c, "b")
	fb := old.wantSend(2, "b")
	d := send(t, c, "d")
	fd := old.wantSend(3, "d")
	e := send(t, c, "e")
	fe := old.wantSend(4, "e")
	// a was stored, b to e came after the claim: one is answered before the
	// client knows of it.
	old.refuse(fb, wire.Errorf(wire.Moved, "moved"))
	old.sync()
	x.over(at(5, 1))
	ra := p.wantSend(1, "a")
	rb := p.wantSend(2, "b")
	rd := p.wantSend(3, "d")
	re := p.wantSend(4, "e")
	p.want("handover.done") // when the repeats are on their way
	old.answer(fa, wire.Sent{Seq: 5})
	wantSent(t, a, wire.Sent{Seq: 5}) // from the old socket
	old.refuse(fd, wire.Errorf(wire.Moved, "moved"))
	old.refuse(fe, wire.Errorf(wire.NoRecipient, "nobody there")) // not the last word: the repeat may be stored
	old.sync()
	old.close(wire.CloseMoved)
	p.answer(ra, wire.Sent{Seq: 5, Dup: true})
	p.answer(rb, wire.Sent{Seq: 6})
	p.answer(rd, wire.Sent{Seq: 7})
	p.answer(re, wire.Sent{Seq: 8})
	wantSent(t, b, wire.Sent{Seq: 6})
	wantSent(t, d, wire.Sent{Seq: 7})
	wantSent(t, e, wire.Sent{Seq: 8})
	f := send(t, c, "f")
	p.answer(p.wantSend(5, "f"), wire.Sent{Seq: 9})
	wantSent(t, f, wire.Sent{Seq: 9})
	p.sync()
	p.quiet()
	old.quiet()
}

func TestRedirect_SendsWithoutANumberAreRepeatedWhenTheyWereRefusedAsMoved(t *testing.T) {
	x := cross(t)
	a := send(t, x.c, "a", client.NoRepeat())
	fa := x.old.wantSend(0, "a")
	b := send(t, x.c, "b", client.Ephemeral())
	fb := x.old.wantSend(0, "b")
	d := send(t, x.c, "d", client.NoRepeat())
	x.old.wantSend(0, "d")
	x.old.refuse(fa, wire.Errorf(wire.Moved, "moved"))
	x.old.sync()
	x.old.quiet()
	x.over(at(4, 0))
	x.p.answer(x.p.wantSend(0, "a"), wire.Sent{Seq: 5})
	wantSent(t, a, wire.Sent{Seq: 5})
	x.p.want("handover.done")
	x.old.refuse(fb, wire.Errorf(wire.Moved, "moved"))
	x.p.answer(x.p.wantSend(0, "b"), wire.Sent{})
	wantSent(t, b, wire.Sent{})
	x.old.close(wire.CloseMoved)
	if _, err := d(t); !errors.Is(err, client.ErrUnsettled) { // it may be stored
		t.Errorf("send: %v, want ErrUnsettled", err)
	}
	x.p.sync()
	x.p.quiet()
}

func TestRedirect_OtherRequestsAreRepeatedWhenTheyWereNotAnswered(t *testing.T) {
	x := cross(t)
	type res = func(testing.TB) (any, error)
	info := func(room string) res {
		r := async(func() (any, error) { return x.c.Info(t.Context(), room) })
		return r
	}
	moved, late, lost := info("moved"), res(nil), res(nil)
	fm := x.old.want("room.info")
	late = info("late")
	fl := x.old.want("room.info")
	lost = info("lost")
	x.old.want("room.info")
	x.old.refuse(fm, wire.Errorf(wire.Moved, "moved"))
	x.old.sync()
	x.old.quiet() // it is of no use there
	x.over(at(4, 0))
	x.p.answer(x.p.want("room.info"), wire.RoomInfo{Room: "moved"})
	x.p.want("handover.done")
	x.old.answer(fl, wire.RoomInfo{Room: "late"})
	x.old.close(wire.CloseMoved)
	x.p.answer(x.p.want("room.info"), wire.RoomInfo{Room: "lost"})
	for want, r := range map[string]res{"moved": moved, "late": late, "lost": lost} {
		if got, err := r(t); err != nil || got.(wire.RoomInfo).Room != want {
			t.Errorf("info: %+v, %v, want room %s", got, err, want)
		}
	}
	x.p.sync()
	x.p.quiet()
}

func TestRequestRedirect_SaysWhenThereIsNobody(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(options(s))
	ask := func(ctx context.Context, node string) func(testing.TB) (any, error) {
		return async(func() (any, error) { return nil, c.RequestRedirect(ctx, node) })
	}
	res := ask(t.Context(), "n2")
	f := p.want("redirect.request")
	if got := param[wire.RedirectRequest](t, f).Node; got != "n2" {
		t.Errorf("asked for %q, want n2", got)
	}
	p.answer(f, wire.Empty{})
	if _, err := res(t); err != nil {
		t.Errorf("request: %v", err)
	}
	res = ask(t.Context(), "")
	f = p.want("redirect.request")
	if string(f.Params) != "{}" {
		t.Errorf("params are %s, want none", f.Params)
	}
	p.refuse(f, wire.Errorf(wire.NoTarget, "nobody"))
	if _, err := res(t); !errors.Is(err, client.ErrNoTarget) || !client.Is(err, wire.NoTarget) {
		t.Errorf("request: %v, want ErrNoTarget", err)
	}
	res = ask(t.Context(), "")
	p.want("redirect.request")
	p.cut()
	if _, err := res(t); !errors.Is(err, client.ErrUnsettled) {
		t.Errorf("request whose answer is lost: %v, want ErrUnsettled", err)
	}
	p = s.accept()
	p.answer(p.want("resume"), resumed())
	p.sync()
	p.quiet() // a repeat might move the session twice
}

func TestNoRedirect_IsNotOfferedAndNotFollowed(t *testing.T) {
	s, to := newScript(t), newScript(t)
	o := options(s)
	o.NoRedirect = true
	res := async(func() (*client.Client, error) { return client.Dial(t.Context(), o) })
	p := s.accept()
	f := p.want("hello")
	if caps := param[wire.Hello](t, f).Caps; len(caps) != 0 {
		t.Errorf("hello has caps %v, want none", caps)
	}
	p.answer(f, hello())
	c, err := res(t)
	if err != nil {
		t.Fatal(err)
	}
	p.offer("o1", to)
	p.offerAt("o2", "http://127.0.0.1:1") // not even refused
	p.sync()
	p.quiet()
	closed := async(func() (any, error) { return nil, c.Close(t.Context()) })
	p.answer(p.want("bye"), wire.Empty{})
	p.close(wire.CloseBye)
	if _, err := closed(t); err != nil {
		t.Error(err)
	}
	select {
	case <-to.peers:
		t.Error("the offer was followed")
	default:
	}
}
