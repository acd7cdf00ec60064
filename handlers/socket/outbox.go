package socket

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
)

const (
	// gatherBytes is about how much one write takes.
	gatherBytes = 64 << 10
	// replayAhead is how much replay may wait unsent before its reader waits.
	replayAhead = 64 << 10
	// answersAhead is how much of answers may wait unsent before no further
	// request is read: who asks without reading waits for itself.
	answersAhead = 1 << 20
	// pongsAhead is how many pongs may wait; RFC 6455 lets the others go.
	pongsAhead = 8
	// itemCost is what an item costs besides its payload, in bytes.
	itemCost = 64
)

// kind says what bounds an item.
type kind uint8

const (
	live   kind = iota // bounded by the outbox: over it, the socket is evicted
	answer             // bounded by not reading the next request
	replay             // bounded by its reader waiting
	control
	kinds
)

type item struct {
	op      byte
	kind    kind
	payload []byte // shared: never changed
}

var errClosed = errors.New("socket closed")

// outbox is what waits to be written to one connection. Whatever waits goes
// out in one write, by the post.
type outbox struct {
	conn   net.Conn
	raw    syscall.RawConn // of conn; nil: each write has to wait for it
	limit  int             // bytes of live events
	post   *post
	stats  *Stats
	writer sync.WaitGroup // who writes, if anybody

	mu       sync.Mutex
	drained  sync.Cond  // on mu: something was written, or the box closed
	queue    []item     // guarded by mu
	waiting  [kinds]int // guarded by mu: bytes queued or being written
	pongs    int        // guarded by mu
	compress bool       // guarded by mu
	writing  bool       // guarded by mu: something is queued, or being written
	sealed   bool       // guarded by mu: a close frame is queued, nothing follows it
	broken   bool       // guarded by mu: the connection takes nothing any more
}

func newOutbox(conn net.Conn, limit int, p *post, stats *Stats) *outbox {
	o := &outbox{conn: conn, limit: limit, post: p, stats: stats}
	if c, ok := conn.(syscall.Conn); ok {
		o.raw, _ = c.SyscallConn() // it fails for no connection at all
	}
	o.drained.L = &o.mu
	return o
}

// put queues an item. It says false if a live event found the box full.
func (o *outbox) put(it item) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sealed || o.broken {
		return true
	}
	size := len(it.payload) + itemCost
	if it.kind == live && o.waiting[live] > 0 && o.waiting[live]+size > o.limit {
		return false // one event always fits
	}
	if it.op == opPong {
		if o.pongs >= pongsAhead {
			return true
		}
		o.pongs++
	}
	o.waiting[it.kind] += size
	o.queue = append(o.queue, it)
	if it.op == opRaw && it.payload[0] == 0x80|opClose { // gws closes: nothing follows
		o.sealed = true
		o.drained.Broadcast()
	}
	o.start()
	return true
}

// seal queues a close frame as the last thing; if drop, in place of all that
// waits. Only the first call does anything; it says whether it was the first.
func (o *outbox) seal(code uint16, reason string, drop bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sealed || o.broken {
		return false
	}
	if drop {
		for _, it := range o.queue {
			o.waiting[it.kind] -= len(it.payload) + itemCost
		}
		o.queue = nil
	}
	if len(reason) > 120 { // a control frame holds 125 bytes
		reason = reason[:120]
	}
	payload := append(binary.BigEndian.AppendUint16(nil, code), bytes.ToValidUTF8([]byte(reason), nil)...)
	o.queue = append(o.queue, item{op: opClose, kind: control, payload: payload})
	o.waiting[control] += len(payload) + itemCost
	o.sealed = true
	o.start()
	o.drained.Broadcast()
	return true
}

// over says that nothing more is taken.
func (o *outbox) over() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sealed || o.broken
}

// sizes is how much waits of each kind, in bytes.
func (o *outbox) sizes() [kinds]int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.waiting
}

// start has the post write the box, if it does not already. Called with mu held.
func (o *outbox) start() {
	if o.writing {
		return
	}
	o.writing = true
	o.writer.Add(1)
	if o.raw == nil || o.compress {
		go o.write() // waited for by writer
	} else {
		o.post.take(o)
	}
}

// room says that no more than so many bytes of a kind wait, and more is taken.
func (o *outbox) room(k kind, most int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.waiting[k] <= most && !o.sealed && !o.broken
}

// wait blocks until less than `most` bytes of a kind wait.
func (o *outbox) wait(ctx context.Context, k kind, most int) error {
	if o.room(k, most) {
		return nil
	}
	stop := context.AfterFunc(ctx, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.drained.Broadcast()
	})
	defer stop()
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.waiting[k] > most {
		if o.sealed || o.broken {
			return errClosed
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		o.drained.Wait()
	}
	if o.sealed || o.broken {
		return errClosed
	}
	return nil
}

// load is what one write takes.
type load struct {
	items int
	sizes [kinds]int
}

// next takes a load off the queue, where something waits, and appends its frames to b.
func (o *outbox) next(b []byte) ([]byte, load) {
	var l load
	o.mu.Lock()
	for total := 0; l.items < len(o.queue) && total < gatherBytes; l.items++ {
		it := o.queue[l.items]
		total += len(it.payload)
		l.sizes[it.kind] += len(it.payload) + itemCost
		if it.op == opPong {
			o.pongs--
		}
	}
	batch := o.queue[:l.items:l.items]
	o.queue = o.queue[l.items:]
	squeeze := o.compress
	o.mu.Unlock()
	for _, it := range batch {
		b = appendFrame(b, it, squeeze)
	}
	return b, l
}

// wrote notes what became of a load that was n bytes. It says whether more waits;
// otherwise the box is nobody's to write any more.
func (o *outbox) wrote(l load, n int, err error) (more bool) {
	o.stats.Writes.Add(1)
	o.stats.FramesOut.Add(uint64(l.items))
	o.stats.BytesOut.Add(uint64(n))
	o.mu.Lock()
	defer o.mu.Unlock()
	for k, size := range l.sizes {
		o.waiting[k] -= size
	}
	if err != nil {
		o.broken = true
		if errors.Is(err, os.ErrDeadlineExceeded) {
			o.stats.EvictedStuck.Add(1)
		}
		o.conn.Close() // the reader finds out
	}
	o.drained.Broadcast()
	if len(o.queue) > 0 && !o.broken {
		return true
	}
	o.queue = nil // a burst's memory is not kept
	o.writing = false
	o.writer.Done()
	return false
}
