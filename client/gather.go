package client

import (
	"errors"
	"net"
	"sync"
	"time"
)

const (
	// writeWait is how long the peer may take no byte before the socket is given up.
	writeWait = 10 * time.Second
	// closeWait is how long the last bytes may take: ours to go out after
	// Close, the peer's to be read after our side broke.
	closeWait = time.Second
	// maxGathered bounds what may wait for a peer that takes no byte. Over it
	// the socket is given up and the session resumes.
	maxGathered = 4 << 20
	// keepGathered is the largest buffer kept for the next write.
	keepGathered = 64 << 10
)

var errStuck = errors.New("peer takes no bytes")

// gather is a net.Conn that collects what is written while the kernel is busy
// with the write before, and hands it over in one write. Write never waits.
//
// A failed write does not end the reading side at once: the peer's close frame
// may still be on its way, and it says what to do next.
type gather struct {
	net.Conn
	kick chan struct{} // holds one token when there is something for run
	done chan struct{} // closed when run has returned

	mu sync.Mutex
	// guarded by mu
	buf     []byte
	idle    time.Duration // read deadline from the start of each read; 0 is none
	broken  error         // why writing ended
	closing bool
}

func newGather(nc net.Conn) *gather {
	return &gather{Conn: nc, kick: make(chan struct{}, 1), done: make(chan struct{})}
}

// setIdle says how long the peer may be silent while somebody reads. A reader
// that waits for the application does not count.
func (g *gather) setIdle(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.idle = d
	if g.broken == nil && !g.closing {
		_ = g.Conn.SetReadDeadline(time.Now().Add(d))
	}
}

// Read reads from the network under the idle deadline.
func (g *gather) Read(p []byte) (int, error) {
	g.mu.Lock()
	if g.idle > 0 && g.broken == nil && !g.closing {
		_ = g.Conn.SetReadDeadline(time.Now().Add(g.idle))
	}
	g.mu.Unlock()
	return g.Conn.Read(p)
}

// Write queues p.
func (g *gather) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closing {
		return 0, net.ErrClosed
	}
	if g.broken != nil {
		return len(p), nil // gws would read no further, and the peer may have said why it closed
	}
	if len(g.buf)+len(p) > maxGathered {
		g.breakLocked(errStuck)
		return 0, errStuck
	}
	g.buf = append(g.buf, p...)
	g.wake()
	return len(p), nil
}

// Close sends what is queued, for closeWait at most, and closes the network
// connection. It does not wait for that; done does.
func (g *gather) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closing {
		g.closing = true
		_ = g.Conn.SetWriteDeadline(time.Now().Add(closeWait))
		g.wake()
	}
	return nil
}

// breakLocked ends writing and lets the reader have what has already come.
func (g *gather) breakLocked(err error) {
	if g.broken == nil {
		g.broken = err
		g.buf = nil
		_ = g.Conn.SetReadDeadline(time.Now().Add(closeWait))
		g.wake()
	}
}

func (g *gather) wake() {
	select {
	case g.kick <- struct{}{}:
	default:
	}
}

// run writes until Close, then closes the network connection.
func (g *gather) run() {
	defer close(g.done)
	defer g.Conn.Close()
	var out []byte
	for range g.kick {
		for {
			g.mu.Lock()
			if cap(out) > keepGathered {
				out = nil
			}
			out, g.buf = g.buf, out[:0]
			closing := g.closing
			if g.broken != nil {
				out = out[:0]
			}
			if len(out) > 0 && !closing {
				_ = g.Conn.SetWriteDeadline(time.Now().Add(writeWait))
			}
			g.mu.Unlock()
			if len(out) == 0 {
				if closing {
					return
				}
				break
			}
			if _, err := g.Conn.Write(out); err != nil {
				g.mu.Lock()
				g.breakLocked(err)
				g.mu.Unlock()
			}
		}
	}
}
