package pipe

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestDeadline_AReadGivesUpAtItAndMayGoOnAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := New()
		defer a.Close()
		defer b.Close()
		began := time.Now()
		a.SetReadDeadline(began.Add(time.Minute))
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Minute {
			t.Fatalf("%v after %s, want a deadline after 1m0s", err, time.Since(began))
		}
		b.Write([]byte("x"))
		if n, err := a.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("past it: %d, %v, want a deadline though there is a byte", n, err)
		}
		a.SetReadDeadline(time.Time{})
		if n, err := a.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("without one: %d, %v, want the byte", n, err)
		}
	})
}

func TestDeadline_OneThatIsSetWakesWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := New()
		defer a.Close()
		defer b.Close()
		got := make(chan error, 1)
		go func() {
			_, err := a.Read(make([]byte, 1))
			got <- err
		}()
		synctest.Wait()
		a.SetReadDeadline(time.Unix(1, 0))
		if err := <-got; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("woken with %v, want a deadline", err)
		}
	})
}

func TestDeadline_OneThatWasReplacedDoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := New()
		defer a.Close()
		defer b.Close()
		began := time.Now()
		a.SetDeadline(began.Add(time.Second))
		a.SetDeadline(began.Add(time.Hour))
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Hour {
			t.Errorf("%v after %s, want a deadline after 1h0m0s", err, time.Since(began))
		}
	})
}

func TestDeadline_OfOneSideIsNotTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := New()
		defer a.Close()
		defer b.Close()
		a.SetReadDeadline(time.Unix(1, 0))
		if _, err := a.Write([]byte("x")); err != nil {
			t.Errorf("a's write: %v", err)
		}
		if _, err := b.Read(make([]byte, 1)); err != nil {
			t.Errorf("b's read: %v", err)
		}
	})
}

func TestClose_WakesWhoWaitsOnEitherEnd(t *testing.T) {
	read := func(c *Conn) error { _, err := c.Read(make([]byte, 1)); return err }
	write := func(c *Conn) error { _, err := c.Write(make([]byte, 2*Buffer)); return err }
	for _, c := range []struct {
		name  string
		waits func(*Conn) error
		own   bool
		want  error
	}{
		{"own read", read, true, net.ErrClosed},
		{"own write", write, true, net.ErrClosed},
		{"the peer's read", read, false, io.EOF},
		{"the peer's write", write, false, syscall.EPIPE},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := New()
				defer b.Close()
				end := b
				if c.own {
					end = a
				}
				got := make(chan error, 1)
				go func() { got <- c.waits(end) }()
				synctest.Wait()
				a.Close()
				if err := <-got; !errors.Is(err, c.want) {
					t.Errorf("woken with %v, want %v", err, c.want)
				}
			})
		})
	}
}

// More than both buffers, in pieces that never fit, both ways at once.
func TestConn_LosesAndReordersNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := New()
		var all sync.WaitGroup
		const total = 5*Buffer + 7
		for i, c := range []struct{ from, to *Conn }{{a, b}, {b, a}} {
			want := make([]byte, total)
			for j := range want {
				want[j] = byte(j*(i+3) + j>>8)
			}
			all.Go(func() {
				for rest, n := want, 1; len(rest) > 0; n = n*3 + 1 {
					n = min(n, len(rest), Buffer+1)
					if _, err := c.from.Write(rest[:n]); err != nil {
						t.Errorf("write: %v", err)
						return
					}
					rest = rest[n:]
				}
				c.from.CloseWrite()
			})
			all.Go(func() {
				got, err := io.ReadAll(c.to)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("way %d: %d bytes, %v, want the %d that were written", i, len(got), err, total)
				}
			})
		}
		all.Wait()
		a.Close()
		b.Close()
	})
}
