package store

import (
	"errors"
	"net"
	"testing"
	"time"

	"godwit/internal/redistest"
)

// Only a message waits for the replicas: without them nodes live, sessions
// log in, and members come and go.
func TestWait_TooFewReplicasRefuseMessagesAndNothingElse(t *testing.T) {
	server := redistest.Start(t)
	s := open(t, Config{URL: server.URL(), Wait: 1, Timeout: 4 * time.Second})
	ctx, ann := t.Context(), member(1, "ann")
	if err := s.Renew(ctx, Node{Ref: Ref{Node: "n1", Boot: "b1"}, State: NodeReady}); err != nil {
		t.Errorf("the lease, without a replica: %v", err)
	}
	join(t, s, "lobby", ann)
	draft := Draft{CSeq: 1, Data: []byte("1")}
	if got, err := send(s, "lobby", ann, Known{}, draft); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a send, without a replica: %+v, %v, want unavailable", got, err)
	}
	if got, err := s.Say(ctx, "lobby", "", draft); !errors.Is(err, ErrUnavailable) {
		t.Errorf("what the system says, without a replica: %+v, %v, want unavailable", got, err)
	}

	replica := redistest.Start(t)
	host, port, err := net.SplitHostPort(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	master := server.Client()
	for _, do := range []error{
		master.ConfigSet(ctx, "repl-diskless-sync-delay", "0").Err(),
		replica.Client().Do(ctx, "REPLICAOF", host, port).Err(),
		master.Wait(ctx, 1, time.Minute).Err(),
	} {
		if do != nil {
			t.Fatal(do)
		}
	}
	got, err := send(s, "lobby", ann, Known{}, draft)
	if err != nil || !got.Dup || got.Seq != 2 {
		t.Errorf("the send again, with a replica: %+v, %v, want the first one's seq", got, err)
	}
	if got, err = send(s, "lobby", ann, Known{}, Draft{CSeq: 2, Data: []byte("2")}); err != nil || got.Dup {
		t.Errorf("the next send: %+v, %v", got, err)
	}
}
