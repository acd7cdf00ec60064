package server_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/go-json-experiment/json/jsontext"

	"godwit/internal/trial"
	asked "godwit/server/fleet"
	"godwit/store"
	"godwit/wire"
)

// hears expects the next event of a room.
func (p *person) hears(kind wire.Kind, reason string, from wire.Member) *wire.RoomEvent {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	n, err := p.NextBut(ctx, "presence") // who goes is told offline before it leaves
	if err != nil || n.Event == nil {
		p.t.Fatalf("got %+v, %v, want a room event", n, err)
	}
	ev := n.Event
	if ev.Kind != kind || ev.Reason != reason || ev.From.User != from.User || ev.From.Client != from.Client {
		p.t.Fatalf("heard %+v, want %s %s of %+v", ev, kind, reason, from)
	}
	return ev
}

func TestOperator_SaysSomethingToARoomOrToOne(t *testing.T) {
	two(t, func(t *testing.T, f *trial.Fleet) {
		ann, bob := enter(t, f, 1, "ann"), enter(t, f, 2, "bob")
		ann.join("lobby")
		bob.join("lobby")
		ann.hears(wire.KindJoin, "", wire.Member{User: "bob", Client: bob.session.Client})
		ops := f.Nodes[0].Core.Fleet()
		for range 2 { // the same request, sent twice
			if sent, err := ops.Say(t.Context(), "lobby", "key", store.Draft{Data: jsontext.Value(`{"a": 1}`)}); err != nil || sent.Seq != 3 {
				t.Fatalf("said: %+v, %v", sent, err)
			}
		}
		to := "bob"
		if _, err := ops.Say(t.Context(), "lobby", "", store.Draft{Data: jsontext.Value(`2`), ToUser: &to}); err != nil {
			t.Fatal(err)
		}
		if ev := ann.hears(wire.KindMessage, "", wire.Member{}); string(ev.Data) != `{"a": 1}` || ev.Seq != 3 {
			t.Errorf("ann heard %+v", ev)
		}
		bob.hears(wire.KindMessage, "", wire.Member{})
		if ev := bob.hears(wire.KindMessage, "", wire.Member{}); string(ev.Data) != `2` || ev.To == nil || *ev.To.User != "bob" {
			t.Errorf("bob heard %+v", ev)
		}
		ann.seesNothing(20 * time.Second)
		if _, err := ops.Say(t.Context(), "nowhere", "", store.Draft{Data: jsontext.Value(`1`)}); !errors.Is(err, asked.ErrNoRoom) {
			t.Errorf("to no room: %v", err)
		}
		var conflict *asked.Conflict
		if to = "cy"; !errors.As(second(ops.Say(t.Context(), "lobby", "", store.Draft{Data: jsontext.Value(`2`), ToUser: &to})), &conflict) {
			t.Error("said to one who is not there")
		}
	})
}

func second[T any](_ T, err error) error { return err }

func TestOperator_KicksOneWhoKeepsItsSocketAndItsOtherRooms(t *testing.T) {
	two(t, func(t *testing.T, f *trial.Fleet) {
		ann, bob := enter(t, f, 1, "ann"), enter(t, f, 2, "bob")
		ann.join("lobby")
		ann.join("den")
		bob.join("lobby")
		me := wire.Member{User: "ann", Client: ann.session.Client}
		ann.hears(wire.KindJoin, "", wire.Member{User: "bob", Client: bob.session.Client})
		ops := f.Nodes[1].Core.Fleet()
		r, err := ops.Room(t.Context(), "lobby")
		if err != nil || len(r.Members) != 2 || r.Seq != 2 {
			t.Fatalf("%+v, %v", r, err)
		}
		for _, m := range r.Members {
			if want := map[string]string{"ann": "n1", "bob": "n2"}[m.User]; m.At.Node != want || m.At.State != store.StateLive {
				t.Errorf("%s is at %+v, want %s", m.User, m.At, want)
			}
		}
		if err := ops.Kick(t.Context(), "lobby", ann.session.Client); err != nil {
			t.Fatal(err)
		}
		ann.hears(wire.KindLeave, wire.LeftKicked, me)
		bob.hears(wire.KindLeave, wire.LeftKicked, me)
		if err := ann.say("hi", 1); reason(err) != wire.NotMember {
			t.Errorf("sent after that: %v", err)
		}
		if err := ann.Call(t.Context(), "room.send", wire.Send{Room: "den", Data: wire.Raw(`1`)}, nil); err != nil {
			t.Errorf("to the other room: %v", err)
		}
		time.Sleep(time.Second) // its own node takes the room off the session when it hears of it
		rec, rooms, err := ops.Session(t.Context(), ann.session.Session)
		if err != nil || len(rooms) != 1 || rooms[0] != "den" || rec.State != store.StateLive {
			t.Errorf("the session: %+v in %v, %v", rec, rooms, err)
		}
		if err := ops.Kick(t.Context(), "lobby", ann.session.Client); !errors.Is(err, asked.ErrNoMember) {
			t.Errorf("kicked again: %v", err)
		}
		ann.join("lobby") // nobody keeps it out
		bob.hears(wire.KindJoin, "", me)
	})
}

// The log of an open room may be read from before it was closed: that put out who
// was in it then, and not who joins now.
func TestOperator_WhoJoinsAfterARoomWasClosedReadsThatAndStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := trial.Start(trial.Options{Bubble: true, Change: func(s *trial.Settings) { s.Server.History = []string{"lobby"} }})
		defer f.Close()
		time.Sleep(3 * time.Second)
		ann, bob := enter(t, f, 1, "ann"), enter(t, f, 1, "bob")
		var first, again wire.Joined
		if err := ann.Call(t.Context(), "room.join", wire.Join{Room: "lobby"}, &first); err != nil {
			t.Fatal(err)
		}
		if err := f.Nodes[0].Core.Fleet().CloseRoom(t.Context(), "lobby"); err != nil {
			t.Fatal(err)
		}
		ann.hears(wire.KindLeave, wire.LeftClosed, wire.Member{})
		bob.join("lobby")
		since := &wire.Position{Epoch: first.Epoch, Seq: first.Seq}
		if err := ann.Call(t.Context(), "room.join", wire.Join{Room: "lobby", Since: since}, &again); err != nil || !again.Recovered {
			t.Fatalf("joined again: %+v, %v", again, err)
		}
		ann.hears(wire.KindLeave, wire.LeftClosed, wire.Member{})
		ann.hears(wire.KindJoin, "", wire.Member{User: "bob", Client: bob.session.Client})
		if err := bob.say("hi", 1); err != nil {
			t.Fatal(err)
		}
		ann.sees("hi")
		if err := ann.say("ho", 1); err != nil {
			t.Errorf("who joined again is no member: %v", err)
		}
	})
}

func TestOperator_ClosesARoomForAllAtOnce(t *testing.T) {
	two(t, func(t *testing.T, f *trial.Fleet) {
		people := []*person{enter(t, f, 1, "ann"), enter(t, f, 2, "bob"), enter(t, f, 1, "cy")}
		for i, p := range people {
			p.join("lobby")
			for _, before := range people[:i] {
				before.hears(wire.KindJoin, "", wire.Member{User: p.session.User, Client: p.session.Client})
			}
		}
		people[2].Drop() // detached
		time.Sleep(time.Second)
		ops := f.Nodes[0].Core.Fleet()
		for range 2 { // the second time there is nobody left
			if err := ops.CloseRoom(t.Context(), "lobby"); err != nil {
				t.Fatal(err)
			}
		}
		for _, p := range people[:2] {
			if ev := p.hears(wire.KindLeave, wire.LeftClosed, wire.Member{}); ev.Seq != 4 {
				t.Errorf("heard %+v", ev)
			}
			if err := p.say("hi", 1); reason(err) != wire.NotMember {
				t.Errorf("sent after that: %v", err)
			}
		}
		people[0].seesNothing(40 * time.Second) // the detached one leaves no second time
		people[1].join("lobby")
		if r, err := ops.Room(t.Context(), "lobby"); err != nil || r.Seq != 5 || len(r.Members) != 1 {
			t.Errorf("joined again: %+v, %v", r, err)
		}
	})
}

// It finds out that it is over before it is told: it asks for something while the
// rooms hear of its end one by one, and what it is told at the end is lost.
func TestOperator_WhoIsSignedOutIsToldSoHoweverItFindsOut(t *testing.T) {
	two(t, func(t *testing.T, f *trial.Fleet) {
		ann := enter(t, f, 1, "ann")
		for i := range 20 {
			ann.join(fmt.Sprint("room ", i))
		}
		var told atomic.Int64
		online := uint8(3)
		f.Redis.Server().SetPreHook(func(p *server.Peer, cmd string, args ...string) bool {
			if cmd != "PUBLISH" || !strings.Contains(args[1], `"what":"ended"`) || told.Add(1) == 1 {
				return false
			}
			p.WriteInt(0)
			return true
		})
		ended := make(chan error, 1)
		go func() { ended <- f.Nodes[1].Core.Fleet().End(context.Background(), ann.session.Session) }()
		for range 100 {
			if err := ann.Call(t.Context(), "presence.set", wire.SetPresence{Presence: &online}, nil); err != nil {
				break
			}
		}
		if end, err := ann.End(t.Context()); err != nil || end.Code != wire.CloseSignedOut {
			t.Errorf("its socket: %v, %v, want %d", end, err, wire.CloseSignedOut)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if told.Load() != 2 {
			t.Errorf("told %d times", told.Load())
		}
	})
}

func TestOperator_EndsASessionForGood(t *testing.T) {
	two(t, func(t *testing.T, f *trial.Fleet) {
		ann, bob, cy := enter(t, f, 1, "ann"), enter(t, f, 2, "bob"), enter(t, f, 1, "cy")
		for _, p := range []*person{bob, ann, cy} {
			p.join("lobby")
		}
		for _, p := range []*person{ann, cy} {
			bob.hears(wire.KindJoin, "", wire.Member{User: p.session.User, Client: p.session.Client})
		}
		cy.Drop()
		time.Sleep(time.Second)
		ops := f.Nodes[1].Core.Fleet()
		for _, p := range []*person{ann, cy} { // one that is attached, one that is not
			if err := ops.End(t.Context(), p.session.Session); err != nil {
				t.Fatal(err)
			}
			bob.hears(wire.KindLeave, wire.LeftKicked, wire.Member{User: p.session.User, Client: p.session.Client})
			if err := ops.End(t.Context(), p.session.Session); !errors.Is(err, asked.ErrNoSession) {
				t.Errorf("ended again: %v", err)
			}
			c := dial(t, f, 1)
			err := c.Call(t.Context(), "resume", wire.Resume{Session: p.session.Session, Secret: p.session.Secret}, nil)
			if reason(err) != wire.NoSession {
				t.Errorf("resumed after that: %v", err)
			}
		}
		if end, err := ann.End(t.Context()); err != nil || end.Code != wire.CloseSignedOut {
			t.Errorf("its socket: %v, %v, want %d", end, err, wire.CloseSignedOut)
		}
		bob.seesNothing(40 * time.Second)
	})
}
