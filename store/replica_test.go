package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"godwit/internal/redistest"
)

// Only a message waits for the replicas: without them nodes live, sessions
// log in, and members come and go.
func TestWait_TooFewReplicasRefuseMessagesAndNothingElse(t *testing.T) {
	server := redistest.Start(t)
	var log locked
	s := open(t, Config{URL: server.URL(), Wait: 1, Timeout: 4 * time.Second, Logger: slog.New(slog.NewTextHandler(&log, nil))})
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
	if n := strings.Count(log.String(), "too few replicas"); n != 1 || !strings.Contains(log.String(), "have=0 want=1") {
		t.Errorf("it was said %d times in the log that there is no replica, want once:\n%s", n, log.String())
	}
	crowded(t, server.URL())

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
	// A WAIT is for what its connection wrote last. A repeat that wrote nothing would be
	// answered, by another connection, without a replica that has the message.
	written := func() int {
		n, err := strconv.Atoi(infoField(master.Info(ctx, "persistence").Val(), "rdb_changes_since_last_save"))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := written()
	got, err := send(s, "lobby", ann, Known{}, draft)
	if after := written(); after == before {
		t.Error("a repeat wrote nothing for the replicas to have")
	}
	if err != nil || !got.Dup || got.Seq != 2 {
		t.Errorf("the send again, with a replica: %+v, %v, want the first one's seq", got, err)
	}
	if got, err = send(s, "lobby", ann, Known{}, Draft{CSeq: 2, Data: []byte("2")}); err != nil || got.Dup {
		t.Errorf("the next send: %+v, %v", got, err)
	}
}

// locked is a log that many write.
type locked struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// crowded has many messages refused at once, by a server that has no script yet, and
// everything else go on.
func crowded(t *testing.T, url string) {
	t.Helper()
	s := open(t, Config{URL: url, Wait: 1, Timeout: 10 * time.Second})
	if err := s.direct.ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	enters, err := s.joinCall("lobby", member(30, "zoe"), Known{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	says := s.roomCall(sendScript, "lobby", Known{}, 1, 1, 0, "{}", "1", "")
	within, cancel := context.WithTimeout(t.Context(), s.cfg.Timeout)
	defer cancel()
	cmds, err := s.pipeline(within, s.direct, []call{says, enters}) // as a lane sends it
	if err != nil {
		t.Fatal(err)
	}
	if err := cmds[0].Err(); err == nil || noScript(err) {
		t.Errorf("a send: %v, want too few replicas", err)
	}
	if err := cmds[1].Err(); err != nil {
		t.Errorf("a join in the same pipeline: %v", err)
	}
	var all sync.WaitGroup
	for i := range uint32(20) {
		room, m := fmt.Sprintf("room %d", i%10), member(i+1, fmt.Sprintf("user %d", i))
		all.Go(func() {
			if _, err := s.Join(t.Context(), room, m, Known{}); err != nil {
				t.Errorf("a join: %v", err)
			}
		})
		all.Go(func() {
			if got, err := s.Say(t.Context(), "lobby", "", Draft{}); !errors.Is(err, ErrUnavailable) {
				t.Errorf("what the system says: %+v, %v, want unavailable", got, err)
			}
		})
		all.Go(func() {
			if err := s.Renew(t.Context(), Node{Ref: Ref{Node: fmt.Sprint("n", i), Boot: "b"}, State: NodeReady}); err != nil {
				t.Errorf("a lease: %v", err)
			}
		})
	}
	all.Wait()
}
