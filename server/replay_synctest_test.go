package server_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

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
