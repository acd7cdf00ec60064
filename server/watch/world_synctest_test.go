package watch

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"

	"godwit/internal/pipe"
	"godwit/store"
)

const (
	ttl   = 10 * time.Second
	grace = 30 * time.Second
)

// world is a Redis in virtual time and a store on it.
type world struct {
	*testing.T
	redis *miniredis.Miniredis
	store *store.Store
}

// bubble runs a test in a world of its own.
func bubble(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, redis: miniredis.NewMiniRedis()}
		first, err := w.redis.Dial() // starts it without a listener
		if err != nil {
			t.Fatal(err)
		}
		first.Close()
		stop := make(chan struct{})
		var tick sync.WaitGroup
		tick.Go(func() { store.Tick(w.redis, stop) })
		w.store, err = store.Open(store.Config{
			Grace: grace, Lease: ttl, Logger: slog.New(slog.DiscardHandler),
			Dial: func(context.Context, string, string) (net.Conn, error) {
				ours, theirs := pipe.New()
				w.redis.Server().ServeConn(theirs)
				return ours, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			w.store.Close()
			close(stop)
			tick.Wait()
			w.redis.Close()
			// The Redis client's pool, after many failures, tries a dial each
			// second and looks only then whether it was closed.
			time.Sleep(2 * time.Second)
		})
		w.run(w.store.Run)
		test(t, w)
	})
}

// run runs a duty until the test ends.
func (w *world) run(duty func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = duty(ctx) })
	w.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

// away takes the store away, and gives it back.
func (w *world) away(gone bool) {
	if gone {
		w.redis.SetError("LOADING not now")
	} else {
		w.redis.SetError("")
	}
}

// begin makes a session in the room "lobby", attached to owner.
func (w *world) begin(owner store.Ref, client uint32, sid string) store.Member {
	w.Helper()
	ctx := w.Context()
	m := store.Member{User: sid, Client: client, Session: sid, Gen: 1}
	err := w.store.Create(ctx, store.Session{ID: sid, User: sid, Client: client, Gen: 1, Owner: owner, Expires: time.Now().Add(time.Hour)}, nil)
	if err == nil {
		err = w.store.Enter(ctx, m, "lobby", 9)
	}
	if err == nil {
		_, err = w.store.Join(ctx, "lobby", m, store.Known{})
	}
	if err != nil {
		w.Fatal(err)
	}
	return m
}

// state is a session's state; "" when it is gone.
func (w *world) state(sid string) string {
	w.Helper()
	r, _, err := w.store.Peek(w.Context(), sid)
	if err != nil && !errors.Is(err, store.ErrGone) {
		w.Fatal(err)
	}
	return r.State
}

// leaves counts the leave entries of each user in the lobby.
func (w *world) leaves() map[string]int {
	w.Helper()
	page, err := w.store.Read(w.Context(), "lobby", 1, 10_000, 10_000)
	if err != nil {
		w.Fatal(err)
	}
	n := map[string]int{}
	for _, e := range page.Entries {
		if e.Kind == "leave" {
			n[e.User]++
		}
	}
	return n
}

// fine is a duty's step that succeeds.
func fine(context.Context) error { return nil }

var discard = slog.New(slog.DiscardHandler)
