package e2e

import (
	"testing"
	"time"

	"godwit/e2e/fleet"
	"godwit/wire"
)

func at(j wire.Joined) wire.Position { return wire.Position{Epoch: j.Epoch, Seq: j.Seq} }

func TestResume_AtAnotherNodeGetsExactlyWhatWasMissed(t *testing.T) {
	f := fleet.Start(t, fleet.Options{Nodes: 2})
	ann, bob := enter(t, f.Nodes[0], "ann"), enter(t, f.Nodes[1], "bob")
	pos := at(ann.join("lobby"))
	bob.join("lobby")
	ann.seesKind(wire.KindJoin, "", bob)
	bob.say("lobby", "one", 1)
	pos.Seq = ann.sees("one").Seq
	if got := ann.say("lobby", "mine", 1).Seq; got != pos.Seq+1 {
		t.Errorf("ann's message has seq %d, want %d", got, pos.Seq+1)
	}
	bob.sees("mine")
	ann.Drop()
	for i, text := range []string{"two", "three", "four"} {
		bob.say("lobby", text, uint64(2+i))
	}
	again := ann.resume(f.Nodes[1], map[string]wire.Position{"lobby": pos})
	if len(again.session.Rooms) != 1 {
		t.Fatalf("resume names the rooms %+v, want the one", again.session.Rooms)
	}
	if r := again.session.Rooms[0]; r.Room != "lobby" || !r.Recovered || r.CSeq != 1 || r.Epoch != pos.Epoch {
		t.Errorf("resume says of the room %+v, want it recovered, cseq 1, epoch %s", r, pos.Epoch)
	}
	for _, text := range []string{"two", "three", "four"} {
		again.sees(text)
	}
	if s := again.say("lobby", "mine", 1); !s.Dup || s.Seq != pos.Seq+1 {
		t.Errorf("a repeat at the other node answers %+v, want dup of %d", s, pos.Seq+1)
	}
	bob.say("lobby", "five", 5)
	again.sees("five")
	again.say("lobby", "back", 2)
	bob.sees("back") // and neither a leave nor a join before it
}

func TestResume_WithoutAPositionStartsAtTheHeadAndSaysSo(t *testing.T) {
	f := fleet.Start(t, fleet.Options{Nodes: 2})
	ann, bob := enter(t, f.Nodes[0], "ann"), enter(t, f.Nodes[1], "bob")
	ann.join("lobby")
	bob.join("lobby")
	ann.Drop()
	head := bob.say("lobby", "missed", 1).Seq
	again := ann.resume(f.Nodes[1], nil)
	if r := again.session.Rooms; len(r) != 1 || r[0].Recovered || r[0].Seq != head {
		t.Errorf("resume says %+v, want recovered:false from %d", r, head)
	}
	bob.say("lobby", "next", 2)
	again.sees("next")
}

func TestResume_ReplacesALiveSocketAndClosesIt4101(t *testing.T) {
	f := fleet.Start(t, fleet.Options{Nodes: 2})
	ann, bob := enter(t, f.Nodes[0], "ann"), enter(t, f.Nodes[1], "bob")
	pos := at(ann.join("lobby"))
	bob.join("lobby")
	for _, n := range []*fleet.Node{f.Nodes[1], f.Nodes[1], f.Nodes[0]} { // elsewhere, at the same, back
		next := ann.resume(n, map[string]wire.Position{"lobby": pos})
		ann.isClosed(wire.CloseReplaced)
		ann = next
	}
	bob.say("lobby", "hi", 1)
	ann.seesKind(wire.KindJoin, "", bob) // the position was before it
	ann.sees("hi")
	ann.say("lobby", "still here", 1)
	bob.sees("still here") // and neither a leave nor a join before it
}

func TestBye_ShowsTheLeaveAtOnceAndClosesWith1000(t *testing.T) {
	f := fleet.Start(t, fleet.Options{Nodes: 2, Env: map[string]string{"GODWIT_GRACE": "5m"}})
	ann, bob := enter(t, f.Nodes[0], "ann"), enter(t, f.Nodes[1], "bob")
	bob.join("lobby")
	ann.join("lobby")
	bob.seesKind(wire.KindJoin, "", ann)
	ann.must("bye", wire.Empty{}, nil)
	ann.isClosed(wire.CloseBye)
	bob.seesKind(wire.KindLeave, wire.LeftByChoice, ann)
	var s wire.Session
	c := dial(t, f.Nodes[1])
	err := c.Call(within(t), "resume", wire.Resume{Session: ann.session.Session, Secret: ann.session.Secret}, &s)
	if refusal(err) != wire.NoSession {
		t.Errorf("resume after bye answers %v, want %s", err, wire.NoSession)
	}
	if end, err := c.End(within(t)); err != nil || end.Code != wire.CloseSessionGone {
		t.Errorf("and then %v %v, want close %s", end, err, wire.CloseSessionGone)
	}
}

func TestDetached_ShowsNothingInTheGraceAndOneLeaveAfterIt(t *testing.T) {
	const grace = 3 * time.Second
	f := fleet.Start(t, fleet.Options{Nodes: 2, Env: map[string]string{"GODWIT_GRACE": grace.String()}})
	ann, bob := enter(t, f.Nodes[0], "ann"), enter(t, f.Nodes[1], "bob")
	bob.join("lobby")
	ann.join("lobby")
	bob.seesKind(wire.KindJoin, "", ann)
	dropped := time.Now()
	ann.Drop()
	bob.seesKind(wire.KindLeave, wire.LeftLost, ann)
	if after := time.Since(dropped); after < grace-100*time.Millisecond {
		t.Errorf("the leave came %s after the drop, before the grace of %s was over", after, grace)
	}
	bob.hearsNothing(grace)
	err := dial(t, f.Nodes[0]).Call(within(t), "resume", wire.Resume{Session: ann.session.Session, Secret: ann.session.Secret}, nil)
	if refusal(err) != wire.NoSession {
		t.Errorf("resume after the grace answers %v, want %s", err, wire.NoSession)
	}
}

func TestDeadNode_ItsSessionsLeaveExactlyOnceWhoeverSweeps(t *testing.T) {
	f := fleet.Start(t, fleet.Options{Nodes: 4, Env: map[string]string{"GODWIT_GRACE": "2s", "GODWIT_LEASE": "2s"}})
	var watchers, dead []*guest
	for i, n := range f.Nodes[1:] {
		g := enter(t, n, "watcher "+string(rune('a'+i)))
		g.join("lobby")
		watchers = append(watchers, g)
	}
	for i := range 8 {
		g := enter(t, f.Nodes[0], "dead "+string(rune('a'+i)))
		g.join("lobby")
		dead = append(dead, g)
	}
	f.Nodes[0].Kill()
	for _, w := range watchers {
		gone := map[uint32]int{}
		for len(gone) < len(dead) {
			e := w.event()
			switch {
			case e.Kind == wire.KindLeave && e.Reason == wire.LeftLost:
				gone[e.From.Client]++
			case e.Kind != wire.KindJoin:
				t.Fatalf("%s sees %s", w.user, describe(e))
			}
		}
		for _, d := range dead {
			if gone[d.session.Client] != 1 {
				t.Errorf("%s saw %d leaves of %s, want one", w.user, gone[d.session.Client], d.user)
			}
		}
	}
	watchers[0].hearsNothing(4 * time.Second) // another sweep or two of the others
	leaves := 0
	for _, e := range truth(t, f.Redis.Client, "lobby").Entries {
		if e.Kind == wire.KindLeave {
			leaves++
		}
	}
	if leaves != len(dead) {
		t.Errorf("the log has %d leaves, want %d", leaves, len(dead))
	}
	var info wire.RoomInfo
	watchers[1].must("room.info", wire.Info{Room: "lobby"}, &info)
	if len(info.Members) != len(watchers) {
		t.Errorf("the room has the members %+v, want the three that live", info.Members)
	}
}

func TestDeadNode_ASessionThatResumesInTheGraceIsNotSwept(t *testing.T) {
	f := fleet.Start(t, fleet.Options{Nodes: 3, Env: map[string]string{"GODWIT_GRACE": "3s", "GODWIT_LEASE": "2s"}})
	ann, bob := enter(t, f.Nodes[0], "ann"), enter(t, f.Nodes[1], "bob")
	bob.join("lobby")
	pos := at(ann.join("lobby"))
	bob.seesKind(wire.KindJoin, "", ann)
	f.Nodes[0].Kill()
	bob.say("lobby", "missed", 1)
	again := ann.resume(f.Nodes[2], map[string]wire.Position{"lobby": pos})
	again.sees("missed")
	bob.hearsNothing(8 * time.Second) // lease, grace and a sweep, from the kill on
	again.say("lobby", "alive", 1)
	bob.sees("alive")
}
