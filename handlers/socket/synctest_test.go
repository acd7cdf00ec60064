package socket_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"godwit/e2e/raw"
	"godwit/internal/pipe"
	"godwit/internal/trial"
	"godwit/wire"
)

// bubble runs a test with one node in virtual time.
func bubble(t *testing.T, change func(*trial.Settings), test func(t *testing.T, f *trial.Fleet)) {
	synctest.Test(t, func(t *testing.T) {
		f := trial.Start(trial.Options{Bubble: true, Change: change})
		defer f.Close()
		test(t, f)
	})
}

func dialNode(t *testing.T, f *trial.Fleet) *raw.Conn {
	t.Helper()
	conn, err := f.Dial(t.Context(), "tcp", "n1:80")
	if err != nil {
		t.Fatal(err)
	}
	c, err := raw.Over(conn, f.Nodes[0].URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Drop)
	return c
}

func hello(t *testing.T, f *trial.Fleet, user string) *raw.Conn {
	t.Helper()
	c := dialNode(t, f)
	if err := c.Call(t.Context(), "hello", wire.Hello{Token: "dev:" + user}, nil); err != nil {
		t.Fatal(err)
	}
	return c
}

// endsAt expects the close code at a time, give or take what the wheel takes.
func endsAt(t *testing.T, c *raw.Conn, began time.Time, want time.Duration, code wire.CloseCode) {
	t.Helper()
	end, err := c.End(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	if end.Code != code || took < want || took > want+time.Second {
		t.Errorf("%v after %s, want close %s after %s", end, took, code, want)
	}
}

func TestTime_WhoSaysNothingIsClosed4408(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
		began := time.Now()
		endsAt(t, dialNode(t, f), began, 10*time.Second, wire.CloseNoHello)
	})
}

func TestTime_AByteASecondIsNoHello(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
		began := time.Now()
		c := dialNode(t, f)
		trickle(t, c)
		endsAt(t, c, began, 10*time.Second, wire.CloseNoHello)
	})
}

// trickle sends a frame of 100 bytes, one byte a second, until the socket ends.
func trickle(t *testing.T, c *raw.Conn) {
	frame := append([]byte{0x81, 0x80 | 100, 0, 0, 0, 0}, strings.Repeat(" ", 100)...)
	var sending sync.WaitGroup
	sending.Go(func() {
		for i := range frame {
			if _, err := c.Net.Write(frame[i : i+1]); err != nil {
				return
			}
			time.Sleep(time.Second)
		}
	})
	t.Cleanup(sending.Wait)
}

func TestTime_ASilentSocketIsPingedTwiceAndClosed4201(t *testing.T) {
	for name, disturb := range map[string]func(*testing.T, *raw.Conn){
		"silent": func(*testing.T, *raw.Conn) {}, "a byte a second": trickle,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
				c := hello(t, f, "ann")
				began := time.Now()
				c.Mute()
				disturb(t, c)
				endsAt(t, c, began, 60*time.Second, wire.CloseSilent)
			})
		})
	}
}

func TestTime_WhoAnswersPingsStays(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
		c := hello(t, f, "ann")
		time.Sleep(3 * time.Minute)
		if end := c.Closed(); end != nil {
			t.Errorf("%v", end)
		}
	})
}

func TestPing_IsAnsweredWithItsPayload(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
		c := hello(t, f, "ann")
		want := []byte("any 125 bytes at most")
		if err := c.Frame(0x9, want); err != nil {
			t.Fatal(err)
		}
		got, err := c.Pong(t.Context())
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("pong %q, %v, want %q", got, err, want)
		}
	})
}

func TestTime_ASocketThatTakesNoByteFor10sIsGivenUp(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
		ann, stuck := hello(t, f, "ann"), hello(t, f, "stuck")
		for _, c := range []*raw.Conn{stuck, ann} {
			if err := c.Call(t.Context(), "room.join", wire.Join{Room: "lobby"}, nil); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		stuck.Halt()
		began := time.Now()
		data := wire.Raw(`"` + strings.Repeat("x", 30000) + `"`)
		for i := range 12 { // more than the pipe holds, less than the outbox adds
			if err := ann.Call(t.Context(), "room.send", wire.Send{Room: "lobby", Data: data}, nil); err != nil {
				t.Fatalf("send %d: %v", i, err)
			}
			synctest.Wait() // on a busy machine the writer may come late, and all of it wait
		}
		stats := &f.Nodes[0].Sockets.Stats
		for stats.EvictedStuck.Load() == 0 && time.Since(began) < time.Minute {
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(began); took < 10*time.Second || took > 12*time.Second || stats.EvictedSlow.Load() != 0 {
			t.Errorf("given up after %s (%d evicted as slow), want 10s and none", took, stats.EvictedSlow.Load())
		}
		if ann.Closed() != nil {
			t.Errorf("its neighbour: %v", ann.Closed())
		}
	})
}

func TestTime_TheGraceEndsOnceAndNotBefore(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
		bob, ann := hello(t, f, "bob"), hello(t, f, "ann")
		for _, c := range []*raw.Conn{bob, ann} {
			if err := c.Call(t.Context(), "room.join", wire.Join{Room: "lobby"}, nil); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := bob.NextBut(t.Context(), "presence"); err != nil { // ann's join
			t.Fatal(err)
		}
		ann.Drop()
		began := time.Now()
		n, err := bob.NextBut(t.Context(), "presence")
		if err != nil || n.Event == nil || n.Event.Kind != wire.KindLeave || n.Event.Reason != wire.LeftLost {
			t.Fatalf("bob got %+v, %v, want ann's leave (lost)", n, err)
		}
		// A sweep may wait for the next round.
		if took := time.Since(began); took < 30*time.Second || took > 33*time.Second {
			t.Errorf("the leave came after %s, want the grace of 30s", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if n, err := bob.NextBut(ctx, "presence"); err == nil {
			t.Errorf("and then %+v", n)
		}
	})
}

func TestTime_ARateThatIsLimitedIsWelcomeAgainWhenItSays(t *testing.T) {
	change := func(s *trial.Settings) { s.Server.Rate, s.Server.Burst = 2, 3 }
	bubble(t, change, func(t *testing.T, f *trial.Fleet) {
		c := hello(t, f, "ann")
		ask := func() error { return c.Call(t.Context(), "room.info", wire.Info{Room: "x"}, nil) }
		for i := range 3 {
			if e, ok := ask().(*wire.Error); !ok || e.Reason() != wire.NotMember {
				t.Fatalf("request %d of the burst: %v", i, e)
			}
		}
		e, ok := ask().(*wire.Error)
		if !ok || e.Reason() != wire.RateLimited || e.Data.RetryAfterMS < 1 || e.Data.RetryAfterMS > 500 {
			t.Fatalf("past the burst: %v", fmt.Sprintf("%+v", e))
		}
		time.Sleep(time.Duration(e.Data.RetryAfterMS) * time.Millisecond)
		if e, ok := ask().(*wire.Error); !ok || e.Reason() != wire.NotMember {
			t.Errorf("after the time it named: %v", e)
		}
	})
}

// A peer that ends its way out has not ended its session.
func TestSocket_AHalfClosedOneIsNotToldThatItsSessionEnded(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
		c := hello(t, f, "ann")
		if err := c.Net.(*pipe.Conn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		endsAt(t, c, time.Now(), 0, wire.CloseGoingAway)
	})
}
