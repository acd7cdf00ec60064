package e2e

import (
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"godwit/e2e/fleet"
	"godwit/e2e/raw"
	"godwit/wire"
)

// led is where a session that asks for another node is led.
func (g *guest) led() (o wire.Redirect) {
	g.t.Helper()
	g.must("redirect.request", wire.RedirectRequest{}, nil)
	if err := json.Unmarshal(g.notice("redirect").Params, &o); err != nil {
		g.t.Fatal(err)
	}
	return o
}

// follows takes an offer up at the node.
func (g *guest) follows(o wire.Redirect, n *fleet.Node, positions map[string]wire.Position) *guest {
	g.t.Helper()
	now := &guest{Conn: dial(g.t, n), t: g.t, user: g.user}
	now.must("handover", wire.Handover{ID: o.ID, Token: o.Token, Positions: positions}, &now.session)
	now.must("handover.done", wire.HandoverDone{ID: o.ID}, nil)
	return now
}

func TestPresence_NothingIsToldWhenASessionIsLedElsewhere(t *testing.T) {
	f := seeing(t, "GODWIT_PUBLIC_URL", "ws://fleet.test/v1/ws")
	befriend(t, f.Nodes[2], "bob", "ann")
	bob := see(t, f.Nodes[2], "bob", online)
	watcher := watch(t, f.Nodes[1], "bob", online)
	watcher.hears("10" + raw.Nobody + "03")
	ann := see(t, f.Nodes[0], "ann", online)
	bob.told("ann is there", "ann 3")
	watcher.hears("10" + ann.session.Handle + "03")
	ann.set(1, false)
	bob.told("ann sets herself", "ann 1")
	watcher.hears("10" + ann.session.Handle + "01")

	now := &seer{guest: ann.follows(ann.led(), f.Nodes[1], nil), pv: map[string]uint64{}}
	if now.session.Self != 1 || now.session.Client != ann.session.Client {
		t.Errorf("led elsewhere as %+v", now.session)
	}
	ann.isClosed(wire.CloseMoved)
	bob.untold("by the redirect, nor by the end of the old socket's grace", 5*time.Second)
	watcher.hearsNothing(quiet)
	now.set(2, false)
	bob.told("she is set where she is", "ann 2")
	watcher.hears("10" + ann.session.Handle + "02")
}

// Nobody says goodbye, and nobody comes back.
func TestPresence_OfAKilledNodesUserIsOfflineOnceAfterTheGrace(t *testing.T) {
	const grace = 5 * time.Second
	f := seeing(t, "GODWIT_GRACE", grace.String())
	befriend(t, f.Nodes[2], "bob", "ann", "cy")
	bob := see(t, f.Nodes[2], "bob", online)
	ann := see(t, f.Nodes[0], "ann", online)
	bob.told("ann comes", "ann 3")
	cy := watch(t, f.Nodes[0], "cy", 0x82)
	cy.hears("10" + raw.Nobody + "02")
	bob.told("cy comes, by statusd", "cy 2")
	bob.join("lobby")
	ann.join("lobby")
	f.Nodes[0].Kill()
	killed := time.Now()
	bob.untold("the grace runs", grace-time.Second)
	seen := map[string]bool{}
	for range 2 { // in any order
		var p wire.Presence
		if err := json.Unmarshal(bob.notice("presence").Params, &p); err != nil {
			t.Fatal(err)
		}
		seen[bob.take(&p)] = true
	}
	if !seen["ann 0"] || !seen["cy 0"] {
		t.Errorf("told %v, want ann 0 and cy 0", seen)
	}
	if after := time.Since(killed); after < grace {
		t.Errorf("offline %s after the kill, want the grace of %s", after, grace)
	}
	bob.untold("once", grace)

	again := watch(t, f.Nodes[1], "cy", 0x84) // the redial is a new session
	again.hears("10" + raw.Nobody + "04")
	bob.told("cy dials again, elsewhere", "cy 4")
}

func TestChatd_OfAKilledNodeLeavesOnceAndDialsAgainElsewhere(t *testing.T) {
	const timeout = 6 * time.Second
	f := fleet.Start(t, fleet.Options{Env: map[string]string{
		"GODWIT_GRACE": "20s", "GODWIT_LEASE": "2s", "GODWIT_CALL_BEAT": "1s", "GODWIT_CALL_TIMEOUT": timeout.String(),
	}})
	eve := enter(t, f.Nodes[1], "eve")
	eve.join("lobby")
	bob := talk(t, f.Nodes[0], "lobby", "bob")
	eve.seesClient(wire.KindJoin, bob)
	bob.tell(raw.Hex("03 01"))
	eve.beat(1)
	eve.seesCall(true)
	f.Nodes[0].Kill()
	eve.hearsNothing(timeout / 2) // the call outlives the node, for its time
	eve.beat(1)
	eve.seesCall(false)
	again := talk(t, f.Nodes[2], "lobby", "bob")
	if again.client == bob.client {
		t.Errorf("a redial is client %d, as before", again.client)
	}
	eve.seesClient(wire.KindJoin, again)
	if e := eve.seesClient(wire.KindLeave, bob); e.Reason != wire.LeftLost {
		t.Errorf("the old client leaves by %q, want lost", e.Reason)
	}
	eve.hearsNothing(4 * time.Second) // once
	eve.say("lobby", "there?", 1)
	if b := again.next(); b[0] != 0x02 {
		t.Errorf("bob hears %x, want a message", b)
	}
}

func TestChatd_LosesAndDoublesNothingWhileItsNeighbourIsLedElsewhere(t *testing.T) {
	f := fleet.Start(t, fleet.Options{Env: map[string]string{"GODWIT_PUBLIC_URL": "ws://fleet.test/v1/ws"}})
	ann := &guest{Conn: dial(t, f.Nodes[0]), t: t, user: "ann"}
	ann.must("hello", wire.Hello{Token: fleet.Token("ann", time.Hour), Caps: []string{"redirect"}}, &ann.session)
	in := ann.join("lobby")
	bob := talk(t, f.Nodes[1], "lobby", "bob")
	ann.seesClient(wire.KindJoin, bob)
	said := func(text string) { bob.tell(raw.RTMsg(raw.Nobody, 0, 0, []byte(text))) }
	heard := func(g *guest, text string) *wire.RoomEvent {
		t.Helper()
		e := g.seesClient(wire.KindMessage, bob)
		if string(e.Data) != opaque(text) {
			t.Fatalf("ann sees %s, want %q", describe(e), text)
		}
		return e
	}
	said("before")
	pos := wire.Position{Epoch: in.Epoch, Seq: heard(ann, "before").Seq}
	o := ann.led()
	said("meanwhile")
	heard(ann, "meanwhile") // on the old socket, after its position was taken
	now := ann.follows(o, f.Nodes[2], map[string]wire.Position{"lobby": pos})
	heard(now, "meanwhile")
	ann.isClosed(wire.CloseMoved)
	said("after")
	heard(now, "after")
	now.say("lobby", "hello", 1)
	bob.gets(ann.session.Handle, ann.session.Client, 0, `"hello"`)
	bob.hearsNothing(quiet)
	now.hearsNothing(quiet)
}
