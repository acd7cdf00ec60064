package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"godwit/client"
	"godwit/e2e/fault"
	"godwit/e2e/fleet"
	"godwit/wire"
)

// beat says that the guest is in the lobby's call, or has left it.
func (g *guest) beat(status uint8) {
	g.t.Helper()
	g.must("call.beat", wire.Beat{Room: "lobby", Status: &status}, nil)
}

// seesCall expects the next room event to be a change of the flag.
func (g *guest) seesCall(on bool) *wire.RoomEvent {
	g.t.Helper()
	e := g.event()
	if e.Kind != wire.KindCall || e.InCall == nil || *e.InCall != on || e.From != (wire.Member{}) {
		g.t.Fatalf("%s sees %s, want call %t", g.user, describe(e), on)
	}
	return e
}

// lobby is guests at the nodes in turn, who have all joined and seen each other.
func lobby(t *testing.T, f *fleet.Fleet, users ...string) (all []*guest) {
	t.Helper()
	for i, user := range users {
		g := enter(t, f.Nodes[i%len(f.Nodes)], user)
		g.join("lobby")
		for _, there := range all {
			there.seesKind(wire.KindJoin, "", g)
		}
		all = append(all, g)
	}
	return all
}

func TestCall_IsOfTwoUsersAndToldToWhoComesLater(t *testing.T) {
	f := fleet.Start(t, fleet.Options{})
	all := lobby(t, f, "ann", "ann", "bob", "eve")
	ann, phone, bob := all[0], all[1], all[2]
	ann.beat(1)
	phone.beat(1)
	ann.say("lobby", "anybody?", 1) // two devices of one user are no call
	for _, g := range all[1:] {
		g.sees("anybody?")
	}
	bob.beat(1)
	for _, g := range all {
		if e := g.seesCall(true); e.Seq != 6 {
			t.Errorf("%s sees the call at %d", g.user, e.Seq)
		}
	}
	dan := enter(t, f.Nodes[1], "dan")
	if j := dan.join("lobby"); !j.InCall || j.Seq != 7 {
		t.Errorf("who comes later is told %+v", j)
	}
	var info wire.RoomInfo
	dan.must("room.info", wire.Info{Room: "lobby"}, &info)
	if !info.InCall || len(info.Call) != 3 {
		t.Errorf("who is in: %+v", info)
	}
	again := ann.resume(f.Nodes[2], nil)
	if r := again.session.Rooms[0]; !r.InCall {
		t.Errorf("a resume is told %+v", r)
	}
	bob.seesKind(wire.KindJoin, "", dan)
	left := time.Now()
	bob.beat(0)
	bob.seesCall(false)
	if took := time.Since(left); took > 2*time.Second {
		t.Errorf("the end came %s after the last beat, want it at once", took)
	}
	again.seesCall(false)
	dan.seesCall(false)
	if j := enter(t, f.Nodes[0], "fay").join("lobby"); j.InCall {
		t.Errorf("who comes after the end is told %+v", j)
	}
}

func TestStory_CallersWhoseNodesDieAreOutInTime(t *testing.T) {
	timeout := 3 * time.Second
	if *long {
		timeout = 15 * time.Second
	}
	f := fleet.Start(t, fleet.Options{Env: map[string]string{"GODWIT_CALL_TIMEOUT": timeout.String(), "GODWIT_GRACE": "5m"}})
	all := lobby(t, f, "ann", "bob", "eve")
	ann, bob, eve := all[0], all[1], all[2]
	ann.beat(1)
	bob.beat(1)
	eve.seesCall(true)
	var before time.Time
	for range 4 { // renewed, and kept
		eve.hearsNothing(timeout / 3)
		before = time.Now()
		ann.beat(1)
		bob.beat(1)
	}
	after := time.Now()
	f.Nodes[0].Kill()
	f.Nodes[1].Kill()
	eve.seesCall(false)
	if time.Since(before) < timeout-500*time.Millisecond || time.Since(after) > timeout+2*time.Second {
		t.Errorf("the call ended %s to %s after the last beat, want %s to %s", time.Since(after), time.Since(before), timeout, timeout+2*time.Second)
	}
	eve.hearsNothing(timeout)
}

// caller is a client that is in the lobby's call, at the nodes in their order
// from the first on.
func caller(t *testing.T, f *fleet.Fleet, first int, user string) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), client.Options{
		URLs:       f.URLs(first),
		Token:      func(context.Context) (string, error) { return fleet.Token(user, time.Hour), nil },
		MaxBackoff: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		c.Close(ctx)
	})
	if _, err := c.Join(t.Context(), "lobby"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Call(t.Context(), "lobby"); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCall_NothingOfItShowsWhenANodeIsKilledOrRedisRestarts(t *testing.T) {
	const timeout = 8 * time.Second
	f := fleet.Start(t, fleet.Options{Env: map[string]string{
		"GODWIT_CALL_BEAT": "1s", "GODWIT_CALL_TIMEOUT": timeout.String(), "GODWIT_GRACE": "1m",
	}})
	eve := enter(t, f.Nodes[2], "eve")
	eve.join("lobby")
	caller(t, f, 0, "ann")
	caller(t, f, 1, "bob")
	for _, want := range []wire.Kind{wire.KindJoin, wire.KindJoin, wire.KindCall} {
		if e := eve.event(); e.Kind != want {
			t.Fatalf("eve sees %s, want %s", describe(e), want)
		}
	}
	f.Nodes[0].Kill()
	eve.hearsNothing(2 * time.Second)
	f.Redis.Kill()
	eve.hearsNothing(time.Second)
	f.Redis.Start()
	eve.hearsNothing(timeout + 2*time.Second)
	var info wire.RoomInfo
	fleet.Eventually(t, fleet.Patience, "the room is told of", func() error {
		return eve.Call(within(t), "room.info", wire.Info{Room: "lobby"}, &info)
	})
	if !info.InCall || len(info.Call) != 2 {
		t.Errorf("afterwards: %+v", info)
	}
}

func TestCall_NothingOfItShowsWhenACallerIsLedElsewhere(t *testing.T) {
	const timeout = 3 * time.Second
	f := fleet.Start(t, fleet.Options{Nodes: 2, Env: map[string]string{
		"GODWIT_CALL_TIMEOUT": timeout.String(), "GODWIT_PUBLIC_URL": "ws://fleet.test/v1/ws",
	}})
	eve, bob := enter(t, f.Nodes[1], "eve"), enter(t, f.Nodes[1], "bob")
	ann := &guest{Conn: dial(t, f.Nodes[0]), t: t, user: "ann"}
	ann.must("hello", wire.Hello{Token: fleet.Token("ann", time.Hour), Caps: []string{"redirect"}}, &ann.session)
	for _, g := range []*guest{eve, bob, ann} {
		g.join("lobby")
	}
	eve.seesKind(wire.KindJoin, "", bob)
	eve.seesKind(wire.KindJoin, "", ann)
	ann.beat(1)
	bob.beat(1)
	eve.seesCall(true)
	ann.must("redirect.request", wire.RedirectRequest{}, nil)
	var o wire.Redirect
	if err := json.Unmarshal(ann.notice("redirect").Params, &o); err != nil {
		t.Fatal(err)
	}
	now := &guest{Conn: dial(t, f.Nodes[1]), t: t, user: "ann"}
	now.must("handover", wire.Handover{ID: o.ID, Token: o.Token}, &now.session)
	if r := now.session.Rooms; len(r) != 1 || !r[0].InCall {
		t.Errorf("handed over with %+v", r)
	}
	one := uint8(1)
	if err := ann.Call(within(t), "call.beat", wire.Beat{Room: "lobby", Status: &one}, nil); refusal(err) != wire.Moved {
		t.Errorf("a beat on the old socket answers %v, want moved", err)
	}
	for range 6 {
		now.beat(1)
		bob.beat(1)
		eve.hearsNothing(timeout / 4)
	}
	now.must("bye", wire.Empty{}, nil)
	eve.seesKind(wire.KindLeave, wire.LeftByChoice, now)
	eve.seesCall(false)
}

func TestCall_AnEntryOfTheFlagThatIsLostOnItsWayComesWithinTwoSeconds(t *testing.T) {
	f := fleet.Start(t, fleet.Options{Nodes: 2, Proxied: true})
	all := lobby(t, f, "ann", "eve", "bob")
	ann, eve, bob := all[0], all[1], all[2]
	eve.hearsNothing(1500 * time.Millisecond) // until the joins' head has been said again
	before := f.Proxies[1].Counts().Lost
	for _, on := range []bool{true, false} {
		f.Proxies[1].Set(fault.Spoil{Channel: fault.Rooms, LoseOneIn: 1, LoseMost: 1})
		if on {
			ann.beat(1)
			bob.beat(1)
		} else {
			bob.beat(0)
		}
		began := time.Now()
		fleet.Eventually(t, fleet.Patience, "the proxy loses it", func() error {
			if n := f.Proxies[1].Counts().Lost - before; n == 0 {
				return fmt.Errorf("lost %d messages", n)
			}
			return nil
		})
		eve.seesCall(on)
		// The contract's two seconds, and what a busy machine may add.
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("it came after %s, want 2s", took)
		}
		eve.hearsNothing(1500 * time.Millisecond)
		before = f.Proxies[1].Counts().Lost
	}
}
