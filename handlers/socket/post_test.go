package socket

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// noted is a TCP connection that notes the last deadline of its writes.
type noted struct {
	*net.TCPConn
	mu    sync.Mutex
	set   int       // guarded by mu
	until time.Time // guarded by mu
}

func (c *noted) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set++
	c.until = t
	return c.TCPConn.SetWriteDeadline(t)
}

// boxOn is an outbox of a TCP connection that takes little, and what its peer reads.
func boxOn(t *testing.T, p *post) (*outbox, *noted, *bufio.Reader) {
	t.Helper()
	ours, theirs := connected(t)
	if err := ours.SetWriteBuffer(16 << 10); err != nil {
		t.Fatal(err)
	}
	if err := theirs.SetReadBuffer(64 << 10); err != nil { // or it grows with what comes
		t.Fatal(err)
	}
	c := &noted{TCPConn: ours}
	return newOutbox(c, 64<<20, p, new(Stats)), c, bufio.NewReader(theirs)
}

// connected is both ends of a TCP connection, closed when the test ends.
func connected(t testing.TB) (ours, theirs *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	out, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	in, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		out.Close()
	})
	return in.(*net.TCPConn), out.(*net.TCPConn)
}

// stall fills the socket of a box whose peer does not read, until more waits than it
// takes, and says what was put.
func stall(o *outbox) (put []string) {
	for i := range 100 {
		s := fmt.Sprintf("%d %s", i, strings.Repeat("x", 10_000))
		put = append(put, s)
		o.put(text(answer, s))
	}
	return put
}

func TestPost_WhoDoesNotReadHoldsUpNobody(t *testing.T) {
	p := newPost()
	p.most = 2
	var stalled []*outbox
	for range 3 * p.most { // more than there are carriers
		o, _, _ := boxOn(t, p)
		stall(o)
		stalled = append(stalled, o)
	}
	o, c, r := boxOn(t, p)
	for i := range 100 {
		want := fmt.Sprintf("still there, %d?", i)
		o.put(text(live, want))
		if _, got := readServerFrame(t, r); string(got) != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	p.wait() // nobody is left to carry for those that do not read
	if c.mu.Lock(); c.set > 0 {
		t.Errorf("a socket that takes all at once had %d deadlines set", c.set)
	}
	c.mu.Unlock()
	for _, o := range stalled {
		if !o.room(answer, 64<<20) || o.room(answer, 0) {
			t.Error("a socket that is not read holds nothing, or was given up")
		}
		o.conn.Close()
		o.writer.Wait()
	}
}

func TestPost_WhatASocketDidNotTakeAtOnceComesWholeAndInOrder(t *testing.T) {
	o, c, r := boxOn(t, newPost())
	for round := range 3 {
		for i, want := range stall(o) {
			if first, got := readServerFrame(t, r); first != 0x80|opText || string(got) != want {
				t.Fatalf("round %d, frame %d: %x and %d bytes, want %d", round, i, first, len(got), len(want))
			}
		}
		o.writer.Wait()
		// A deadline that is left behind would end what is written after it.
		if c.mu.Lock(); c.set == 0 || !c.until.IsZero() {
			t.Errorf("round %d: after %d deadlines the last is %v, want none", round, c.set, c.until)
		}
		c.set = 0
		c.mu.Unlock()
	}
	if n := o.sizes(); n != [kinds]int{} {
		t.Errorf("%v bytes wait, want none", n)
	}
	if n := o.stats.BytesOut.Load(); n < 3*100*10_000 {
		t.Errorf("%d bytes are counted as written", n)
	}
}

// A socket that takes not even the first byte is none that is gone.
func TestPost_ASocketThatIsFullIsWaitedFor(t *testing.T) {
	o, c, r := boxOn(t, newPost())
	filled := 0
	for took := -1; took != 0; filled += took { // until it takes nothing for a while
		if err := c.TCPConn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		var err error
		if took, err = c.Write(make([]byte, 1<<20)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	}
	if err := c.TCPConn.SetWriteDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	o.put(text(live, "at last"))
	o.post.wait() // a carrier has tried
	if o.over() || o.room(live, 0) {
		t.Error("the socket was given up, or took something")
	}
	if _, err := io.CopyN(io.Discard, r, int64(filled)); err != nil {
		t.Fatal(err)
	}
	if _, got := readServerFrame(t, r); string(got) != "at last" {
		t.Errorf("got %q", got)
	}
	o.writer.Wait()
}

func TestPost_AWriteToAPeerThatIsGoneEndsTheConnection(t *testing.T) {
	ours, theirs := connected(t)
	o := newOutbox(ours, 1<<20, newPost(), new(Stats))
	if err := theirs.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	if _, err := ours.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("read: %v, want the reset", err)
	}
	o.put(text(live, "anybody?"))
	o.writer.Wait()
	if !o.over() || o.stats.EvictedStuck.Load() != 0 {
		t.Error("the box goes on, or its peer counts as stuck")
	}
	if _, err := ours.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a further write: %v, want that the connection is closed", err)
	}
	o.put(text(live, "still nobody?"))
	if n := o.stats.Writes.Load(); n != 1 {
		t.Errorf("%d writes, want the one that failed", n)
	}
}

func TestPost_ManyBoxesAreWrittenByFew(t *testing.T) {
	p := newPost()
	p.most = 2
	type pair struct {
		o *outbox
		r *bufio.Reader
	}
	var all []pair
	for range 10 * roundBoxes {
		o, _, r := boxOn(t, p)
		all = append(all, pair{o, r})
	}
	const events = 50
	for i := range events {
		for _, one := range all {
			one.o.put(text(live, fmt.Sprint(i)))
		}
		p.mu.Lock()
		n := p.carriers
		p.mu.Unlock()
		if n > p.most {
			t.Fatalf("%d carriers, want %d at most", n, p.most)
		}
	}
	for _, one := range all {
		for i := range events {
			if _, got := readServerFrame(t, one.r); string(got) != fmt.Sprint(i) {
				t.Fatalf("got %q, want %d", got, i)
			}
		}
	}
	p.wait()
	if p.carriers != 0 || p.waiting() != 0 {
		t.Errorf("%d carriers are counted and %d boxes wait, want none", p.carriers, p.waiting())
	}
}

// Boxes that are always full again keep the queue from ever being empty.
func TestPost_AQueueThatIsNeverEmptyGrowsOnlyWithWhatWaits(t *testing.T) {
	p := newPost()
	p.most, p.carriers = 1, 1 // which the test is
	const boxes = 2*roundBoxes + 1
	served := make(map[*outbox]int)
	for range boxes {
		p.take(new(outbox))
	}
	c := carriers.Get().(*carrier)
	const rounds = 10_000
	for range rounds {
		if !p.round(c) {
			t.Fatal("nothing waits")
		}
		for _, o := range c.round {
			served[o]++
			p.take(o)
		}
	}
	if n := cap(p.boxes); n > 8*boxes {
		t.Errorf("the queue of %d boxes has grown to %d", boxes, n)
	}
	for _, n := range served {
		if least := rounds * roundBoxes / boxes; len(served) != boxes || n < least || n > least+1 {
			t.Fatalf("one of %d boxes had its turn %d times, want each of %d some %d times", len(served), n, boxes, least)
		}
	}
}

// What is squeezed takes its time: it is no carrier's.
func TestPost_WhatIsSqueezedHasAWriterOfItsOwn(t *testing.T) {
	ours, theirs := connected(t)
	p := newPost()
	p.most, p.carriers = 1, 1 // which does not come
	o := newOutbox(ours, 1<<20, p, new(Stats))
	o.compress = true
	o.put(text(live, strings.Repeat("x", compressFrom)))
	if first, _ := readServerFrame(t, theirs); first != 0x80|0x40|opText {
		t.Errorf("the frame begins with %x, want a squeezed text", first)
	}
	o.writer.Wait()
	if p.waiting() != 0 {
		t.Error("it waits for a carrier")
	}
}
