package store

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// An operator is told within a second, also when the lane has something under way
// that has its own time to wait for.
func TestSay_WaitsLessThanASecondForAStoreThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(Config{Dial: func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, far) }() // it hears, and says nothing; ended by the close of near
			return near, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer time.Sleep(5 * time.Second) // the pool, too, gives up
		defer s.Close()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		said := make(chan time.Duration, 3)
		for range cap(said) { // each behind the one before
			go func() {
				began := time.Now()
				_, err := s.Say(t.Context(), "lobby", "", Draft{Data: []byte("1")})
				if !errors.Is(err, ErrUnavailable) {
					t.Errorf("%v, want unavailable", err)
				}
				said <- time.Since(began)
			}()
			time.Sleep(100 * time.Millisecond)
		}
		for range cap(said) {
			if took := <-said; took > time.Second || took < 500*time.Millisecond {
				t.Errorf("answered after %s, want a second at most", took)
			}
		}
		cancel()
		<-done
	})
}
