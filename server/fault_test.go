package server

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"godwit/internal/redistest"
	"godwit/wire"
)

// admin is a Redis to break, and a connection to break it with.
func admin(t *testing.T) (*redis.Client, string) {
	t.Helper()
	r := redistest.Start(t)
	return r.Client(), r.URL()
}

func TestNode_WipeResetsRoomsWithoutAReconnect(t *testing.T) {
	rdb, url := admin(t)
	a, b := startNode(t, "a", url), startNode(t, "b", url)
	ann, bob := hello(t, a, "ann"), hello(t, b, "bob")
	for _, c := range []*client{ann, bob} {
		must[wire.Joined](c, "room.join", map[string]any{"room": "wipe"})
	}
	for i := range 5 {
		must[wire.Sent](ann, "room.send", map[string]any{"room": "wipe", "data": i, "cseq": i + 1})
	}
	bob.sock.until(t, "bob sees ann", func() bool { return len(bob.sock.events) == 5 })
	if err := rdb.FlushAll(context.Background()).Err(); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); ; { // the first ones may not wait for the room as long as a busy machine takes to rebuild it
		got := ann.call("room.send", map[string]any{"room": "wipe", "data": "after"})
		if got.Err == nil {
			break
		}
		if got.Err.Reason() != wire.Unavailable || time.Since(began) > 10*time.Second {
			t.Fatalf("send after the wipe: %v", got.Err)
		}
	}
	for _, c := range []*client{ann, bob} {
		c.sock.until(t, "reset", func() bool { return len(c.sock.resets) > 0 })
		if c.sock.closed != 0 {
			t.Fatalf("closed %d", c.sock.closed)
		}
	}
	must[wire.Sent](bob, "room.send", map[string]any{"room": "wipe", "data": "bob", "cseq": 1})
	ann.sock.until(t, "ann sees bob", func() bool {
		return string(ann.sock.events[len(ann.sock.events)-1].Data) == `"bob"`
	})
	info := must[wire.RoomInfo](bob, "room.info", map[string]any{"room": "wipe"})
	if len(info.Members) != 2 {
		t.Fatalf("members after the wipe: %+v", info.Members)
	}
}

func TestNode_QuietWipeIsNoticed(t *testing.T) {
	rdb, url := admin(t)
	a := startNode(t, "a", url)
	ann := hello(t, a, "ann")
	must[wire.Joined](ann, "room.join", map[string]any{"room": "quiet"})
	rdb.FlushAll(context.Background())
	ann.sock.until(t, "reset", func() bool { return len(ann.sock.resets) > 0 })
	must[wire.Joined](ann, "room.join", map[string]any{"room": "quiet2"})
}

func TestNode_KilledSubscriptionLosesNothing(t *testing.T) {
	rdb, url := admin(t)
	a, b := startNode(t, "a", url), startNode(t, "b", url)
	ann, bob := hello(t, a, "ann"), hello(t, b, "bob")
	for _, c := range []*client{bob, ann} {
		must[wire.Joined](c, "room.join", map[string]any{"room": "kill"})
	}
	const n = 2000
	for i := range n {
		if i%200 == 100 {
			rdb.Do(context.Background(), "CLIENT", "KILL", "TYPE", "pubsub")
		}
		must[wire.Sent](ann, "room.send", map[string]any{"room": "kill", "data": i})
	}
	bob.sock.until(t, "bob has all", func() bool { return len(bob.sock.events) >= n+1 })
	for i, e := range bob.sock.events {
		if e.Seq != uint64(i+2) {
			t.Fatalf("event %d has seq %d", i, e.Seq)
		}
	}
}
