package server_test

import (
	"bytes"
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"godwit/e2e/fault"
	"godwit/internal/trial"
	"godwit/wire"
)

// ears are a node's connections on which it hears; what comes there may be late.
type ears struct {
	mu   sync.Mutex
	shut chan struct{} // guarded by mu; nil: open
}

// stop keeps what comes from the node, until the func that it returns.
func (e *ears) stop() (hear func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	shut := make(chan struct{})
	e.shut = shut
	return sync.OnceFunc(func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.shut = nil
		close(shut)
	})
}

func (e *ears) dial(dial func(ctx context.Context, network, addr string) (net.Conn, error)) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &ear{Conn: c, ears: e}, nil
	}
}

type ear struct {
	net.Conn
	ears    *ears
	follows atomic.Bool
}

func (c *ear) Write(b []byte) (int, error) {
	if bytes.Contains(bytes.ToLower(b), []byte("\nsubscribe\r\n")) {
		c.follows.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *ear) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.follows.Load() {
		c.ears.mu.Lock()
		shut := c.ears.shut
		c.ears.mu.Unlock()
		if shut != nil {
			<-shut
		}
	}
	return n, err
}

// Whoever goes on at a node has seen what another one told it: it does not take for
// offline, or for gone, whom the node has not heard of yet.
func TestPresence_OfANodeThatHearsLateIsNotOlderThanWhatWasTold(t *testing.T) {
	for name, first := range map[string]bool{"the first of its room there": true, "not the first": false} {
		t.Run(name, func(t *testing.T) {
			var points fault.Points
			var late ears
			slow := func(s *trial.Settings, node string) {
				if node == "n2" {
					s.Store.Dial = points.Dial(late.dial(s.Store.Dial))
				}
			}
			trio(t, slow, func(t *testing.T, f *trial.Fleet) {
				bob, dan := look(t, f, 1, "bob", online), look(t, f, 1, "dan", online)
				bob.join("lobby")
				dan.join("lobby")
				want := "cy 3"
				told := []string{"dan 3"}
				if !first {
					look(t, f, 2, "eve", online).join("lobby")
					want, told = "cy 3, eve 3", append(told, "eve 3")
				}
				bob.is("who comes", told...)
				at := points.At(fault.Step{Does: fault.On("{s:" + bob.session.Session + "}:session")})
				defer at.Release()
				answered := make(chan error, 1)
				again := &onlooker{person: &person{t: t, Conn: dial(t, f, 2)}, pv: map[string]uint64{}}
				go func() {
					answered <- again.Call(t.Context(), "resume", wire.Resume{Session: bob.session.Session, Secret: bob.session.Secret}, &again.session)
				}()
				<-at.Reached() // the node hears the room
				hear := late.stop()
				defer hear()
				look(t, f, 3, "cy", online).join("lobby")
				dan.leave("lobby")
				synctest.Wait()
				at.Release()
				time.Sleep(300 * time.Millisecond)
				hear()
				if err := <-answered; err != nil {
					t.Fatal(err)
				}
				if got := again.dump(); got != want {
					t.Errorf("bob is told of %q, want %q", got, want)
				}
				again.is("and nothing follows")
				bob.is("at its first node", "cy 3")
			})
		})
	}
}
