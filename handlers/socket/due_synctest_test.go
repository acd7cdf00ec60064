package socket_test

import (
	"slices"
	"testing"
	"time"

	"godwit/internal/trial"
	"godwit/wire"
)

// What is due soon does not wait until a socket with a session would have been
// closed without one.
func TestPing_ShorterThanTheHelloTimeoutIsInTime(t *testing.T) {
	short := func(s *trial.Settings) { s.Socket.HelloTimeout, s.Socket.Ping = 10*time.Second, time.Second }
	bubble(t, short, func(t *testing.T, f *trial.Fleet) {
		c, line := tapped(t, f)
		c.Mute()
		endsAt(t, c, line.began, 3*time.Second, wire.CloseSilent)
		if got, want := line.seconds(), []int{1, 2}; !slices.Equal(got, want) {
			t.Errorf("pings after %v s, want %v", got, want)
		}
	})
}
