package store

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A node waits for a store that is away for as long as it takes: that is one
// line in its log, not ten a second.
func TestSubscriber_AStoreThatStaysAwayIsSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s, err := Open(Config{
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
			Dial:   func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no route") },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer time.Sleep(2 * time.Second) // the pool, too, gives up
		defer s.Close()
		sub := s.NewSubscriber(Ref{"n", "b"}, &ear{heard: make(map[string][]uint64), wake: make(chan struct{}, 1)})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- sub.Run(ctx) }()
		time.Sleep(time.Minute)
		if got := sub.DeafFor(time.Now()); got != time.Minute || sub.Deaf(time.Now()) != got {
			t.Errorf("deaf for %s, since %s; want a minute", got, sub.Deaf(time.Now()))
		}
		if tries := sub.Stats.Lost.Load(); tries < 500 || tries > 601 {
			t.Errorf("%d connections lost, want ten a second", tries)
		}
		cancel()
		<-done
		if n := strings.Count(log.String(), "subscription lost"); n != 1 {
			t.Errorf("said %d times in a minute, want once:\n%s", n, log.String())
		}
	})
}
