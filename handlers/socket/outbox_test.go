package socket

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"godwit/internal/pipe"
)

// gated is a connection whose writes wait for the gate, and are counted.
type gated struct {
	net.Conn
	gate   sync.Mutex
	mu     sync.Mutex
	writes int
}

func (g *gated) Write(p []byte) (int, error) {
	g.gate.Lock()
	defer g.gate.Unlock()
	g.mu.Lock()
	g.writes++
	g.mu.Unlock()
	return g.Conn.Write(p)
}

func newBox(t testing.TB, limit int) (*outbox, *gated, *bufio.Reader) {
	t.Helper()
	ours, theirs := pipe.New()
	g := &gated{Conn: ours}
	o := newOutbox(g, limit, newPost(), &Stats{})
	t.Cleanup(func() {
		ours.Close()
		theirs.Close()
		o.writer.Wait()
	})
	return o, g, bufio.NewReader(theirs)
}

// frame reads one frame as a client does.
func readServerFrame(t testing.TB, r io.Reader) (first byte, payload []byte) {
	t.Helper()
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		t.Fatal(err)
	}
	if head[1]&0x80 != 0 {
		t.Fatal("a server masked its frame")
	}
	n := uint64(head[1])
	for code, size := range map[byte]int{126: 2, 127: 8} {
		if head[1] == code {
			b := make([]byte, 8)
			if _, err := io.ReadFull(r, b[8-size:]); err != nil {
				t.Fatal(err)
			}
			n = binary.BigEndian.Uint64(b)
		}
	}
	payload = make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		t.Fatal(err)
	}
	return head[0], payload
}

func text(k kind, s string) item { return item{op: opText, kind: k, payload: []byte(s)} }

func TestOutbox_WhatWaitsLeavesInOneWriteAndInOrder(t *testing.T) {
	o, g, r := newBox(t, 1<<20)
	g.gate.Lock()
	o.put(text(answer, "first")) // the writer takes it and waits at the gate
	for o.queued() > 0 {         // until the writer has taken it
		runtime.Gosched()
	}
	want := []string{"first"}
	for i := range 300 {
		s := fmt.Sprintf("%d %s", i, strings.Repeat("x", i))
		want = append(want, s)
		if !o.put(text(kind(i%3), s)) {
			t.Fatalf("item %d was refused", i)
		}
	}
	g.gate.Unlock()
	for i, w := range want {
		if first, got := readServerFrame(t, r); first != 0x80|opText || string(got) != w {
			t.Fatalf("frame %d: %x %q, want %q", i, first, got, w)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.writes != 2 {
		t.Errorf("%d writes, want the first and one for the %d that waited", g.writes, len(want)-1)
	}
}

// queued is how many items the writer has not taken.
func (o *outbox) queued() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.queue)
}

func TestOutbox_OnlyLiveEventsFillIt(t *testing.T) {
	o, g, _ := newBox(t, 1000)
	g.gate.Lock()
	defer g.gate.Unlock()
	big := strings.Repeat("x", 5000)
	for _, k := range []kind{answer, replay, control} {
		if !o.put(text(k, big)) {
			t.Errorf("kind %d was refused", k)
		}
	}
	if !o.put(text(live, big)) {
		t.Error("one event alone was refused")
	}
	if o.put(text(live, "")) {
		t.Error("an event past the limit was taken")
	}
	if !o.put(text(answer, big)) {
		t.Error("an answer was refused because of events")
	}
}

func TestOutbox_TheLimitIsExact(t *testing.T) {
	o, g, _ := newBox(t, 10*(100+itemCost))
	g.gate.Lock()
	defer g.gate.Unlock()
	taken := 0
	for o.put(text(live, strings.Repeat("x", 100))) {
		taken++
	}
	if taken != 10 {
		t.Errorf("%d events of %d bytes fit, want 10", taken, 100+itemCost)
	}
}

func TestOutbox_SealEndsItWithOrWithoutWhatWaits(t *testing.T) {
	for _, drop := range []bool{false, true} {
		t.Run(fmt.Sprintf("drop=%t", drop), func(t *testing.T) {
			o, g, r := newBox(t, 1<<20)
			g.gate.Lock()
			o.put(text(live, "under way"))
			for o.queued() > 0 { // until the writer has taken it
				runtime.Gosched()
			}
			o.put(text(live, "waits"))
			if !o.seal(4200, strings.Repeat("ä", 100), drop) || o.seal(1000, "", false) {
				t.Error("not exactly the first seal counts")
			}
			o.put(text(answer, "too late"))
			g.gate.Unlock()
			want := []string{"under way", "waits"}
			if drop {
				want = want[:1]
			}
			for _, w := range want {
				if _, got := readServerFrame(t, r); string(got) != w {
					t.Fatalf("got %q, want %q", got, w)
				}
			}
			first, got := readServerFrame(t, r)
			if first != 0x80|opClose || len(got) > 125 || binary.BigEndian.Uint16(got) != 4200 {
				t.Errorf("then %x %q, want close 4200 of at most 125 bytes", first, got)
			}
			o.writer.Wait()
			o.conn.Close()
			if rest, _ := io.ReadAll(r); len(rest) > 0 {
				t.Errorf("and after the close frame %q", rest)
			}
		})
	}
}

func TestOutbox_PongsPastTheirNumberAreLeftOut(t *testing.T) {
	o, g, r := newBox(t, 1<<20)
	g.gate.Lock()
	o.put(text(answer, "under way"))
	for o.queued() > 0 { // until the writer has taken it
		runtime.Gosched()
	}
	for i := range 100 {
		o.put(item{op: opPong, kind: control, payload: []byte{byte(i)}})
	}
	o.put(text(answer, "end"))
	g.gate.Unlock()
	readServerFrame(t, r)
	for i := range pongsAhead {
		if first, got := readServerFrame(t, r); first != 0x80|opPong || got[0] != byte(i) {
			t.Fatalf("frame %d: %x %v, want pong %d", i, first, got, i)
		}
	}
	if _, got := readServerFrame(t, r); string(got) != "end" {
		t.Errorf("got %q, want the end", got)
	}
}

func TestOutbox_WaitEndsWhenThereIsRoomOrNoConnection(t *testing.T) {
	o, g, r := newBox(t, 1<<20)
	g.gate.Lock()
	o.put(text(replay, strings.Repeat("x", 1000)))
	done := make(chan error, 1)
	go func() { done <- o.wait(t.Context(), replay, 500) }()
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(10 * time.Millisecond):
	}
	g.gate.Unlock()
	readServerFrame(t, r)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	g.gate.Lock()
	o.put(text(replay, strings.Repeat("x", 1000)))
	go func() { done <- o.wait(t.Context(), replay, 500) }()
	o.seal(1000, "", false)
	if err := <-done; !errors.Is(err, errClosed) {
		t.Errorf("a closed box: %v", err)
	}
	g.gate.Unlock()
}

func TestOutbox_CompressedFramesInflateToWhatWasPut(t *testing.T) {
	o, _, r := newBox(t, 1<<20)
	o.compress = true
	for _, n := range []int{0, compressFrom - 1, compressFrom, 5000, 70000} {
		want := strings.Repeat("all work and no play ", n/21+1)[:n]
		o.put(text(answer, want))
		first, got := readServerFrame(t, r)
		if squeezed := first&0x40 != 0; squeezed != (n >= compressFrom) {
			t.Errorf("%d bytes: compressed %t", n, squeezed)
		} else if squeezed {
			// RFC 7692, 7.2.2: the tail that the sender left out.
			tail := io.MultiReader(bytes.NewReader(got), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff"))
			var err error
			if got, err = io.ReadAll(flate.NewReader(tail)); err != nil {
				t.Fatal(err)
			}
		}
		if string(got) != want {
			t.Errorf("%d bytes came back as %d others", n, len(got))
		}
	}
}

// BenchmarkOutbox is one event to one socket that drains at once.
func BenchmarkOutbox(b *testing.B) {
	o, _, r := newBox(b, 1<<30)
	go io.Copy(io.Discard, r) //nolint:errcheck // until the test closes the pipe
	it := text(live, strings.Repeat("x", 200))
	b.ReportAllocs()
	for b.Loop() {
		o.put(it)
	}
	b.ReportMetric(float64(o.stats.FramesOut.Load())/float64(max(1, o.stats.Writes.Load())), "frames/write")
}
