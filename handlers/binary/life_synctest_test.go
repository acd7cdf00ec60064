package binary_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"godwit/e2e/raw"
	"godwit/internal/trial"
	"godwit/store"
	"godwit/wire"
)

func TestChatd_ADroppedConnectionLeavesAfterTheGraceAndARedialIsAnother(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
		ann := ws(t, f, "lobby", "ann")
		bob := enter(t, f, "lobby", "bob")
		ann.sees(wire.KindJoin, bob.client)
		bob.Drop()
		began := time.Now()
		again := enter(t, f, "lobby", "bob")
		ann.sees(wire.KindJoin, again.client)
		// Still a member: what is for it alone is accepted.
		ann.must("room.send", wire.Send{Room: "lobby", Data: wire.Raw("1"), To: &wire.To{Client: &bob.client}}, nil)
		if ev := ann.sees(wire.KindLeave, bob.client); ev.Reason != wire.LeftLost || time.Since(began) < 30*time.Second {
			t.Errorf("it left %s after %s, want %s after 30s", ev.Reason, time.Since(began), wire.LeftLost)
		}
		if again.client == bob.client {
			t.Error("the redial is the same client")
		}
		again.quiet()
	})
}

func TestChatd_WhoIsPutOutIsClosed4403AndItsSessionIsOver(t *testing.T) {
	for reason, put := range map[string]func(st *store.Store, client uint32) error{
		wire.LeftKicked: func(st *store.Store, client uint32) error { return st.Kick(context.Background(), "lobby", client) },
		wire.LeftClosed: func(st *store.Store, _ uint32) error { return st.CloseRoom(context.Background(), "lobby") },
	} {
		t.Run(reason, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
				st := f.Nodes[0].Store
				bob := enter(t, f, "lobby", "bob")
				room, err := st.Info(t.Context(), "lobby")
				if err != nil || len(room.Members) != 1 {
					t.Fatal(room, err)
				}
				eve := enter(t, f, "other", "eve")
				if err := put(st, bob.client); err != nil {
					t.Fatal(err)
				}
				bob.ends(wire.CloseSignedOut)
				time.Sleep(time.Second) // its end is written down
				if _, _, err := st.Peek(t.Context(), room.Members[0].Session); !errors.Is(err, store.ErrGone) {
					t.Errorf("its session: %v, want %v", err, store.ErrGone)
				}
				if n := f.Nodes[0].Core.Sessions(); n != 1 {
					t.Errorf("%d sessions at the node, want eve's", n)
				}
				eve.quiet()
			})
		})
	}
}

func TestDrain_ClosesBothDialects1012(t *testing.T) {
	bubble(t, func(s *trial.Settings) { s.Server.DrainBudget = 5 * time.Second }, func(t *testing.T, f *trial.Fleet) {
		bob := enter(t, f, "lobby", "bob")
		eve := open(t, f, "/v1/statusd", bearer("eve"))
		eve.say(raw.Hex("01 0100 03 00"))
		eve.hears("10" + raw.Nobody + "03")
		if err := f.Nodes[0].Core.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		bob.ends(wire.CloseRestart)
		eve.ends(wire.CloseRestart)
		conn, err := f.Dial(t.Context(), "tcp", "n1:80")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, err = raw.OverChatd(conn, "ws://n1:80/v1/chatd/lobby", bearer("bob"))
		if r, ok := err.(*raw.Refused); !ok || r.Status != 503 || r.RetryAfter == "" {
			t.Errorf("a draining node says %v, want 503 with Retry-After", err)
		}
	})
}

func TestTime_IsThatOfAnySocket(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
		began := time.Now()
		open(t, f, "/v1/chatd/lobby", bearer("bob")).ends(wire.CloseNoHello)
		if took := time.Since(began).Round(time.Second); took != 10*time.Second {
			t.Errorf("closed after %s, want 10s", took)
		}
		bob := enter(t, f, "lobby", "bob") // answers pings
		silent := enter(t, f, "lobby", "eve")
		silent.Halt()
		silent.say(raw.Hex("03 00")) // it reads what comes next, and no more
		time.Sleep(2 * time.Minute)
		if bob.Closed() != nil {
			t.Errorf("who answers pings: %v", bob.Closed())
		}
		if n := f.Nodes[0].Sockets.Stats.EvictedSilent.Load(); n != 1 {
			t.Errorf("%d closed as silent, want 1", n)
		}
		silent.Go()
	})
}

func TestChatd_ASlowReaderIsEvictedAndItsNeighbourHearsAll(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
		talker, slow, good := enter(t, f, "lobby", "ann"), enter(t, f, "lobby", "slow"), enter(t, f, "lobby", "good")
		slow.Halt()
		stats := &f.Nodes[0].Sockets.Stats
		msg := []byte(strings.Repeat("x", 30000))
		n := 0
		for ; stats.EvictedSlow.Load() == 0 && n < 200; n++ {
			talker.say(raw.RTMsg(raw.Nobody, 0, 0, msg))
			synctest.Wait()
		}
		if stats.EvictedSlow.Load() != 1 {
			t.Fatalf("%d evicted after %d messages of 30 kB", stats.EvictedSlow.Load(), n)
		}
		for i := range n {
			if b := good.next(); len(b) != 17+len(msg) {
				t.Fatalf("message %d has %d bytes", i, len(b))
			}
		}
		slow.Go()
		had := 0
		for ; ; had++ {
			if _, err := slow.Next(t.Context()); err != nil {
				break
			}
		}
		if had > n-5 { // more than that, of 256 kB, was not on its way yet
			t.Errorf("who was evicted had %d of %d messages: what waited for it was sent", had, n)
		}
		slow.ends(wire.CloseTooSlow)
	})
}

func TestStoreAway_IsSaidAndTheSocketStays(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
		ann, bob := enter(t, f, "lobby", "ann"), enter(t, f, "lobby", "bob")
		late := open(t, f, "/v1/chatd/lobby", bearer("eve"))
		anns := handleOf(t, f, "ann")
		f.Nodes[0].Part()
		bob.say(raw.RTMsg(raw.Nobody, 0, 0, []byte("all")))
		bob.hears("7f 02 07")
		bob.say(raw.RTMsg(anns, 0, 0, []byte("one")))
		bob.hears("7f 02 07")
		late.say(helloOne)
		late.hears("7f 01 07")
		late.ends(wire.CloseRestart)
		f.Nodes[0].Join()
		deadline := time.Now().Add(time.Minute)
		for {
			bob.say(raw.RTMsg(anns, 0, 0, []byte("back")))
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			b, err := bob.Next(ctx)
			cancel()
			if err != nil { // no ERROR
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("still %x", b)
			}
			time.Sleep(time.Second)
		}
		for b := ann.next(); string(b[17:]) != "back"; b = ann.next() {
			if s := string(b[17:]); s != "all" && s != "one" { // unavailable leaves open whether it is there
				t.Fatalf("ann heard %q", s)
			}
		}
	})
}

// After a wipe members are who they were, and handles lead to them.
func TestWipe_AMemberStaysAndIsAddressedByItsHandle(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
		ann, bob := enter(t, f, "lobby", "ann"), enter(t, f, "lobby", "bob")
		anns := handleOf(t, f, "ann")
		f.Redis.FlushAll()
		time.Sleep(5 * time.Second)
		bob.say(raw.RTMsg(anns, 0, 3, []byte("hi")))
		ann.gets(handleOf(t, f, "bob"), bob.client, 3, "hi")
		bob.quiet()
	})
}

func TestSession_OfADialectSaysSoInItsRecord(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
		st := f.Nodes[0].Store
		enter(t, f, "lobby", "ann")
		info, err := st.Info(t.Context(), "lobby")
		if err != nil || len(info.Members) != 1 {
			t.Fatal(info, err)
		}
		rec, rooms, err := st.Peek(t.Context(), info.Members[0].Session)
		if err != nil || rec.Dialect != store.DialectChatd || rec.HasDevice() || len(rooms) != 1 {
			t.Errorf("the record is %+v in %v, %v", rec, rooms, err)
		}
	})
}

func TestChatd_TheSystemIsNobody(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
		bob := enter(t, f, "lobby", "bob")
		if _, err := f.Nodes[0].Store.Say(t.Context(), "lobby", "", store.Draft{Data: []byte(`"hear"`)}); err != nil {
			t.Fatal(err)
		}
		bob.gets(raw.Nobody, 0, 0, `"hear"`)
	})
}
