// Package pipe is a network in memory, for tests in a testing/synctest bubble,
// where a goroutine that waits for a real socket keeps virtual time from
// moving.
//
// It owns the bytes between two ends, buffered both ways as a kernel does it.
// A bare net.Pipe has no buffer: two peers that write before they read, as a
// Redis pipeline of more than a bufio page does, wait for each other for ever.
package pipe

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Buffer is how many bytes one way holds before its writer waits.
const Buffer = 256 << 10

// New makes a connection and returns its two ends.
func New() (a, b *Conn) {
	to, from := newWay(), newWay()
	return &Conn{in: from, out: to}, &Conn{in: to, out: from}
}

// Conn is one end. It keeps the contract of net.Conn.
type Conn struct{ in, out *way }

// way is one direction.
type way struct {
	mu   sync.Mutex
	more sync.Cond // on mu: something has changed

	// guarded by mu
	buf    []byte
	ended  bool // the writer has closed: what is left is read, then EOF
	broken bool // the reader has closed: nothing is taken any more
	read   deadline
	write  deadline
}

// deadline is a moment past which one side of a way does not wait.
type deadline struct {
	timer  *time.Timer
	passed bool
}

func newWay() *way {
	w := &way{}
	w.more.L = &w.mu
	return w
}

// Read reads what is there, waiting for a first byte.
func (c *Conn) Read(p []byte) (int, error) {
	w := c.in
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		switch {
		case w.broken:
			return 0, net.ErrClosed
		case w.read.passed:
			return 0, os.ErrDeadlineExceeded
		case len(w.buf) > 0 || len(p) == 0:
			n := copy(p, w.buf)
			if w.buf = w.buf[n:]; len(w.buf) == 0 {
				w.buf = nil
			}
			w.more.Broadcast()
			return n, nil
		case w.ended:
			return 0, io.EOF
		}
		w.more.Wait()
	}
}

// Write writes all of p, waiting for room.
func (c *Conn) Write(p []byte) (int, error) {
	w := c.out
	w.mu.Lock()
	defer w.mu.Unlock()
	done := 0
	for {
		switch {
		case w.ended:
			return done, net.ErrClosed
		case w.broken:
			return done, &net.OpError{Op: "write", Net: "pipe", Err: syscall.EPIPE}
		case w.write.passed:
			return done, os.ErrDeadlineExceeded
		}
		if n := min(Buffer-len(w.buf), len(p)-done); n > 0 {
			w.buf = append(w.buf, p[done:done+n]...)
			done += n
			w.more.Broadcast()
		}
		if done == len(p) {
			return done, nil
		}
		w.more.Wait()
	}
}

// Close ends both ways. The peer reads what was written before.
func (c *Conn) Close() error {
	// The way out first: who is woken from a Read must not get a last word in.
	err := errors.Join(c.CloseWrite(), c.SetWriteDeadline(time.Time{}))
	c.in.change(func(w *way) {
		w.broken = true
		w.buf = nil
		w.read.stop()
	})
	return err
}

// CloseWrite ends this end's way out; the way in stays.
func (c *Conn) CloseWrite() error {
	c.out.change(func(w *way) { w.ended = true })
	return nil
}

func (w *way) change(f func(*way)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(w)
	w.more.Broadcast()
}

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline sets when a Read gives up; the zero time is never.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.in.change(func(w *way) { w.read.set(t, w) })
	return nil
}

// SetWriteDeadline sets when a Write gives up; the zero time is never.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.out.change(func(w *way) { w.write.set(t, w) })
	return nil
}

// set replaces the deadline. Called with the way's mu held.
func (d *deadline) set(t time.Time, w *way) {
	d.stop()
	if t.IsZero() {
		return
	}
	left := time.Until(t)
	if left <= 0 {
		d.passed = true
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(left, func() {
		w.change(func(*way) {
			if d.timer == timer { // not replaced meanwhile
				d.passed = true
			}
		})
	})
	d.timer = timer
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
	}
	d.timer, d.passed = nil, false
}

// LocalAddr is the same for every end.
func (c *Conn) LocalAddr() net.Addr { return addr{} }

// RemoteAddr is the same for every end.
func (c *Conn) RemoteAddr() net.Addr { return addr{} }

type addr struct{}

func (addr) Network() string { return "pipe" }
func (addr) String() string  { return "pipe" }
