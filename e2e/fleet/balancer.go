package fleet

import (
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// balanceWithin bounds a dial of one node. On loopback who is there answers at
// once.
const balanceWithin = 5 * time.Second

// Balancer is one address in front of several, as a fleet's users have it: each
// connection goes to the next one in turn that takes it. It knows nothing of
// what they speak, nor which of them drains.
type Balancer struct {
	ln net.Listener
	wg sync.WaitGroup

	mu sync.Mutex
	// guarded by mu
	behind []string
	turn   int
	conns  map[net.Conn]struct{}
	closed bool
}

// Balance listens on a free loopback port. Close ends it.
func Balance(behind ...string) (*Balancer, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	b := &Balancer{ln: ln, conns: map[net.Conn]struct{}{}}
	b.To(behind...)
	b.wg.Go(b.accept)
	return b, nil
}

// Addr is where it listens.
func (b *Balancer) Addr() string { return b.ln.Addr().String() }

// To replaces the addresses behind it; connections stay.
func (b *Balancer) To(behind ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.behind = behind
}

// Close cuts every connection and waits for its goroutines.
func (b *Balancer) Close() {
	b.ln.Close()
	b.mu.Lock()
	b.closed = true
	for c := range b.conns {
		c.Close()
	}
	b.mu.Unlock()
	b.wg.Wait()
}

func (b *Balancer) accept() {
	for {
		c, err := b.ln.Accept()
		if err != nil {
			return // closed
		}
		b.wg.Go(func() { b.lead(c) })
	}
}

// lead leads a connection to a node, until either side ends it.
func (b *Balancer) lead(down net.Conn) {
	defer b.drop(down)
	if !b.hold(down) {
		return
	}
	up := b.dial()
	if up == nil {
		return
	}
	defer b.drop(up)
	if !b.hold(up) {
		return
	}
	var back sync.WaitGroup
	defer back.Wait()
	back.Go(func() {
		pass(down, up)
	})
	pass(up, down)
}

// pass passes on what comes; the end of it ends both.
func pass(to, from net.Conn) {
	_, _ = io.Copy(to, from) // how it ended, the other side is told by the end
	to.Close()
	from.Close()
}

// dial is a connection to the next node that takes one, nil if none does.
func (b *Balancer) dial() net.Conn {
	b.mu.Lock()
	behind, first := b.behind, b.turn
	b.turn++
	b.mu.Unlock()
	for i := range behind {
		c, err := net.DialTimeout("tcp", behind[(first+i)%len(behind)], balanceWithin)
		if err == nil {
			return c
		}
	}
	return nil
}

// hold notes a connection, to be cut by Close; false says that it is too late.
func (b *Balancer) hold(c net.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conns[c] = struct{}{}
	return !b.closed
}

func (b *Balancer) drop(c net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.conns, c)
	c.Close()
}
