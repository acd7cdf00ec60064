package socket_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

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

func TestTime_ATokenThatEndsTheSessionSoonerIsHeldToIt(t *testing.T) {
	secret := []byte("a secret of the nodes")
	known := func(s *trial.Settings) { s.Auth.Secret = secret }
	token := func(life time.Duration) string {
		claims := jwt.MapClaims{"sub": "ann", "exp": time.Now().Add(life).Unix()}
		s, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(secret)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	bubble(t, known, func(t *testing.T, f *trial.Fleet) {
		c := dialNode(t, f)
		if err := c.Call(t.Context(), "hello", wire.Hello{Token: token(time.Hour)}, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // when the end of the first is known
		synctest.Wait()
		began := time.Now()
		if err := c.Call(t.Context(), "hello.refresh", wire.Refresh{Token: token(5 * time.Second)}, nil); err != nil {
			t.Fatal(err)
		}
		endsAt(t, c, began, 5*time.Second, wire.CloseTokenExpired)
	})
}
