package socket

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"
)

// BenchmarkFrame is one item as the bytes that are written for it.
func BenchmarkFrame(b *testing.B) {
	for _, size := range []int{100, 1000, 10_000} {
		for _, compress := range []bool{false, true} {
			if compress && size < compressFrom {
				continue
			}
			b.Run(fmt.Sprintf("%dB/deflate=%t", size, compress), func(b *testing.B) {
				it := text(live, strings.Repeat(`{"user":"ann","data":"words"} `, size/30+1)[:size])
				var buf []byte
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for b.Loop() {
					buf = appendFrame(buf[:0], it, compress)
				}
			})
		}
	}
}

// BenchmarkOutbox_Burst is many events that wait while one write is under way:
// what joining them costs for each burst.
func BenchmarkOutbox_Burst(b *testing.B) {
	const burst = 200
	o, g, r := newBox(b, 1<<30)
	it := text(live, strings.Repeat("x", 200))
	b.ReportAllocs()
	for b.Loop() {
		g.gate.Lock()
		for range burst {
			o.put(it)
		}
		g.gate.Unlock()
		for range burst {
			if _, err := r.Discard(len(it.payload) + 4); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(o.stats.FramesOut.Load())/float64(max(1, o.stats.Writes.Load())), "frames/write")
}

// BenchmarkOutbox_Socket is events that are written to a real socket, system call
// and all: one by itself, and some that wait together.
func BenchmarkOutbox_Socket(b *testing.B) {
	for _, n := range []int{1, 16, 200} {
		b.Run(fmt.Sprintf("%d at once", n), func(b *testing.B) {
			o := onSocket(b)
			it := text(live, strings.Repeat("x", 200))
			b.ReportAllocs()
			for b.Loop() {
				putAll(o, it, n)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/frame")
			b.ReportMetric(float64(o.stats.FramesOut.Load())/float64(max(1, o.stats.Writes.Load())), "frames/write")
		})
	}
}

// putAll puts an item so often, and returns when all is written.
func putAll(o *outbox, it item, n int) {
	for range n {
		o.put(it)
	}
	o.writer.Wait()
}

// onSocket is an outbox of a TCP connection whose other end reads all.
func onSocket(t testing.TB) *outbox {
	conn, reader := connected(t)
	done := make(chan struct{})
	go func() { // waited for by done
		defer close(done)
		_, _ = io.Copy(io.Discard, reader) // until conn ends
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	return newOutbox(conn, 1<<30, newPost(), &Stats{})
}

// What allocates for each event would make garbage with each delivery. A bound far
// from what there is: the carrier, and what a runtime does besides.
func TestOutbox_AnEventAllocatesNothing(t *testing.T) {
	const events = 200
	o := onSocket(t)
	it := text(live, strings.Repeat("x", 200))
	if n := testing.AllocsPerRun(50, func() { putAll(o, it, events) }); n > events/4 {
		t.Errorf("%.0f allocations for %d events, want none for each", n, events)
	}
}

// BenchmarkSocket_Idle is what the readers of sockets that wait hold of stack, once the
// garbage collector has been by: 4 KB where the last was a message, 2 KB where it was a
// ping, or a pong. It fails where that is more: see Conn.run. (Not a test, for tests run with the
// race detector, which takes more.)
func BenchmarkSocket_Idle(b *testing.B) {
	b.Run("spoke", func(b *testing.B) { idle(b, false, 4<<10) })
	b.Run("pinged", func(b *testing.B) { idle(b, true, 2<<10) })
}

// idle has sockets say a message, and perhaps a ping, and wait.
func idle(b *testing.B, ping bool, want float64) {
	const sockets = 500
	srv, _ := start(b, nil)
	hello := clientFrame(opText, []byte(helloAnn))
	collect()
	before := stacks()
	for range sockets {
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		r := handshake()
		r.Host = "node"
		if err := r.Write(conn); err != nil {
			b.Fatal(err)
		}
		in := bufio.NewReader(conn)
		if res, err := http.ReadResponse(in, r); err != nil || res.StatusCode != http.StatusSwitchingProtocols {
			b.Fatal(res, err)
		}
		if _, err := conn.Write(hello); err != nil {
			b.Fatal(err)
		}
		readServerFrame(b, in) // the answer: it has read a message
		if !ping {
			continue
		}
		if _, err := conn.Write(clientFrame(opPing, nil)); err != nil {
			b.Fatal(err)
		}
		for first := byte(0); first != 0x80|opPong; {
			first, _ = readServerFrame(b, in)
		}
	}
	for b.Loop() {
		collect()
	}
	each := (stacks() - before) / sockets
	b.ReportMetric(each, "stack-B/socket")
	if each > want+512 {
		b.Errorf("a socket that waits holds %.0f B of stack, want %.0f and little more", each, want)
	}
}

// collect shrinks stacks as far as it goes: each time halves one.
func collect() {
	for range 4 {
		runtime.GC()
	}
}

// stacks is the memory of all stacks, in bytes.
func stacks() float64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(s)
	return float64(s[0].Value.Uint64())
}
