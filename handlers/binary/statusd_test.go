package binary

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"godwit/e2e/raw"
	"godwit/handlers/socket"
	"godwit/rules/handle"
	"godwit/server/auth"
	"godwit/wire"
	"godwit/wire/statusd"
)

// watched is one statusd connection, from both ends. Nobody has logged in on it.
func watched(t *testing.T, d doorman) (*socket.Conn, *raw.Binary) {
	t.Helper()
	sockets := socket.New(socket.Config{HelloTimeout: time.Minute, Ping: time.Minute, MaxFrame: 1 << 16, Outbox: 1 << 16}, d, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { _ = sockets.Run(ctx) })
	conns := make(chan *socket.Conn, 1)
	srv := httptest.NewServer(sockets.Way(socket.Way{Protocol: statusd.Protocol, Binary: true, Enter: func(http.ResponseWriter, *http.Request) func(*socket.Conn) socket.Dialect {
		return func(c *socket.Conn) socket.Dialect {
			conns <- c
			return newStatus(c, d, auth.Claims{})
		}
	}}))
	p, err := raw.DialStatusd("ws"+strings.TrimPrefix(srv.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Drop()
		cancel()
		run.Wait()
		srv.Close()
	})
	return <-conns, p
}

func pres(user string, presence byte) string {
	h := handle.First(user).Handle()
	if user == "" {
		h = handle.Handle{}
	}
	return string(append(append([]byte{0x10}, h[:]...), presence))
}

func hear(t *testing.T, p *raw.Binary, want ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var got []string
	for range want {
		b, err := p.Next(ctx)
		if err != nil {
			t.Fatalf("after %x: %v", got, err)
		}
		got = append(got, string(b))
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Fatalf("heard %x, want %x", got, want)
	}
}

func TestPresence_OfAUserIsToldOnceItsHandleIsKnownAndInOrder(t *testing.T) {
	asked := make(chan []string)
	answers := make(chan error)
	c, p := watched(t, doorman{handles: func(ctx context.Context, users []string) ([]handle.Handle, error) {
		select {
		case asked <- slices.Sorted(slices.Values(users)):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		var out []handle.Handle
		for _, u := range users {
			out = append(out, handle.First(u).Handle())
		}
		return out, <-answers
	}})
	say := func(user string, presence uint8, live bool) {
		c.Presence(&wire.Presence{User: user, Self: user == "", Presence: presence}, live)
	}
	say("ann", 3, true)
	if got := <-asked; !slices.Equal(got, []string{"ann"}) {
		t.Fatalf("asked for %v", got)
	}
	say("ann", 2, true)
	say("bob", 1, false)
	say("", 7, true) // the own user waits for nobody
	hear(t, p, pres("", 7))
	answers <- errors.New("the store is away")
	if got := <-asked; !slices.Equal(got, []string{"ann", "bob"}) {
		t.Fatalf("asked for %v after a failure", got)
	}
	say("ann", 4, true)
	answers <- nil
	hear(t, p, pres("ann", 4), pres("bob", 1)) // the last word of each
	say("bob", 0, true)
	hear(t, p, pres("bob", 0)) // its handle is known
	say("cy", 5, true)
	if got := <-asked; !slices.Equal(got, []string{"cy"}) {
		t.Fatalf("asked for %v", got)
	}
	answers <- nil
	hear(t, p, pres("cy", 5))
	say("dan", 1, true) // whose handle nobody tells before the end
}

func TestStatusd_KeepsHandlesOfThoseAloneWhoAreThere(t *testing.T) {
	s := newStatus(nil, nil, auth.Claims{})
	for _, user := range []string{"bob", "cy"} {
		s.handles[user] = handle.First(user).Handle()
	}
	if b := s.Presence(&wire.Presence{User: "bob"}); !slices.Equal(b, statusd.Pres{User: handle.First("bob").Handle()}.Append(nil)) {
		t.Errorf("bob is offline: %x", b)
	}
	s.Presence(&wire.Presence{User: "cy", Presence: 1})
	if _, kept := s.handles["cy"]; len(s.handles) != 1 || !kept {
		t.Errorf("handles of %v are kept, want cy's", s.handles)
	}
}
