package fault

import (
	"bytes"
	"context"
	"crypto/sha1" // #nosec: Redis names scripts by their SHA-1
	"encoding/hex"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Step is a moment in what a node does at its Redis: a command goes out, or its
// answer comes back.
type Step struct {
	Name string
	// Does says whether a command is the step's.
	Does func(args [][]byte) bool
	// Answered is the moment after Redis has done it; otherwise before.
	Answered bool
}

// Runs is a command that runs a script, by its text.
func Runs(script string) func([][]byte) bool {
	sum := sha1.Sum([]byte(script))
	name := hex.EncodeToString(sum[:])
	return func(args [][]byte) bool { return len(args) > 1 && is(args[0], "EVALSHA") && string(args[1]) == name }
}

// On is a command that runs a script, alone or among others, with a key of this end.
func On(end string) func([][]byte) bool {
	return func(args [][]byte) bool {
		return is(args[0], "EVALSHA") && slices.ContainsFunc(args[1:], func(arg []byte) bool { return bytes.HasSuffix(arg, []byte(end)) })
	}
}

// Says is a command that publishes a message which holds text, by itself or in a
// script.
func Says(text string) func([][]byte) bool {
	return func(args [][]byte) bool {
		if !is(args[0], "PUBLISH") && !is(args[0], "EVALSHA") {
			return false
		}
		return slices.ContainsFunc(args[1:], func(arg []byte) bool { return bytes.Contains(arg, []byte(text)) })
	}
}

func is(arg []byte, name string) bool { return strings.EqualFold(string(arg), name) }

// Points hold a node's connections to Redis at a step. The zero value holds
// none, and is for any number of connections.
type Points struct {
	mu    sync.Mutex
	armed *Point // guarded by mu
}

// Point is where one connection is held, once.
type Point struct {
	step    Step
	reached chan struct{}
	free    chan struct{}
	once    sync.Once
}

// At arms the next point, instead of one that was not reached.
func (p *Points) At(s Step) *Point {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = &Point{step: s, reached: make(chan struct{}), free: make(chan struct{})}
	return p.armed
}

// Reached is closed when a connection is held.
func (p *Point) Reached() <-chan struct{} { return p.reached }

// Release lets the connection go on.
func (p *Point) Release() { p.once.Do(func() { close(p.free) }) }

// sees takes one command, and is the point that it reaches.
func (p *Points) sees(args [][]byte) *Point {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.armed == nil || !p.armed.step.Does(args) {
		return nil
	}
	at := p.armed
	p.armed = nil
	return at
}

// Conn is a connection to Redis that the points may hold.
func (p *Points) Conn(c net.Conn) net.Conn {
	return &held{Conn: c, points: p, over: make(chan struct{}), kick: make(chan struct{}, 1)}
}

// Dial makes each connection that dial makes one that the points may hold.
func (p *Points) Dial(dial func(ctx context.Context, network, addr string) (net.Conn, error)) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return p.Conn(c), nil
	}
}

// held is a connection. What is written while it is held waits, as in a network
// that does not move; what has been read then is given later.
type held struct {
	net.Conn
	points *Points
	over   chan struct{} // closed by Close
	once   sync.Once
	kick   chan struct{} // cap 1: the deadline has changed, or the answer is held

	mu       sync.Mutex
	out      []byte    // guarded by mu: not passed on
	blind    bool      // guarded by mu: what is written is not understood
	at       *Point    // guarded by mu: where it is held
	deadline time.Time // guarded by mu: of reads

	in []byte // read, and not given yet; owned by Read
}

// Write passes whole commands on.
func (c *held) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = append(c.out, b...)
	if err := c.pass(); err != nil {
		return 0, err
	}
	return len(b), nil
}

// pass writes what may go out. Called with mu held.
func (c *held) pass() error {
	ready := 0
	for c.at == nil || c.at.step.Answered {
		n, args, err := command(c.out[ready:])
		if c.blind = c.blind || err != nil; c.blind {
			ready = len(c.out)
		}
		if n == 0 || c.blind {
			break
		}
		if at := c.points.sees(args); at != nil && c.at == nil {
			c.at = at
			if !at.step.Answered {
				close(at.reached)
				go c.resume(at) // ended by the point's release, or with the connection
				break
			}
		}
		ready += n
	}
	b := c.out[:ready]
	c.out = slices.Clone(c.out[ready:])
	if len(b) == 0 {
		return nil
	}
	_, err := c.Conn.Write(b)
	return err
}

// resume passes on what has waited.
func (c *held) resume(at *Point) {
	select {
	case <-at.free:
	case <-c.over:
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = nil
	_ = c.SetWriteDeadline(time.Time{}) // who wrote it was told that it is written
	_ = c.pass()                        // an error shows at the next read
}

// Read reads, and keeps an answer back while it is held.
func (c *held) Read(b []byte) (int, error) {
	if len(c.in) == 0 {
		n, err := c.Conn.Read(b)
		if err != nil {
			return n, err
		}
		c.in = slices.Clone(b[:n])
	}
	if err := c.await(); err != nil {
		return 0, err
	}
	n := copy(b, c.in)
	c.in = c.in[n:]
	return n, nil
}

// await waits while the answer is held, and until the deadline.
func (c *held) await() error {
	for {
		c.mu.Lock()
		at, deadline := c.at, c.deadline
		c.mu.Unlock()
		if at == nil || !at.step.Answered {
			return nil
		}
		select {
		case <-at.reached:
		default:
			close(at.reached)
		}
		var late <-chan time.Time
		if !deadline.IsZero() {
			t := time.NewTimer(time.Until(deadline))
			defer t.Stop()
			late = t.C
		}
		select {
		case <-at.free:
			c.mu.Lock()
			c.at = nil
			c.mu.Unlock()
			return nil
		case <-c.over:
			return net.ErrClosed
		case <-late:
			return os.ErrDeadlineExceeded
		case <-c.kick:
		}
	}
}

func (c *held) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	c.deadline = t
	c.mu.Unlock()
	select {
	case c.kick <- struct{}{}:
	default:
	}
	return c.Conn.SetReadDeadline(t)
}

func (c *held) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.Conn.SetWriteDeadline(t)
}

// Close ends the connection; what has waited is lost.
func (c *held) Close() error {
	c.once.Do(func() { close(c.over) })
	return c.Conn.Close()
}

// command is the first command in b, and how many bytes it takes; 0 when it is
// not whole.
func command(b []byte) (n int, args [][]byte, err error) {
	count, n, err := header(b, '*')
	if n == 0 || err != nil {
		return 0, nil, err
	}
	for range count {
		size, head, err := header(b[n:], '$')
		if head == 0 || err != nil {
			return 0, nil, err
		}
		n += head
		if len(b) < n+size+2 {
			return 0, nil, nil
		}
		args = append(args, b[n:n+size])
		n += size + 2
	}
	return n, args, nil
}

// header is a type byte, a number and the end of the line.
func header(b []byte, kind byte) (number, n int, err error) {
	if len(b) > 0 && b[0] != kind {
		return 0, 0, errSyntax
	}
	line, _, whole := bytes.Cut(b, []byte("\r\n"))
	if !whole {
		if len(b) > maxLine {
			return 0, 0, errSyntax
		}
		return 0, 0, nil
	}
	number, err = strconv.Atoi(string(line[1:]))
	if err != nil || number < 0 {
		return 0, 0, errSyntax
	}
	return number, len(line) + 2, nil
}
