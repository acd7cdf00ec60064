package socket

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"godwit/wire"
)

// dripping is a connection of which each read finds the next piece of what its peer
// says. Its reader has the fields until it says that all was said.
type dripping struct {
	*net.TCPConn
	peer   *net.TCPConn
	pieces [][]byte
	idle   chan struct{} // cap 1: all was said and read, and the next read waits

	said   []byte
	rested []bool   // of each read: it was waited for outside of gws
	pongs  []string // taken so far
	wrong  []string
}

func (d *dripping) SyscallConn() (syscall.RawConn, error) {
	raw, err := d.TCPConn.SyscallConn()
	return drops{raw, d}, err
}

type drops struct {
	syscall.RawConn
	d *dripping
}

func (r drops) Read(f func(fd uintptr) bool) error {
	r.d.next(!calledBy("gws."))
	return r.RawConn.Read(f)
}

// next says what the next read is to find. Who rests has answered all that was said.
func (d *dripping) next(rests bool) {
	if d.pieces == nil {
		return
	}
	if d.rested == nil {
		d.skipHandshake()
	}
	d.rested = append(d.rested, rests)
	for want := pings(d.said); rests && len(d.pongs) < len(want); {
		got, err := pong(d.peer)
		if err != nil {
			d.wrong = append(d.wrong, fmt.Sprintf("it rests, and has not answered %q: %v", want[len(d.pongs)], err))
			break
		}
		d.pongs = append(d.pongs, got)
	}
	if len(d.pieces) == 0 {
		d.pieces = nil
		d.idle <- struct{}{}
		return
	}
	d.said = append(d.said, d.pieces[0]...)
	d.peer.Write(d.pieces[0])
	d.pieces = d.pieces[1:]
}

// skipHandshake reads the answer to it, and not a byte more.
func (d *dripping) skipHandshake() {
	var got []byte
	for b := make([]byte, 1); !bytes.HasSuffix(got, []byte("\r\n\r\n")); got = append(got, b[0]) {
		if _, err := d.peer.Read(b); err != nil {
			d.wrong = append(d.wrong, fmt.Sprint("no answer to the handshake: ", err))
			return
		}
	}
}

// pong reads a short frame of the server's, which is to be one.
func pong(conn net.Conn) (payload string, err error) {
	head := make([]byte, 2)
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	defer conn.SetReadDeadline(time.Time{})
	if _, err := io.ReadFull(conn, head); err != nil {
		return "", err
	}
	b := make([]byte, head[1])
	if _, err := io.ReadFull(conn, b); err != nil {
		return "", err
	}
	if head[0] != 0x80|opPong {
		return "", fmt.Errorf("frame %x with %q", head[0], b)
	}
	return string(b), nil
}

// pings are the payloads of the whole pings among short frames of a client.
func pings(said []byte) (payloads []string) {
	for len(said) >= 6 {
		n := 6 + int(said[1]&0x7f)
		if len(said) < n {
			break
		}
		if said[0]&0xf == opPing {
			payloads = append(payloads, string(said[6:n]))
		}
		said = said[n:]
	}
	return payloads
}

// calledBy says whether one of the callers has this in its name.
func calledBy(name string) bool {
	pcs := make([]uintptr, 50)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for f, more := frames.Next(); more; f, more = frames.Next() {
		if strings.Contains(f.Function, name) {
			return true
		}
	}
	return false
}

// drip has a handler take a connection that reads the pieces, and returns when they
// are read.
func drip(t *testing.T, h *Handler, pieces ...[]byte) *dripping {
	t.Helper()
	conn, peer := connected(t)
	d := &dripping{TCPConn: conn, peer: peer, pieces: append([][]byte{}, pieces...), idle: make(chan struct{}, 1)}
	h.ServeHTTP(hijacked{httptest.NewRecorder(), d}, handshake())
	<-d.idle
	for _, wrong := range d.wrong {
		t.Error(wrong)
	}
	return d
}

// ended is what the peer is told until it is told why the socket is closed.
func (d *dripping) ended(t *testing.T) (pongs []string, code wire.CloseCode) {
	t.Helper()
	d.peer.SetReadDeadline(time.Now().Add(5 * time.Second))
	for {
		switch first, payload := readServerFrame(t, d.peer); first {
		case 0x80 | opPong:
			pongs = append(pongs, string(payload))
		case 0x80 | opClose:
			d.peer.Close() // it lingers no longer
			return pongs, wire.CloseCode(binary.BigEndian.Uint16(payload))
		}
	}
}

func TestReader_RestsWhereNothingElseWasRead(t *testing.T) {
	var (
		ping, pong = clientFrame(opPing, nil), clientFrame(opPong, nil)
		long       = clientFrame(opPing, []byte("longer than what gws reads ahead"))
		all        = func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	)
	for name, c := range map[string]struct {
		pieces [][]byte
		rested []bool // before the read of each piece, and of what follows
	}{
		"nothing said":              {nil, []bool{true}},
		"a pong":                    {[][]byte{pong}, []bool{true, true}},
		"a ping":                    {[][]byte{ping}, []bool{true, true}},
		"pong by pong":              {[][]byte{pong, pong}, []bool{true, true, true}},
		"with a payload":            {[][]byte{long}, []bool{true, true}},
		"two at once":               {[][]byte{all(pong, ping)}, []bool{true, true}},
		"more than gws reads ahead": {[][]byte{all(ping, long, ping)}, []bool{true, true}},
		"half a one":                {[][]byte{ping[:3], ping[3:]}, []bool{true, false, true}},
		"half a one behind":         {[][]byte{all(pong, ping[:3]), ping[3:]}, []bool{true, false, true}},
		"its end and some":          {[][]byte{ping[:3], all(ping[3:], pong[:3]), pong[3:]}, []bool{true, false, false, true}},
		"its end and a whole one":   {[][]byte{ping[:3], all(ping[3:], ping)}, []bool{true, false, true}},
	} {
		t.Run(name, func(t *testing.T) {
			h := New(Config{MaxFrame: 65536, Outbox: 1 << 20}, &porter{}, slog.New(slog.DiscardHandler))
			d := drip(t, h, c.pieces...)
			if !slices.Equal(d.rested, c.rested) {
				t.Errorf("rested before its reads: %t, want %t", d.rested, c.rested)
			}
			d.peer.Close()
			h.readers.Wait()
		})
	}
}

// However what it says is cut, a client's pings are all answered, in their order, and
// before its reader rests.
func TestReader_SeesAllFramesHoweverTheyCome(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var said []byte
		for range rapid.IntRange(1, pongsAhead).Draw(rt, "frames") {
			payload := rapid.SampledFrom([]string{"", "", "a", "bcd", strings.Repeat("e", 20)}).Draw(rt, "payload")
			op := rapid.SampledFrom([]byte{opPing, opPong}).Draw(rt, "op")
			said = append(said, clientFrame(op, []byte(payload))...)
		}
		want := pings(said)
		var pieces [][]byte
		for len(said) > 0 {
			n := min(len(said), rapid.IntRange(1, 40).Draw(rt, "piece"))
			pieces, said = append(pieces, said[:n]), said[n:]
		}
		h := New(Config{MaxFrame: 65536, Outbox: 1 << 20}, &porter{}, slog.New(slog.DiscardHandler))
		d := drip(t, h, pieces...)
		d.peer.CloseWrite()
		got, code := d.ended(t)
		if got = append(d.pongs, got...); !slices.Equal(got, want) || len(d.wrong) > 0 || code != wire.CloseGoingAway {
			rt.Fatalf("answered %q, closed %d, want %q, 1001", got, code, want)
		}
		h.readers.Wait()
	})
}

// Between two fragments of a message a ping may come, and the reader rests.
func TestReader_RestsInsideAMessage(t *testing.T) {
	const fin = 0x80
	hello := clientFrame(opText, []byte(helloAnn))
	begin := clientFrame(opText, []byte(helloAnn[:10]))
	begin[0] &^= fin
	end := clientFrame(0, []byte(helloAnn[10:]))
	for name, pieces := range map[string][][]byte{
		"after one":      {clientFrame(opPing, nil), hello},
		"inside, by one": {begin, clientFrame(opPing, nil), end},
		"at once":        {slices.Concat(begin, clientFrame(opPing, nil)), end},
	} {
		t.Run(name, func(t *testing.T) {
			node := &porter{}
			h := New(Config{MaxFrame: 65536, Outbox: 1 << 20}, node, slog.New(slog.DiscardHandler))
			d := drip(t, h, pieces[:len(pieces)-1]...)
			if rested := d.rested[len(d.rested)-1]; !rested {
				t.Error("it does not rest after the ping")
			}
			d.peer.Write(pieces[len(pieces)-1])
			if _, code := d.ended(t); code != wire.CloseUnauthorized || node.logins.Load() != 1 {
				t.Errorf("closed %d after %d logins, want 4300 after 1", code, node.logins.Load())
			}
			h.readers.Wait()
		})
	}
}

// Whoever ends a socket that rests, the peer is told so, and it has left once.
func TestReader_WhoRestsCanBeEnded(t *testing.T) {
	for name, c := range map[string]struct {
		end    func(d *dripping, c *Conn, node func())
		code   wire.CloseCode
		panics uint64
	}{
		"closed":            {func(_ *dripping, c *Conn, _ func()) { c.Close(wire.CloseReplaced, "another") }, wire.CloseReplaced, 0},
		"its session ends":  {func(_ *dripping, c *Conn, _ func()) { c.End(wire.CloseBye, "the end") }, wire.CloseBye, 0},
		"the node ends":     {func(_ *dripping, _ *Conn, node func()) { node() }, wire.CloseRestart, 0},
		"the peer hangs up": {func(d *dripping, _ *Conn, _ func()) { d.peer.CloseWrite() }, wire.CloseGoingAway, 0},
		"the peer closes":   {func(d *dripping, _ *Conn, _ func()) { d.peer.Write(clientFrame(opClose, []byte{3, 232})) }, wire.CloseBye, 0},
		"of another kind":   {func(d *dripping, _ *Conn, _ func()) { d.peer.Write(clientFrame(opBinary, []byte{1})) }, wire.CloseBinary, 0},
		"a length past 2^63": {func(d *dripping, _ *Conn, _ func()) {
			d.peer.Write(slices.Concat([]byte{0x81, 0xff}, bytes.Repeat([]byte{0xff}, 12)))
		}, wire.CloseTooBig, 1},
	} {
		t.Run(name, func(t *testing.T) {
			node := &porter{}
			h, end := running(node)
			over := sync.OnceFunc(func() { end() })
			d := drip(t, h, clientFrame(opPing, []byte("there?")))
			if !slices.Equal(d.rested, []bool{true, true}) {
				t.Fatalf("rested: %t", d.rested)
			}
			told := make(chan struct{})
			go func() { // waited for by told
				defer close(told)
				c.end(d, h.open()[0], over)
			}()
			if _, code := d.ended(t); code != c.code {
				t.Errorf("closed %d, want %d", code, c.code)
			}
			<-told
			over()
			if open, in, out, panics := h.Stats.Open.Load(), node.in.Load(), node.out.Load(), h.Stats.Panics.Load(); open != 0 || in != 1 || out != 1 || panics != c.panics {
				t.Errorf("%d open, %d admitted, %d left, %d panics; want 0, 1, 1, %d", open, in, out, panics, c.panics)
			}
		})
	}
}
