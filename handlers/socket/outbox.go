package socket

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

const (
	// gatherBytes is about how much one write takes.
	gatherBytes = 64 << 10
	// keepBuffer is the largest write buffer that is kept for reuse.
	keepBuffer = 2 * gatherBytes
	// stallAfter is how long a socket may take no byte before it is given up,
	// looked at each stallStep.
	stallAfter = 10 * time.Second
	stallStep  = stallAfter / 8
	// replayAhead is how much replay may wait unsent before its reader waits.
	replayAhead = 64 << 10
	// answersAhead is how much of answers may wait unsent before no further
	// request is read: who asks without reading waits for itself.
	answersAhead = 1 << 20
	// pongsAhead is how many pongs may wait; RFC 6455 lets the others go.
	pongsAhead = 8
	// compressFrom is the smallest payload worth compressing.
	compressFrom = 512
	// itemCost is what an item costs besides its payload, in bytes.
	itemCost = 64
)

// opcodes of RFC 6455.
const (
	opText   = 0x1
	opBinary = 0x2
	opClose  = 0x8
	opPing   = 0x9
	opPong   = 0xA
	// opRaw is bytes that are framed already: what gws itself writes.
	opRaw = 0xFF
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
// out in one write; a goroutine runs only while something waits.
type outbox struct {
	conn     net.Conn
	limit    int // bytes of live events
	compress bool
	stats    *Stats
	writer   sync.WaitGroup // the goroutine that writes, if any
	until    time.Time      // owned by writer: the deadline of its writes

	mu      sync.Mutex
	drained sync.Cond  // on mu: something was written, or the box closed
	queue   []item     // guarded by mu
	waiting [kinds]int // guarded by mu: bytes queued or being written
	pongs   int        // guarded by mu
	writing bool       // guarded by mu: the writer runs
	sealed  bool       // guarded by mu: a close frame is queued, nothing follows it
	broken  bool       // guarded by mu: the connection takes nothing any more
}

func newOutbox(conn net.Conn, limit int, stats *Stats) *outbox {
	o := &outbox{conn: conn, limit: limit, stats: stats}
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

// start runs the writer if it does not run. Called with mu held.
func (o *outbox) start() {
	if !o.writing {
		o.writing = true
		o.writer.Go(o.write)
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

var buffers = sync.Pool{New: func() any { return new([]byte) }}

// write writes what waits until nothing does.
func (o *outbox) write() {
	buf := buffers.Get().(*[]byte)
	defer func() {
		if cap(*buf) <= keepBuffer {
			buffers.Put(buf)
		}
	}()
	var sent [kinds]int
	for {
		o.mu.Lock()
		for k, n := range sent {
			o.waiting[k] -= n
		}
		o.drained.Broadcast()
		if len(o.queue) == 0 || o.broken {
			o.queue = nil // a burst's memory is not kept
			o.writing = false
			o.mu.Unlock()
			return
		}
		var batch []item
		batch, sent = o.take()
		o.mu.Unlock()
		b := (*buf)[:0]
		for _, it := range batch {
			b = o.frame(b, it)
		}
		*buf = b
		if err := o.push(b); err != nil {
			o.mu.Lock()
			o.broken = true
			o.mu.Unlock()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				o.stats.EvictedStuck.Add(1)
			}
			o.conn.Close() // the reader finds out
		}
		o.stats.Writes.Add(1)
		o.stats.FramesOut.Add(uint64(len(batch)))
		o.stats.BytesOut.Add(uint64(len(b)))
	}
}

// take takes the items of one write off the queue. Called with mu held.
func (o *outbox) take() (batch []item, size [kinds]int) {
	total := 0
	n := 0
	for ; n < len(o.queue) && total < gatherBytes; n++ {
		it := o.queue[n]
		total += len(it.payload)
		size[it.kind] += len(it.payload) + itemCost
		if it.op == opPong {
			o.pongs--
		}
	}
	batch = o.queue[:n:n]
	o.queue = o.queue[n:]
	return batch, size
}

// frame appends an item as a websocket frame of a server: never masked.
func (o *outbox) frame(b []byte, it item) []byte {
	if it.op == opRaw {
		return append(b, it.payload...)
	}
	first, payload := 0x80|it.op, it.payload
	if o.compress && it.op == opText && len(payload) >= compressFrom {
		first, payload = first|0x40, deflate(payload)
	}
	b = append(b, first)
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return append(b, payload...)
}

// push writes b, as long as the peer takes something now and then.
func (o *outbox) push(b []byte) error {
	now := time.Now()
	for took := now; len(b) > 0; now = time.Now() {
		if o.until.Sub(now) < stallStep/2 { // one deadline serves many writes
			o.until = now.Add(stallStep)
			if err := o.conn.SetWriteDeadline(o.until); err != nil {
				return err
			}
		}
		n, err := o.conn.Write(b)
		b = b[n:]
		switch {
		case err == nil:
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case n > 0:
			took = time.Now()
		case time.Since(took) >= stallAfter:
			return err
		}
	}
	return nil
}

var deflaters = sync.Pool{New: func() any {
	w, err := flate.NewWriter(nil, flate.BestSpeed)
	if err != nil {
		panic(err) // the level is a constant
	}
	return w
}}

// deflate compresses one message without context, as RFC 7692 has it: the
// empty block at the end is left out.
func deflate(payload []byte) []byte {
	var out bytes.Buffer
	w := deflaters.Get().(*flate.Writer)
	defer deflaters.Put(w)
	w.Reset(&out)
	// A bytes.Buffer takes everything.
	_, _ = w.Write(payload)
	_ = w.Flush()
	return bytes.TrimSuffix(out.Bytes(), []byte{0, 0, 0xff, 0xff})
}
