package socket_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"godwit/e2e/fault"
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

var secret = []byte("a secret of the nodes")

// known has a node take tokens of that secret.
func known(s *trial.Settings) { s.Auth.Secret = secret }

func token(t *testing.T, life time.Duration) string {
	t.Helper()
	claims := jwt.MapClaims{"sub": "ann", "exp": time.Now().Add(life).Unix()}
	s, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(secret)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTime_ATokenThatEndsTheSessionSoonerIsHeldToIt(t *testing.T) {
	bubble(t, known, func(t *testing.T, f *trial.Fleet) {
		c := dialNode(t, f)
		if err := c.Call(t.Context(), "hello", wire.Hello{Token: token(t, time.Hour)}, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // when the end of the first is known
		synctest.Wait()
		began := time.Now()
		if err := c.Call(t.Context(), "hello.refresh", wire.Refresh{Token: token(t, 5*time.Second)}, nil); err != nil {
			t.Fatal(err)
		}
		endsAt(t, c, began, 5*time.Second, wire.CloseTokenExpired)
	})
}

// A new token that came in time is waited for, as long as the store takes.
func TestTime_ATokenThatIsTakenAsTheLastOneEndsGoesOn(t *testing.T) {
	points := new(fault.Points)
	slowly := func(s *trial.Settings) {
		known(s)
		s.Store.Dial = points.Dial(s.Store.Dial)
	}
	bubble(t, slowly, func(t *testing.T, f *trial.Fleet) {
		c := dialNode(t, f)
		var s wire.Session
		if err := c.Call(t.Context(), "hello", wire.Hello{Token: token(t, 5*time.Second)}, &s); err != nil {
			t.Fatal(err)
		}
		end := time.Unix(time.Now().Add(5*time.Second).Unix(), 0)
		time.Sleep(time.Until(end) - 100*time.Millisecond)
		at := points.At(fault.Step{Does: fault.On("{s:" + s.Session + "}:session")})
		answer := make(chan error, 1)
		next := token(t, time.Hour)
		go func() { answer <- c.Call(t.Context(), "hello.refresh", wire.Refresh{Token: next}, nil) }()
		<-at.Reached()
		time.Sleep(400 * time.Millisecond) // past the end
		at.Release()
		if err := <-answer; err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		if end := c.Closed(); end != nil {
			t.Errorf("closed: %v", end)
		}
	})
}
