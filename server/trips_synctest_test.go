package server_test

import (
	"context"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"godwit/internal/trial"
	"godwit/wire"
)

// far is how long an answer of the store is on its way here.
const far = 10 * time.Millisecond

// distant is a connection to a store that is far away.
type distant struct{ net.Conn }

func (d distant) Read(p []byte) (int, error) {
	n, err := d.Conn.Read(p)
	time.Sleep(far)
	return n, err
}

// trips is how many answers of the store something has waited for, one after the
// other: in virtual time nothing else takes any.
func trips(t *testing.T, what func() error) int {
	t.Helper()
	began := time.Now()
	if err := what(); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	if took%far != 0 {
		t.Errorf("it took %s, which is no number of round trips", took)
	}
	return int(took / far)
}

func TestRoundTrips_EveryRequestWaitsForAsFewAsItCan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := trial.Start(trial.Options{Nodes: 2, Bubble: true, Change: func(s *trial.Settings) {
			dial := s.Store.Dial
			s.Store.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := dial(ctx, network, addr)
				return distant{c}, err
			}
		}})
		defer f.Close()
		time.Sleep(3 * time.Second)
		first := enter(t, f, 1, "first") // the scripts are known from here on
		first.join("lobby")
		if err := first.say("1", 1); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		time.Sleep(time.Second)

		hello, known, fresh, send, resume := 100, 100, 100, 100, 100
		fewest := func(of *int, what func() error) { *of = min(*of, trips(t, what)) }
		for i := range 5 { // one of them shares the way with nothing that a node does by itself
			room := fmt.Sprintf("room %d", i)
			p := &person{t: t, Conn: dial(t, f, 1)}
			fewest(&hello, func() error {
				return p.Call(t.Context(), "hello", wire.Hello{Token: fmt.Sprintf("dev:ann%d", i)}, &p.session)
			})
			fewest(&known, func() error { return p.Call(t.Context(), "room.join", wire.Join{Room: "lobby"}, nil) })
			fewest(&fresh, func() error { return p.Call(t.Context(), "room.join", wire.Join{Room: room}, nil) })
			fewest(&send, func() error { return p.say("hi", 1) })
			p.Drop()
			time.Sleep(time.Second)
			back := &person{t: t, Conn: dial(t, f, 1)}
			fewest(&resume, func() error {
				return back.Call(t.Context(), "resume", wire.Resume{Session: p.session.Session, Secret: p.session.Secret}, nil)
			})
		}
		if hello != 2 || known != 1 || fresh != 2 || send != 1 || resume > 8 {
			t.Errorf("hello %d, join %d, of a room new to the node %d, send %d, resume %d; want 2, 1, 2, 1 and 5, or some more where answers come in pieces", hello, known, fresh, send, resume)
		}
	})
}
