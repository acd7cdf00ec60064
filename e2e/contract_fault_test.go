package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"godwit/e2e/fault"
	"godwit/e2e/fleet"
	"godwit/e2e/raw"
	"godwit/wire"
)

func TestOrder_IsTheSameAtAllNodes(t *testing.T) {
	f := fleet.Start(t, fleet.Options{})
	const each = 40
	var all []*guest
	for i, n := range f.Nodes {
		g := enter(t, n, fmt.Sprintf("user%d", i))
		g.join("lobby")
		all = append(all, g)
	}
	for i := range each { // pipelined, all at once
		for j, g := range all {
			if _, err := g.Ask("room.send", words("lobby", fmt.Sprintf("%d from %d", i, j), uint64(i+1))); err != nil {
				t.Fatal(err)
			}
		}
	}
	order := map[uint64]string{}
	for j, g := range all {
		seen, last := 0, uint64(0)
		for seen < each*(len(all)-1) {
			e := g.event()
			if e.Kind == wire.KindJoin {
				continue
			}
			seen++
			if e.Seq <= last {
				t.Fatalf("user%d sees seq %d after %d", j, e.Seq, last)
			}
			last = e.Seq
			if strings.HasSuffix(string(e.Data), fmt.Sprintf(`from %d"`, j)) {
				t.Errorf("user%d sees its own %s", j, e.Data)
			}
			if there, ok := order[e.Seq]; ok && there != string(e.Data) {
				t.Errorf("seq %d is %s for user%d and %s for another", e.Seq, e.Data, j, there)
			}
			order[e.Seq] = string(e.Data)
		}
	}
	log := truth(t, f.Redis.Client, "lobby")
	next := make([]int, len(all))
	for _, e := range log.Entries {
		if e.Kind != wire.KindMessage {
			continue
		}
		if order[e.Seq] != string(e.Data) {
			t.Errorf("seq %d is %s in the log and %s for those who saw it", e.Seq, e.Data, order[e.Seq])
		}
		for j := range all { // and each sender's in the order of sending
			if string(e.Data) == fmt.Sprintf(`"%d from %d"`, next[j], j) {
				next[j]++
			}
		}
	}
	for j, n := range next {
		if n != each {
			t.Errorf("the log has %d of %d messages of user%d in order", n, each, j)
		}
	}
}

func TestLostMessage_EvenTheLastOneComesWithinTwoSeconds(t *testing.T) {
	f := fleet.Start(t, fleet.Options{Nodes: 2, Proxied: true})
	ann, bob := enter(t, f.Nodes[0], "ann"), enter(t, f.Nodes[1], "bob")
	ann.join("lobby")
	bob.join("lobby")
	ann.seesKind(wire.KindJoin, "", bob)
	bob.hearsNothing(1500 * time.Millisecond) // until the joins' head has been said again
	before := f.Proxies[1].Counts().Lost
	f.Proxies[1].Set(fault.Spoil{Channel: fault.Rooms, LoseOneIn: 1, LoseMost: 1})
	ann.say("lobby", "lost on its way to bob's node", 1)
	sent := time.Now()
	fleet.Eventually(t, fleet.Patience, "the proxy loses it", func() error {
		if n := f.Proxies[1].Counts().Lost - before; n != 1 {
			return fmt.Errorf("lost %d messages", n)
		}
		return nil
	})
	bob.sees("lost on its way to bob's node")
	// The contract's two seconds, and what a busy machine may add.
	if took := time.Since(sent); took > 4*time.Second {
		t.Errorf("it came after %s, want 2s", took)
	}
}

func TestStoreAway_WritesAnswerUnavailableInTimeAndSocketsStay(t *testing.T) {
	f := fleet.Start(t, fleet.Options{Nodes: 2})
	ann, bob := enter(t, f.Nodes[0], "ann"), enter(t, f.Nodes[1], "bob")
	ann.join("lobby")
	bob.join("lobby")
	ann.seesKind(wire.KindJoin, "", bob)
	ann.say("lobby", "before", 1)
	bob.sees("before")

	f.Redis.Stop()
	for _, g := range []*guest{ann, bob, ann} {
		asked := time.Now()
		err := g.Call(within(t), "room.send", words("lobby", "while away", 2), nil)
		if refusal(err) != wire.Unavailable {
			t.Errorf("a send of %s while the store is away answers %v, want %s", g.user, err, wire.Unavailable)
		}
		var w *wire.Error
		if errors.As(err, &w) && w.Data != nil && !w.Data.Retry {
			t.Error("unavailable says retry:false")
		}
		// The contract's second, and what a busy machine may add.
		if took := time.Since(asked); took > 3*time.Second {
			t.Errorf("the answer took %s, want it within a second", took)
		}
	}
	if end := ann.Closed(); end != nil {
		t.Fatalf("ann's socket did not stay: %v", end)
	}
	f.Redis.Cont()

	var sent wire.Sent
	fleet.Eventually(t, fleet.Patience, "ann's send is accepted again", func() error {
		return ann.Call(within(t), "room.send", words("lobby", "while away", 2), &sent)
	})
	e := bob.sees("while away")
	if e.Seq != sent.Seq {
		t.Errorf("bob sees it at %d, ann was answered %d", e.Seq, sent.Seq)
	}
	ann.say("lobby", "after", 3)
	bob.sees("after") // once, and neither a leave nor a join
}

func TestStoreRestarted_SeqGoesOn(t *testing.T) {
	f := fleet.Start(t, fleet.Options{Nodes: 2})
	ann, bob := enter(t, f.Nodes[0], "ann"), enter(t, f.Nodes[1], "bob")
	epoch := ann.join("lobby").Epoch
	bob.join("lobby")
	last := ann.say("lobby", "before", 1).Seq
	bob.sees("before")
	f.Redis.Kill()
	f.Redis.Start()
	var sent wire.Sent
	fleet.Eventually(t, fleet.Patience, "ann's send is accepted again", func() error {
		return ann.Call(within(t), "room.send", words("lobby", "after", 2), &sent)
	})
	if sent.Seq != last+1 {
		t.Errorf("the first message after the restart has seq %d, want %d", sent.Seq, last+1)
	}
	bob.sees("after")
	if log := truth(t, f.Redis.Client, "lobby"); log.Epoch != epoch {
		t.Errorf("the epoch is %q, want still %q", log.Epoch, epoch)
	}
}

func TestStoreWiped_MembersAreToldOfTheResetAndGoOn(t *testing.T) {
	for name, wipe := range map[string]func(*fleet.Redis){
		"flushed": (*fleet.Redis).Wipe,
		"restarted empty": func(r *fleet.Redis) {
			r.Kill()
			r.Lose()
			r.Start()
		},
	} {
		t.Run(name, func(t *testing.T) { wiped(t, wipe) })
	}
}

func wiped(t *testing.T, wipe func(*fleet.Redis)) {
	f := fleet.Start(t, fleet.Options{Nodes: 2})
	ann, bob := enter(t, f.Nodes[0], "ann"), enter(t, f.Nodes[1], "bob")
	epoch := ann.join("lobby").Epoch
	bob.join("lobby")
	ann.seesKind(wire.KindJoin, "", bob)
	ann.say("lobby", "before", 1)
	bob.sees("before")
	wipe(f.Redis)

	counts := map[*guest]uint64{}
	for _, g := range []*guest{ann, bob} {
		var r wire.Reset
		if err := json.Unmarshal(g.notice("room.reset").Params, &r); err != nil {
			t.Fatal(err)
		}
		if r.Room != "lobby" || r.Epoch == epoch || r.Epoch == "" {
			t.Errorf("%s is told of %+v, want a new epoch of lobby", g.user, r)
		}
		counts[g] = r.CSeq
	}
	var sent wire.Sent
	fleet.Eventually(t, fleet.Patience, "ann's send is accepted", func() error {
		err := ann.Call(within(t), "room.send", words("lobby", "after", counts[ann]+1), &sent)
		if reason := refusal(err); err != nil && reason != wire.Unavailable {
			t.Fatalf("a send after the reset answers %v", err)
		}
		return err
	})
	for { // rejoin entries of others may come before
		e := bob.event()
		if e.Kind == wire.KindJoin && e.From.Client == ann.session.Client {
			continue
		}
		if string(e.Data) != `"after"` || e.Seq != sent.Seq {
			t.Fatalf("bob sees %s, want the message at %d", describe(e), sent.Seq)
		}
		break
	}
	if ann.Closed() != nil || bob.Closed() != nil {
		t.Errorf("sockets did not stay: %v, %v", ann.Closed(), bob.Closed())
	}
	ann.Drop() // the session itself is whole again, too
	again := ann.resume(f.Nodes[1], nil)
	again.say("lobby", "resumed", counts[ann]+2)
	bob.sees("resumed")
}

func TestStoppedNode_CannotWriteForASessionThatMovedOn(t *testing.T) {
	f := fleet.Start(t, fleet.Options{Nodes: 2, Env: map[string]string{"GODWIT_LEASE": "2s", "GODWIT_GRACE": "1m"}})
	ann, bob, eve := enter(t, f.Nodes[0], "ann"), enter(t, f.Nodes[1], "bob"), enter(t, f.Nodes[0], "eve")
	pos := at(ann.join("lobby"))
	bob.join("lobby")
	eve.join("lobby")
	bob.seesKind(wire.KindJoin, "", eve)
	f.Nodes[0].Stop()
	again := ann.resume(f.Nodes[1], map[string]wire.Position{"lobby": pos})
	again.say("lobby", "from the new socket", 1)
	bob.sees("from the new socket")
	// These wait in the stopped node's socket buffers.
	if _, err := ann.Ask("room.send", words("lobby", "from the old socket", 2)); err != nil {
		t.Fatal(err)
	}
	<-time.After(4 * time.Second) // two leases
	f.Nodes[0].Cont()
	ann.isClosed(wire.CloseReplaced)
	f.Nodes[0].Ready()

	// Eve did not move: her session is her node's own again, on the same socket.
	fleet.Eventually(t, fleet.Patience, "eve's send is accepted", func() error {
		err := eve.Call(within(t), "room.send", words("lobby", "still here", 1), nil)
		if reason := refusal(err); err != nil && reason != wire.Unavailable {
			t.Fatalf("eve's send answers %v", err)
		}
		return err
	})
	bob.sees("still here") // and nothing from the old socket, no leave, no join
	again.say("lobby", "next", 2)
	bob.sees("next")
}

func TestSlowReader_IsEvictedAndNeighboursLoseNothing(t *testing.T) {
	f := fleet.Start(t, fleet.Options{Nodes: 1, Env: map[string]string{"GODWIT_RATE": "100000", "GODWIT_RATE_BURST": "100000"}})
	ann, bob, slow := enter(t, f.Nodes[0], "ann"), enter(t, f.Nodes[0], "bob"), enter(t, f.Nodes[0], "slow")
	pos := at(slow.join("lobby"))
	bob.join("lobby")
	ann.join("lobby")
	for range 2 {
		pos.Seq = slow.event().Seq // bob's and ann's joins
	}
	bob.seesKind(wire.KindJoin, "", ann)
	slow.Halt()
	// More than the outbox and what the kernel buffers: up to 4 MiB at the
	// sender, and next to nothing at a receiver that has halted.
	const messages = 320
	body := strings.Repeat("x", 30_000)
	for i := range messages {
		ann.say("lobby", fmt.Sprintf("%d %s", i, body), uint64(i+1))
		bob.sees(fmt.Sprintf("%d %s", i, body)) // so that he is not slow, however busy this machine is
	}
	slow.Go()
	slow.isClosed(wire.CloseTooSlow)
	missed := messages
	for slow.Untaken() > 0 {
		if n, err := slow.Next(within(t)); err == nil && n.Event != nil {
			pos.Seq = n.Event.Seq
			missed--
		}
	}
	if missed == 0 {
		t.Fatal("the slow reader got everything: it was not slow")
	}
	again := slow.resume(f.Nodes[0], map[string]wire.Position{"lobby": pos})
	for i := messages - missed; i < messages; i++ {
		again.sees(fmt.Sprintf("%d %s", i, body))
	}
	ann.say("lobby", "end", messages+1)
	bob.sees("end") // the eviction showed no leave
	again.sees("end")
}

func TestDrain_SaysByeClosesAndExitsInItsBudget(t *testing.T) {
	f := fleet.Start(t, fleet.Options{Nodes: 2, Env: map[string]string{"GODWIT_DRAIN_BUDGET": "10s"}})
	ann, bob := enter(t, f.Nodes[0], "ann"), enter(t, f.Nodes[1], "bob")
	pos := at(ann.join("lobby"))
	bob.join("lobby")
	idle := &guest{Conn: dial(t, f.Nodes[0]), t: t, user: "nobody"} // has not even said hello
	f.Nodes[0].Term()
	var bye wire.Bye
	if err := json.Unmarshal(ann.notice("bye").Params, &bye); err != nil {
		t.Fatal(err)
	}
	if bye.RetryAfterMS < 0 || bye.Reason == "" {
		t.Errorf("bye says %+v, want a reason and a delay", bye)
	}
	ann.isClosed(wire.CloseRestart)
	code, err := f.Nodes[0].Exit(15 * time.Second)
	if err != nil || code != 0 {
		t.Errorf("the drained node: exit code %d, %v; want 0", code, err)
	}
	idle.isClosed(wire.CloseRestart)
	again := ann.resume(f.Nodes[1], map[string]wire.Position{"lobby": pos})
	again.seesKind(wire.KindJoin, "", bob)
	again.say("lobby", "back", 1)
	bob.sees("back") // and neither a leave nor a join
}

func TestDrain_NewSocketsAreRefusedWith503(t *testing.T) {
	f := fleet.Start(t, fleet.Options{Nodes: 2, Env: map[string]string{"GODWIT_DRAIN_BUDGET": "20s"}})
	enter(t, f.Nodes[0], "stuck").Halt() // takes no close frame: the drain lasts
	f.Nodes[0].Term()
	for f.Nodes[0].Alive() {
		c, err := raw.Dial(f.Nodes[0].URL, nil)
		var refused *raw.Refused
		switch {
		case errors.As(err, &refused):
			if refused.Status != 503 || refused.RetryAfter == "" {
				t.Errorf("a draining node answers %v with Retry-After %q, want 503 and a time", refused, refused.RetryAfter)
			}
			return
		case err == nil:
			c.Drop() // the signal has not arrived yet
		}
	}
	t.Error("the drain was over before a dial came in between")
}

func TestDrain_ASecondTermExitsAtOnce(t *testing.T) {
	f := fleet.Start(t, fleet.Options{Nodes: 1, Env: map[string]string{"GODWIT_DRAIN_BUDGET": "5m"}})
	stuck := enter(t, f.Nodes[0], "stuck")
	stuck.Halt() // never takes its close frame
	for i := range 50 {
		enter(t, f.Nodes[0], fmt.Sprintf("user%d", i))
	}
	f.Nodes[0].Term()
	fleet.Eventually(t, fleet.Patience, "the node drains", func() error {
		if !f.Nodes[0].Alive() {
			return nil
		}
		return f.Nodes[0].Probe("/readyz", 503)
	})
	f.Nodes[0].Term()
	if _, err := f.Nodes[0].Exit(10 * time.Second); err != nil {
		t.Error(err)
	}
}
