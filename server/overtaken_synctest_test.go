package server_test

import (
	"bytes"
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"

	"godwit/internal/trial"
	"godwit/wire"
)

// muffled is a connection to the store on which what holds a word waits.
type muffled struct {
	net.Conn
	word string
	may  <-chan struct{}
}

func (m muffled) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(m.word)) {
		<-m.may
	}
	return m.Conn.Write(b)
}

// While a node is busy with a join, the session may have gone on elsewhere.
func TestJoin_ThatWasOvertakenChangesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		word  string // what n1 says late
		again bool   // the client joins where it has gone
	}{
		"the join itself, and the client has joined again": {"{r:lobby}:gone:", true},
		"the node does not hear the room yet":              {"{r:lobby}:ev\r\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			var may chan struct{}
			slow := func(s *trial.Settings, node string) {
				if node != "n1" {
					return
				}
				may = make(chan struct{})
				dial := s.Store.Dial
				s.Store.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
					conn, err := dial(ctx, network, addr)
					return muffled{conn, c.word, may}, err
				}
			}
			trio(t, slow, func(t *testing.T, f *trial.Fleet) {
				let := sync.OnceFunc(func() { close(may) })
				defer let()
				bob := enter(t, f, 2, "bob")
				bob.join("lobby")
				ann := follower(t, f, 1, "ann")
				old, late := ann.Conn, make(chan error, 1)
				go func() { late <- old.Call(t.Context(), "room.join", wire.Join{Room: "lobby"}, nil) }()
				synctest.Wait()
				ann.resume(f, 2, wire.Position{})
				want := 0
				if c.again {
					ann.join("lobby")
					want = 1
				}
				let()
				<-late
				synctest.Wait()

				var info wire.RoomInfo
				if err := bob.Call(t.Context(), "room.info", wire.Info{Room: "lobby"}, &info); err != nil || len(info.Members) != 1+want {
					t.Errorf("the room has %+v, %v; want bob, and ann %d times", info.Members, err, want)
				}
				var s wire.Session
				if err := dial(t, f, 3).Call(t.Context(), "resume", wire.Resume{Session: ann.session.Session, Secret: ann.session.Secret}, &s); err != nil {
					t.Fatal(err)
				}
				if len(s.Rooms) != want {
					t.Errorf("resumed in %+v, want %d rooms", s.Rooms, want)
				}
			})
		})
	}
}
