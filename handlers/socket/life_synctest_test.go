package socket

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"godwit/internal/pipe"
	"godwit/server/session"
)

// running is a handler whose wheel turns until end, which says how long that took.
func running(node Node) (h *Handler, end func() time.Duration) {
	h = New(Config{HelloTimeout: 10 * time.Second, Ping: 20 * time.Second, MaxFrame: 65536, Outbox: 1 << 20},
		node, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	return h, func() time.Duration {
		began := time.Now()
		cancel()
		<-done
		return time.Since(began)
	}
}

// closeCode reads up to the close frame.
func closeCode(t *testing.T, in *bufio.Reader) uint16 {
	t.Helper()
	for {
		if first, payload := readServerFrame(t, in); first == 0x80|opClose {
			return binary.BigEndian.Uint16(payload)
		}
	}
}

// noHijack is an HTTP/2 answer, so to speak, or a connection that is gone.
type noHijack struct{ *httptest.ResponseRecorder }

func (noHijack) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, errors.New("gone") }

func TestHandler_WhoIsRefusedAfterBeingAdmittedHasLeft(t *testing.T) {
	for _, c := range []struct {
		name   string
		writer func(net.Conn) http.ResponseWriter
		change func(http.Header)
	}{
		{"origin", func(net.Conn) http.ResponseWriter { return httptest.NewRecorder() }, func(h http.Header) { h.Set("Origin", "https://evil.test") }},
		{"no hijacker", func(net.Conn) http.ResponseWriter { return httptest.NewRecorder() }, func(http.Header) {}},
		{"gone", func(net.Conn) http.ResponseWriter { return noHijack{httptest.NewRecorder()} }, func(http.Header) {}},
		{"no version", func(c net.Conn) http.ResponseWriter { return hijacked{httptest.NewRecorder(), c} }, func(h http.Header) { h.Del("Sec-WebSocket-Version") }},
		{"no key", func(c net.Conn) http.ResponseWriter { return hijacked{httptest.NewRecorder(), c} }, func(h http.Header) { h.Del("Sec-WebSocket-Key") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				node := &porter{}
				h, end := running(node)
				ours, theirs := pipe.New()
				r := handshake()
				c.change(r.Header)
				h.ServeHTTP(c.writer(theirs), r)
				ours.Close()
				theirs.Close()
				end()
				if in, out := node.in.Load(), node.out.Load(); in != 1 || out != 1 || h.Stats.Open.Load() != 0 {
					t.Errorf("%d admitted, %d left, %d open; want 1, 1, 0", in, out, h.Stats.Open.Load())
				}
			})
		})
	}
}

// The bubble ends only if every goroutine does.
func TestHandler_ManySocketsThatComeAndGoLeaveNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := &porter{}
		h, end := running(node)
		ways := []func(*pipe.Conn){
			func(c *pipe.Conn) { c.Close() },
			func(c *pipe.Conn) { c.CloseWrite() },
			func(c *pipe.Conn) { c.Write(clientFrame(opClose, []byte{3, 232})) },
			func(c *pipe.Conn) { c.Write(clientFrame(opText, []byte(helloAnn))) },
			func(c *pipe.Conn) { c.Write(clientFrame(0x2, []byte{1})) },
			func(c *pipe.Conn) { c.Write([]byte{0x81}) },
			func(*pipe.Conn) {}, // says nothing
		}
		const n = 300
		for i := range n {
			ours, _ := upgradeOver(t, h, nil)
			ways[i%len(ways)](ours)
			t.Cleanup(func() { ours.Close() })
		}
		time.Sleep(15 * time.Second) // past the hello timeout and the lingering
		h.mu.Lock()
		left := len(h.conns)
		h.mu.Unlock()
		if left != 0 || h.Stats.Open.Load() != 0 || node.in.Load() != n || node.out.Load() != n {
			t.Errorf("%d of %d known, %d open, %d admitted, %d left", left, n, h.Stats.Open.Load(), node.in.Load(), node.out.Load())
		}
		if got, want := h.Stats.NoHello.Load(), uint64(n/len(ways)*2); got < want-1 || got > want+2 {
			t.Errorf("%d closed for no hello, want about %d: those with a byte and those with none", got, want)
		}
		end()
	})
}

func TestHandler_ItsEndTellsEverySocketAndWaitsForNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, end := running(&porter{})
		polite, in := upgradeOver(t, h, nil)
		stuck, _ := upgradeOver(t, h, nil)
		synctest.Wait()
		for _, c := range h.open() { // more than the pipe holds, for one that never reads
			c.box.put(text(answer, strings.Repeat("x", pipe.Buffer)))
		}
		got := make(chan uint16, 1)
		go func() { got <- closeCode(t, in) }()
		took := end()
		if code := <-got; code != 1012 {
			t.Errorf("closed %d, want 1012", code)
		}
		if took > lastWords+stallStep {
			t.Errorf("it took %s, want at most %s", took, lastWords+stallStep)
		}
		polite.Close()
		stuck.Close()
	})
}

func TestSocket_APanicInARequestEndsOnlyItsSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, end := running(&porter{login: func(session.Socket) session.Reply { panic("a bug") }})
		bad, badIn := upgradeOver(t, h, nil)
		good, goodIn := upgradeOver(t, h, nil)
		bad.Write(clientFrame(opText, []byte(helloAnn)))
		if code := closeCode(t, badIn); code != 1011 || h.Stats.Panics.Load() != 1 {
			t.Errorf("closed %d with %d panics counted, want 1011 and 1", code, h.Stats.Panics.Load())
		}
		good.Write(clientFrame(opPing, []byte("still there?")))
		if first, payload := readServerFrame(t, goodIn); first != 0x80|opPong || string(payload) != "still there?" {
			t.Errorf("its neighbour got %x %q, want the pong", first, payload)
		}
		bad.Close()
		good.Close()
		end()
	})
}

func TestOutbox_APeerThatTakesAByteNowAndThenIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := pipe.New()
		var stats Stats
		o := newOutbox(ours, 1<<20, newPost(), &stats)
		o.put(text(answer, strings.Repeat("x", 2*pipe.Buffer)))
		for i := range 20 {
			time.Sleep(stallAfter - 2*stallStep)
			if _, err := io.ReadFull(theirs, make([]byte, 1)); err != nil {
				t.Fatalf("byte %d: %v", i, err)
			}
		}
		last := time.Now()
		o.writer.Wait()
		if took := time.Since(last); took < stallAfter || took > stallAfter+stallStep {
			t.Errorf("given up %s after the last byte, want %s, give or take %s", took, stallAfter, stallStep)
		}
		if n := stats.EvictedStuck.Load(); n != 1 {
			t.Errorf("%d counted as stuck, want 1", n)
		}
		theirs.Close()
	})
}

// What is left of the deadline of the write before is not all the time that it has.
func TestOutbox_APeerThatTakesNothingHasItsTimeWheneverItBegan(t *testing.T) {
	for _, before := range []time.Duration{0, stallStep / 4, stallStep / 2, stallStep, 2 * stallStep} {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := pipe.New()
			o := newOutbox(ours, 1<<20, newPost(), new(Stats))
			o.put(text(answer, "taken"))
			time.Sleep(before)
			began := time.Now()
			o.put(text(answer, strings.Repeat("x", 2*pipe.Buffer)))
			o.writer.Wait()
			// What the pipe holds was taken in the first step.
			if took := time.Since(began); took < stallAfter || took > stallAfter+2*stallStep {
				t.Errorf("%s after another write it was given up after %s, want %s", before, took, stallAfter)
			}
			theirs.Close()
		})
	}
}
