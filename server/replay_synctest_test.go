package server_test

import (
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json"

	"godwit/internal/trial"
	"godwit/wire"
)

// missed is a fleet in which ann has missed n messages, of 1 kB each, since
// position, and nobody of the room is at node 2.
func missed(t *testing.T, n, outbox int, test func(t *testing.T, f *trial.Fleet, ann *person, since wire.Position)) {
	change := func(s *trial.Settings) { s.Socket.Outbox = outbox }
	synctest.Test(t, func(t *testing.T) {
		f := trial.Start(trial.Options{Nodes: 2, Bubble: true, Change: change})
		defer f.Close()
		bob, ann := enter(t, f, 1, "bob"), enter(t, f, 1, "ann")
		bob.join("lobby")
		var in wire.Joined
		if err := ann.Call(t.Context(), "room.join", wire.Join{Room: "lobby"}, &in); err != nil {
			t.Fatal(err)
		}
		ann.Drop()
		synctest.Wait()
		text := strings.Repeat("x", 1000)
		for i := range n {
			if err := bob.say(text, uint64(i+1)); err != nil {
				t.Fatal(err)
			}
		}
		test(t, f, ann, wire.Position{Epoch: in.Epoch, Seq: in.Seq})
	})
}

// resume gives a session a new socket at a node, and expects each room to go on.
func (p *person) resume(f *trial.Fleet, node int, since wire.Position) {
	p.t.Helper()
	secret := p.session.Secret
	p.Conn = dial(p.t, f, node)
	err := p.Call(p.t.Context(), "resume", wire.Resume{
		Session: p.session.Session, Secret: secret, Positions: map[string]wire.Position{"lobby": since},
	}, &p.session)
	if err != nil {
		p.t.Fatal(err)
	}
	p.session.Secret = secret
	for _, r := range p.session.Rooms {
		if !r.Recovered {
			p.t.Fatalf("%s is not recovered", r.Room)
		}
	}
}

func TestResume_WhereNobodyOfTheRoomIsGetsWhatItMissedAtOnce(t *testing.T) {
	missed(t, 3, 256<<10, func(t *testing.T, f *trial.Fleet, ann *person, since wire.Position) {
		began := time.Now()
		ann.resume(f, 2, since)
		for range 3 {
			n, err := ann.Next(t.Context())
			if err != nil || n.Event == nil || n.Event.Seq != since.Seq+1 {
				t.Fatalf("got %+v, %v, want seq %d", n, err, since.Seq+1)
			}
			since.Seq++
		}
		if took := time.Since(began); took > 50*time.Millisecond {
			t.Errorf("took %s", took)
		}
	})
}

// What was missed is no live event: however much it is, it does not fill the outbox.
func TestResume_WithMoreMissedThanTheOutboxHoldsIsNoSlowReader(t *testing.T) {
	missed(t, 300, 16<<10, func(t *testing.T, f *trial.Fleet, ann *person, since wire.Position) {
		ann.resume(f, 2, since)
		for range 300 {
			n, err := ann.Next(t.Context())
			if err != nil || n.Event == nil || n.Event.Seq != since.Seq+1 {
				t.Fatalf("got %+v, %v, want seq %d", n, err, since.Seq+1)
			}
			since.Seq++
		}
	})
}

// A replay that waits for a slow socket ends with the membership it was for.
func TestLeave_WhileAReplayWaitsEndsIt(t *testing.T) {
	const messages = 900
	missed(t, messages, 256<<10, func(t *testing.T, f *trial.Fleet, ann *person, since wire.Position) {
		ann.resume(f, 2, since)
		ann.Halt() // the replay waits for the socket
		synctest.Wait()
		leave, err := ann.Ask("room.leave", wire.Leave{Room: "lobby"})
		if err != nil {
			t.Fatal(err)
		}
		join, err := ann.Ask("room.join", wire.Join{Room: "lobby"})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		ann.Go()
		for _, id := range []string{leave, join} {
			if err := ann.Answer(t.Context(), id, nil); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		before, after, _ := strings.Cut(ann.Rest(), `"id":`+leave+`,`)
		const event = `"method":"room.event"`
		if n := strings.Count(before, event); n == 0 || n >= messages {
			t.Fatalf("%d of %d were replayed before the leave: it met no waiting replay", n, messages)
		}
		if n := strings.Count(after, event); n != 0 {
			t.Errorf("%d events of the membership that was left came after it", n)
		}
	})
}

// rollBack has the store lose what the lobby has after kept.
func rollBack(t *testing.T, f *trial.Fleet, kept uint64) {
	t.Helper()
	const log, meta = "gw:{r:lobby}:log", "gw:{r:lobby}:meta"
	entries, err := f.Redis.Stream(log)
	if err != nil {
		t.Fatal(err)
	}
	f.Redis.Del(log)
	for _, e := range entries[:kept] {
		if _, err := f.Redis.XAdd(log, e.ID, e.Values); err != nil {
			t.Fatal(err)
		}
	}
	f.Redis.HSet(meta, "seq", strconv.FormatUint(kept, 10))
}

// Who still reads the log when its tail is lost goes on reading: it lacks nothing of
// what was kept, nor of what is said in the epoch after that.
func TestReplay_IntoAnotherEpochGoesOnWhereItIs(t *testing.T) {
	const messages, lost, more = 900, 3, 5
	missed(t, messages, 256<<10, func(t *testing.T, f *trial.Fleet, ann *person, since wire.Position) {
		cy := enter(t, f, 1, "cy")
		cy.join("lobby")
		ann.resume(f, 2, since)
		ann.Halt() // the replay waits for the socket
		synctest.Wait()
		kept := since.Seq + messages + 1 - lost // the last is cy's join
		rollBack(t, f, kept)
		eve := enter(t, f, 1, "eve") // her node finds out by her join
		eve.join("lobby")
		for i := range more {
			if err := eve.say("after", uint64(i+1)); err != nil {
				t.Fatal(err)
			}
		}
		ann.Go()
		for at, after := since.Seq, 0; after < more; {
			n, err := ann.Next(t.Context())
			switch {
			case err != nil:
				t.Fatal(err)
			case n.Method == "room.reset":
				var r wire.Reset
				if err := json.Unmarshal(n.Params, &r); err != nil {
					t.Fatal(err)
				}
				if r.Seq != at || at == since.Seq || at >= kept {
					t.Fatalf("reset to %d behind %d, want it while what was kept, up to %d, is read", r.Seq, at, kept)
				}
			case n.Event != nil:
				if at++; n.Event.Seq != at {
					t.Fatalf("got %d, want %d", n.Event.Seq, at)
				}
				if string(n.Event.Data) == `"after"` {
					after++
				}
			}
		}
	})
}
