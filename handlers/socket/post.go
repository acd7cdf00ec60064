package socket

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
)

const (
	// roundBoxes is how many outboxes a carrier takes at a time, and how many that
	// wait are worth one carrier more.
	roundBoxes = 16
	// queueKept is the longest empty queue of outboxes that is kept for reuse.
	queueKept = 4096
	// keepBuffer is the largest write buffer that is kept for reuse.
	keepBuffer = 2 * gatherBytes
	// stallAfter is how long a socket may take no byte before it is given up,
	// looked at each stallStep.
	stallAfter = 10 * time.Second
	stallStep  = stallAfter / 8
)

// post writes outboxes to their sockets. A few carriers do it for all that take what
// they are given at once, as nearly all do, and run only while something waits; one
// that does not has a goroutine of its own until it does, and one whose frames are
// squeezed always, for that takes its time. A message to a thousand sockets would
// start a thousand otherwise, and each write set a deadline.
type post struct {
	most int // carriers at once: the processors there were at the start

	mu       sync.Mutex
	boxes    []*outbox // guarded by mu: from first on they wait, each once
	first    int       // guarded by mu
	carriers int       // guarded by mu
	idle     sync.Cond // on mu: no carrier is left
}

func newPost() *post {
	p := &post{most: runtime.GOMAXPROCS(0)}
	p.idle.L = &p.mu
	return p
}

// take has an outbox written in which something waits, and that nobody writes.
func (p *post) take(o *outbox) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.boxes) == cap(p.boxes) && p.first > len(p.boxes)/2 {
		// The queue may never be empty: it grows only with what waits.
		n := copy(p.boxes, p.boxes[p.first:])
		clear(p.boxes[n:])
		p.boxes, p.first = p.boxes[:n], 0
	}
	p.boxes = append(p.boxes, o)
	if p.carriers < p.most && p.waiting() > p.carriers*roundBoxes {
		p.carriers++
		go p.carry() // waited for by wait
	}
}

// waiting is how many boxes wait. Called with mu held.
func (p *post) waiting() int { return len(p.boxes) - p.first }

// wait waits until nothing is being written but by goroutines of the boxes' own.
func (p *post) wait() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.carriers > 0 {
		p.idle.Wait()
	}
}

// carry writes outboxes until none waits.
func (p *post) carry() {
	c := carriers.Get().(*carrier)
	for p.round(c) {
		for i, o := range c.round {
			c.serve(o)
			c.round[i] = nil
		}
	}
}

// round gives a carrier what it is to write next: its share of what waits. If that is
// nothing it says false, and the carrier is counted no more.
func (p *post) round(c *carrier) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(roundBoxes, (p.waiting()+p.most-1)/p.most)
	taken := p.boxes[p.first : p.first+n]
	c.round = append(c.round[:0], taken...)
	clear(taken)
	if p.first += n; p.first == len(p.boxes) {
		p.boxes, p.first = p.boxes[:0], 0
		if cap(p.boxes) > queueKept {
			p.boxes = nil
		}
	}
	if n > 0 {
		return true
	}
	carriers.Put(c)
	if p.carriers--; p.carriers == 0 {
		p.idle.Broadcast()
	}
	return false
}

// carrier is what it takes to write, kept from one use to the next.
type carrier struct {
	round []*outbox
	buf   []byte
	write func(fd uintptr) (done bool) // made once, of try
	n     int                          // what it wrote
	err   error
}

var carriers = sync.Pool{New: func() any {
	c := &carrier{round: make([]*outbox, 0, roundBoxes)}
	c.write = c.try
	return c
}}

// serve writes what waits in a box, as far as its socket takes it at once.
func (c *carrier) serve(o *outbox) {
	b, l := o.next(c.buf[:0])
	c.buf, c.n = b, 0
	err := o.raw.Write(c.write)
	if err == nil {
		err = c.err
	}
	switch {
	case err == nil && c.n < len(b), errors.Is(err, syscall.EAGAIN):
		go o.finish(bytes.Clone(b[c.n:]), l, len(b))
	case o.wrote(l, len(b), err):
		o.post.take(o) // behind the others
	}
	c.trim()
}

// trim gives up a buffer that has grown too large to be kept.
func (c *carrier) trim() {
	if cap(c.buf) > keepBuffer {
		c.buf = nil
	}
}

// try writes once, and says that this is all: the socket is not waited for.
func (c *carrier) try(fd uintptr) (done bool) {
	for {
		n, err := syscall.Write(int(fd), c.buf)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		c.n, c.err = max(n, 0), err
		return true
	}
}

// finish writes the rest of a load of n bytes, and waits for the socket; then what
// waits.
func (o *outbox) finish(rest []byte, l load, n int) {
	if o.wrote(l, n, o.push(rest)) {
		o.write()
	}
}

// write writes what waits until nothing does, and waits for the socket.
func (o *outbox) write() {
	c := carriers.Get().(*carrier)
	for more := true; more; {
		b, l := o.next(c.buf[:0])
		c.buf = b
		more = o.wrote(l, len(b), o.push(b))
	}
	c.trim()
	carriers.Put(c)
}

// push writes b, as long as the peer takes something now and then. It leaves no
// deadline behind, for it would end the next write that is tried.
func (o *outbox) push(b []byte) error {
	for took := time.Now(); ; {
		if err := o.conn.SetWriteDeadline(time.Now().Add(stallStep)); err != nil {
			return err
		}
		n, err := o.conn.Write(b)
		b = b[n:]
		switch {
		case err == nil:
			return o.conn.SetWriteDeadline(time.Time{})
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case n > 0:
			took = time.Now()
		case time.Since(took) >= stallAfter:
			return err
		}
	}
}
