package socket_test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"godwit/e2e/raw"
	"godwit/internal/trial"
	"godwit/wire"
)

// tap is a connection that remembers when pings came. A server that says
// nothing else writes each alone.
type tap struct {
	net.Conn

	mu    sync.Mutex
	began time.Time       // guarded by mu: set once there is a session
	pings []time.Duration // guarded by mu
}

func (c *tap) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if string(p[:n]) == "\x89\x00" {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.pings = append(c.pings, time.Since(c.began))
	}
	return n, err
}

// seconds are the pings so far, rounded to what the wheel may be late by.
func (c *tap) seconds() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	var s []int
	for _, p := range c.pings {
		s = append(s, int(p.Round(time.Second)/time.Second))
	}
	return s
}

func tapped(t *testing.T, f *trial.Fleet) (*raw.Conn, *tap) {
	t.Helper()
	conn, err := f.Dial(t.Context(), "tcp", "n1:80")
	if err != nil {
		t.Fatal(err)
	}
	line := &tap{Conn: conn}
	c, err := raw.Over(line, f.Nodes[0].URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Drop)
	if err := c.Call(t.Context(), "hello", wire.Hello{Token: "dev:ann"}, nil); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	line.mu.Lock()
	defer line.mu.Unlock()
	line.began = time.Now()
	return c, line
}

// quick makes the time between pings short: a bubble with a store in it costs
// some milliseconds for each virtual second.
func quick(s *trial.Settings) { s.Socket.HelloTimeout, s.Socket.Ping = 2*time.Second, 4*time.Second }

func TestPing_ComesTwiceBeforeASilentSocketIsClosed(t *testing.T) {
	bubble(t, quick, func(t *testing.T, f *trial.Fleet) {
		c, line := tapped(t, f)
		c.Mute()
		endsAt(t, c, line.began, 12*time.Second, wire.CloseSilent)
		if got, want := line.seconds(), []int{4, 8}; !slices.Equal(got, want) {
			t.Errorf("pings after %v s, want %v", got, want)
		}
	})
}

func TestPing_WhoIsHeardInTimeIsAskedAsIfForTheFirstTime(t *testing.T) {
	for name, say := range map[string]func(*raw.Conn) error{
		"pong":    func(c *raw.Conn) error { return c.Frame(0xA, nil) },
		"ping":    func(c *raw.Conn) error { return c.Frame(0x9, []byte("x")) },
		"request": func(c *raw.Conn) error { return c.Text(`{"jsonrpc":"2.0","method":"room.info"}`) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, quick, func(t *testing.T, f *trial.Fleet) {
				c, line := tapped(t, f)
				c.Mute()
				time.Sleep(10 * time.Second)
				if err := say(c); err != nil {
					t.Fatal(err)
				}
				endsAt(t, c, line.began, 22*time.Second, wire.CloseSilent)
				if got, want := line.seconds(), []int{4, 8, 14, 18}; !slices.Equal(got, want) {
					t.Errorf("pings after %v s, want %v", got, want)
				}
			})
		})
	}
}

// batch sends one batch, and returns every frame that came for it.
func batch(t *testing.T, c *raw.Conn, members ...string) string {
	t.Helper()
	if _, err := c.NextText(t.Context()); err != nil { // hello's answer
		t.Fatal(err)
	}
	if err := c.Text("[" + strings.Join(members, ",") + "]"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(5 * time.Second) // virtual: all that it causes has come
	return c.Rest()
}

func TestBatch_IsAnsweredInOneArrayInItsOrder(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
		c := hello(t, f, "ann")
		var members, want []string
		add := func(id, rest string) {
			members = append(members, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,%s}`, id, rest))
			want = append(want, `"id":`+id)
		}
		for _, room := range []string{"a", "b", "c"} {
			add(`"join `+room+`"`, `"method":"room.join","params":{"room":"`+room+`"}`)
		}
		for i := range 12 { // answered by the store, three rooms at a time
			add(fmt.Sprint(100-i), `"method":"room.send","params":{"room":"`+string("abc"[i%3])+`","data":1}`)
		}
		members = append(members, `{"jsonrpc":"2.0","method":"room.send","params":{"room":"a","data":"no answer"}}`)
		add("null", `"method":"nope"`)
		members = append(members, `5`)
		want = append(want, `"id":null`)
		add("1", `"method":"hello","params":{"token":"dev:eve"}`)
		got := batch(t, c, members...)
		if !strings.HasPrefix(got, "[") || strings.Count(got, "\n") != 0 || strings.Count(got, `"jsonrpc"`) != len(want) {
			t.Fatalf("got %s, want one array of %d answers", got, len(want))
		}
		at := 0
		for i, id := range want {
			next := strings.Index(got[at:], id)
			if next < 0 {
				t.Fatalf("answer %d, %s, is not after those before it: %s", i, id, got)
			}
			at += next + len(id)
		}
	})
}

func TestBatch_WhatAnAnswerCausesComesAfterTheWholeArray(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
		c := hello(t, f, "ann")
		got := batch(t, c, `{"jsonrpc":"2.0","id":7,"method":"bye"}`, `{"jsonrpc":"2.0","id":8,"method":"room.info","params":{"room":"r"}}`)
		if !strings.HasPrefix(got, `[{"jsonrpc":"2.0","id":7,"result":{}},{"jsonrpc":"2.0","id":8,"error":`) {
			t.Errorf("got %s, want both answers before the close", got)
		}
		if end, err := c.End(t.Context()); err != nil || end.Code != wire.CloseBye {
			t.Errorf("then %v, %v, want close %d", end, err, wire.CloseBye)
		}
	})
}
