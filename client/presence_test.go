package client_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"godwit/client"
	"godwit/wire"
)

// changes are the next n changes of presence in the stream; what else there is
// is passed over.
func changes(t *testing.T, c *client.Client, n int) []client.PresenceChanged {
	t.Helper()
	var out []client.PresenceChanged
	for len(out) < n {
		if p, ok := next(t, c).(client.PresenceChanged); ok {
			out = append(out, p)
		}
	}
	return out
}

func is(t *testing.T, what string, c *client.Client, want ...client.PresenceChanged) {
	t.Helper()
	if got := changes(t, c, len(want)); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("%s: %+v, want %+v", what, got, want)
	}
}

// ended is a context that waits for nothing.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func present(t *testing.T, what string, c *client.Client, want map[string]uint8) {
	t.Helper()
	if got := c.Present(); !maps.Equal(got, want) {
		t.Errorf("%s: present are %v, want %v", what, got, want)
	}
}

func tell(p *peer, user string, value uint8, pv uint64) {
	p.notice("presence", &wire.Presence{User: user, Self: user == "", Presence: value, PV: pv})
}

func people(of ...string) []wire.UserPresence {
	var out []wire.UserPresence
	for i, user := range of {
		out = append(out, wire.UserPresence{User: user, Presence: 3, PV: uint64(10 + i)})
	}
	return out
}

// dialSeeing logs a client in to a node that names those people.
func (s *script) dialSeeing(o client.Options, self uint8, of ...string) (*client.Client, *peer) {
	s.t.Helper()
	dialled := async(func() (*client.Client, error) { return client.Dial(s.t.Context(), o) })
	p := s.accept()
	h := hello()
	h.Self, h.Presence = self, people(of...)
	p.answer(p.want("hello"), h)
	c, err := dialled(s.t)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close(ended()) })
	return c, p
}

func TestPresence_IsWhatTheServerSaysAndNothingElse(t *testing.T) {
	s := newScript(t)
	c, p := s.dialSeeing(options(s), 3, "bob", "cy")
	present(t, "after the login", c, map[string]uint8{"bob": 3, "cy": 3})
	done := async(func() (any, error) { return nil, c.SetPresence(t.Context(), 1) })
	f := p.want("presence.set")
	if string(f.Params) != `{"presence":1}` {
		t.Errorf("set by %s", f.Params)
	}
	p.answer(f, wire.Empty{})
	if _, err := done(t); err != nil || c.Self() != 3 {
		t.Errorf("after the answer: %v, self is %d, want 3 until the server says", err, c.Self())
	}
	tell(p, "", 2, 20)
	tell(p, "bob", 1, 30)
	tell(p, "bob", 3, 30)  // not newer
	tell(p, "bob", 3, 29)  // older
	tell(p, "bob", 1, 31)  // newer, and the same
	tell(p, "cy", 0, 32)   //
	tell(p, "cy", 3, 12)   // late
	tell(p, "dan", 127, 5) // somebody else
	tell(p, "", 3, 19)     // older
	is(t, "what is told", c,
		client.PresenceChanged{Self: true, Presence: 2}, client.PresenceChanged{User: "bob", Presence: 1},
		client.PresenceChanged{User: "cy"}, client.PresenceChanged{User: "dan", Presence: 127})
	p.sync()
	present(t, "then", c, map[string]uint8{"bob": 1, "dan": 127})
	if c.Self() != 2 || c.Presence("cy") != 0 || c.Presence("bob") != 1 || c.Presence("nobody") != 0 {
		t.Errorf("self %d, cy %d, bob %d", c.Self(), c.Presence("cy"), c.Presence("bob"))
	}
	if err := c.SetPresence(t.Context(), 128); err == nil {
		t.Error("128 was sent")
	}
	auto := async(func() (any, error) { return nil, c.SetAutoPresence(t.Context(), 2) })
	f = p.want("presence.set")
	if string(f.Params) != `{"presence":2,"auto":true}` {
		t.Errorf("set by a timer as %s", f.Params)
	}
	p.refuse(f, wire.Errorf(wire.Unavailable, "not now"))
	p.answer(p.want("presence.set"), wire.Empty{}) // said again
	if _, err := auto(t); err != nil {
		t.Error(err)
	}
}

func TestPresence_AResumedSessionKeepsItsValueAndANewOneIsToldIt(t *testing.T) {
	s := newScript(t)
	o := options(s)
	begin := uint8(0x80 | 4)
	o.Presence = &begin
	dialled := async(func() (*client.Client, error) { return client.Dial(t.Context(), o) })
	p := s.accept()
	f := p.want("hello")
	if got := param[wire.Hello](t, f).Presence; got == nil || *got != begin {
		t.Errorf("hello says %v, want %d", got, begin)
	}
	h := hello()
	h.Presence = people("bob", "cy")
	p.answer(f, h)
	c, err := dialled(t)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(ended()) })
	done := async(func() (any, error) { return nil, c.SetPresence(t.Context(), 1) })
	p.answer(p.want("presence.set"), wire.Empty{})
	if _, err := done(t); err != nil {
		t.Fatal(err)
	}

	p.cut()
	p = s.accept()
	f = p.want("resume")
	if got := param[wire.Resume](t, f).Presence; got != nil {
		t.Errorf("resume says %d, want nothing: the session has it", *got)
	}
	r := resumed()
	r.Self, r.Presence = 1, append(people("bob"), wire.UserPresence{User: "dan", Presence: 2, PV: 40})
	p.answer(f, r)
	is(t, "who came and went meanwhile", c, client.PresenceChanged{User: "cy"},
		client.PresenceChanged{User: "dan", Presence: 2}, client.PresenceChanged{Self: true, Presence: 1})
	present(t, "resumed", c, map[string]uint8{"bob": 3, "dan": 2})

	p.close(wire.CloseSessionGone)
	p = s.accept()
	f = p.want("hello")
	if got := param[wire.Hello](t, f).Presence; got == nil || *got != 1 {
		t.Errorf("a new session begins with %v, want what was set", got)
	}
	h.Self = 1
	p.answer(f, h)
	is(t, "by the new session", c, client.PresenceChanged{User: "dan"}, client.PresenceChanged{User: "cy", Presence: 3})
}

func TestPresence_WhoSharesNoRoomAnyMoreIsForgotten(t *testing.T) {
	s := newScript(t)
	c, p := s.dialSeeing(options(s), 3, "contact")
	members := func(users ...string) []wire.Member {
		var out []wire.Member
		for i, u := range users {
			out = append(out, wire.Member{User: u, Client: uint32(100 + i)})
		}
		return out
	}
	in := func(room string, users ...string) {
		t.Helper()
		res := async(func() (wire.Joined, error) { return c.Join(t.Context(), room) })
		p.answer(p.want("room.join"), wire.Joined{Room: room, Epoch: "e1", Seq: 1, Members: members(users...)})
		if _, err := res(t); err != nil {
			t.Fatal(err)
		}
	}
	moves := func(seq uint64, kind wire.Kind, user string, id uint32) {
		p.write((&wire.RoomEvent{Room: "r1", Seq: seq, Kind: kind, From: wire.Member{User: user, Client: id}, TS: 1}).Frame())
	}
	in("r1", "ann", "contact", "one", "both", "two")
	in("r2", "ann", "both")
	moves(2, wire.KindJoin, "late", 300)
	moves(3, wire.KindJoin, "late", 301)
	for i, user := range []string{"one", "both", "two", "late"} {
		tell(p, user, 3, uint64(50+i))
	}
	changes(t, c, 4)
	moves(4, wire.KindLeave, "two", 104)
	moves(5, wire.KindLeave, "late", 300)
	p.sync()
	present(t, "who has left, and who has with one device of two", c, map[string]uint8{"contact": 3, "one": 3, "both": 3, "late": 3})
	left := async(func() (any, error) { return nil, c.Leave(t.Context(), "r1") })
	p.answer(p.want("room.leave"), wire.Empty{})
	if _, err := left(t); err != nil {
		t.Fatal(err)
	}
	present(t, "the room is left", c, map[string]uint8{"contact": 3, "both": 3})
	in("r1", "ann", "one")
	tell(p, "one", 3, 50) // as before, and news to who has forgotten
	is(t, "back in the room", c, client.PresenceChanged{User: "one", Presence: 3})
}

// A session object may be older than what the old socket has told, and what the
// old socket still tells older than the session object.
func TestPresence_FromARedirectOnTheNewSocketTells(t *testing.T) {
	x := cross(t)
	tell(x.old, "", 1, 20)
	tell(x.old, "bob", 3, 30)
	is(t, "by the old socket", x.c, client.PresenceChanged{Self: true, Presence: 1}, client.PresenceChanged{User: "bob", Presence: 3})
	x.p.answer(x.ask, func() wire.Session { // bob has gone since, and what set ann to 1 is still to come
		s := handed(2, at(4, 0))
		s.Self = 3
		return s
	}())
	x.p.want("handover.done")
	tell(x.old, "bob", 2, 31)
	tell(x.old, "", 2, 19)
	x.old.sync()
	tell(x.p, "", 1, 20)
	x.p.sync()
	if c := x.c; c.Self() != 1 || c.Presence("bob") != 0 {
		t.Errorf("self is %d and bob %d, want 1 and 0", c.Self(), c.Presence("bob"))
	}
}

// Until the session object comes the old socket is heard, and tells of who joins:
// of one who did after the object's own seq it says nothing, and the node tells.
func TestPresence_WhoJoinsARoomDuringARedirectIsNotTakenForOffline(t *testing.T) {
	x := cross(t)
	for i, user := range []string{"dan", "eve"} {
		x.old.write((&wire.RoomEvent{Room: "r", Seq: uint64(5 + i), Kind: wire.KindJoin, From: wire.Member{User: user, Client: uint32(20 + i)}}).Frame())
		tell(x.old, user, 3, uint64(30+i))
	}
	is(t, "by the old socket", x.c, client.PresenceChanged{User: "dan", Presence: 3}, client.PresenceChanged{User: "eve", Presence: 3})
	x.over(at(5, 0)) // and dan has gone since
	tell(x.p, "eve", 2, 40)
	is(t, "by the new one", x.c, client.PresenceChanged{User: "dan"}, client.PresenceChanged{User: "eve", Presence: 2})
	present(t, "then", x.c, map[string]uint8{"eve": 2})
}

// A set that is said again after `unavailable` is not said over a later one.
func TestPresence_OfTwoThatAreSetTheLaterOneStands(t *testing.T) {
	s := newScript(t)
	o := options(s)
	c, p := s.dialSeeing(o, 3)
	by := func(set func(context.Context, uint8) error, value uint8) func(testing.TB) (any, error) {
		return async(func() (any, error) { return nil, set(t.Context(), value) })
	}
	timer := by(c.SetAutoPresence, 2)
	late := wire.Errorf(wire.Unavailable, "not now")
	late.Data.RetryAfterMS = patience.Milliseconds()
	p.refuse(p.want("presence.set"), late)
	p.sync()
	user := by(c.SetPresence, 1)
	p.answer(p.want("presence.set"), wire.Empty{})
	if _, err := user(t); err != nil {
		t.Error(err)
	}
	if _, err := timer(t); err != nil {
		t.Errorf("what another has overtaken: %v", err)
	}

	// One that is on its way when the socket goes is not said by the next one.
	timer = by(c.SetAutoPresence, 2)
	p.want("presence.set")
	user = by(c.SetPresence, 5)
	p.want("presence.set")
	p.cut()
	p = s.accept()
	p.answer(p.want("resume"), resumed())
	f := p.want("presence.set")
	if string(f.Params) != `{"presence":5}` {
		t.Errorf("said again: %s", f.Params)
	}
	p.answer(f, wire.Empty{})
	if _, err := user(t); err != nil {
		t.Error(err)
	}
	if _, err := timer(t); err != nil {
		t.Errorf("what another has overtaken: %v", err)
	}
	p.sync()
	p.quiet()
}

// A session object that is cut does not say that those whom it leaves out are
// offline: they follow it, and all have come before any later answer.
func TestPresence_ACutSessionObjectTakesNobodyForOffline(t *testing.T) {
	names := make([]string, 600)
	for i := range names {
		names[i] = fmt.Sprintf("u%03d", i)
	}
	all := people(names...)
	named := all[:wire.PresenceTold] // whom a session object names
	rest := func(p *peer, but ...string) {
		for _, u := range all[len(named):] {
			if !slices.Contains(but, u.User) {
				tell(p, u.User, u.Presence, u.PV)
			}
		}
	}
	// following is the request whose answer ends the doubt.
	following := func(p *peer) frame { return p.want("redirect.refuse") }
	begin := func(t *testing.T) (*script, *client.Client, *peer) {
		s := newScript(t)
		c, p := s.dialSeeing(options(s), 3, names[:len(named)]...)
		rest(p)
		changes(t, c, len(all)-len(named))
		return s, c, p
	}
	// again is the next socket of a session that loses one.
	again := func(s *script, p *peer) *peer {
		p.cut()
		p = s.accept()
		r := resumed()
		r.Self, r.Presence = 3, named
		p.answer(p.want("resume"), r)
		return p
	}
	// silent fails unless what is told last is all that is told.
	silent := func(t *testing.T, c *client.Client, p *peer) {
		t.Helper()
		tell(p, "zed", 1, 5)
		is(t, "after all that follows", c, client.PresenceChanged{User: "zed", Presence: 1})
	}

	t.Run("resumed", func(t *testing.T) {
		s, c, p := begin(t)
		p = again(s, p)
		f := following(p)
		rest(p)
		p.answer(f, wire.Empty{})
		silent(t, c, p)
		if got := len(c.Present()); got != len(all)+1 {
			t.Errorf("%d are present, want %d", got, len(all)+1)
		}
	})
	t.Run("redirected", func(t *testing.T) {
		_, c, old := begin(t)
		to := newScript(t)
		old.offer("o1", to)
		p := to.accept()
		h := handed(2)
		h.Self, h.Presence = 3, named
		p.answer(p.want("handover"), h)
		f := following(p)
		p.want("handover.done")
		rest(p)
		p.refuse(f, wire.Errorf(wire.RateLimited, "any answer will do"))
		silent(t, c, p)
	})
	t.Run("and who is offline is so", func(t *testing.T) {
		s, c, p := begin(t)
		p = again(s, p)
		following(p) // and it is lost before its answer
		rest(p, "u550", "u560")
		p.sync()
		p = again(s, p)
		f := following(p)
		rest(p, "u550")
		p.sync()
		if c.Presence("u550") != 3 {
			t.Error("in doubt, it is taken for offline")
		}
		p.answer(f, wire.Empty{})
		is(t, "once all have come", c, client.PresenceChanged{User: "u550"})
		silent(t, c, p)
	})
}
