package socket

import (
	"log/slog"
	"net"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"
)

// dripping is a connection of which each read finds the next piece of what its peer
// says, and the last one the end.
type dripping struct {
	*net.TCPConn
	peer   *net.TCPConn
	pieces [][]byte
	ended  bool   // the end was read
	rested []bool // of each read: it was waited for outside of gws
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
	d := r.d
	if d.ended { // who rested reads the end once more
		return r.RawConn.Read(f)
	}
	d.rested = append(d.rested, !calledBy("gws."))
	if len(d.pieces) == 0 {
		d.ended = true
		d.peer.CloseWrite()
	} else {
		d.peer.Write(d.pieces[0])
		d.pieces = d.pieces[1:]
	}
	return r.RawConn.Read(f)
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

// drip has a socket read the pieces. It says what pings were answered, in their order,
// and which reads had rested before.
func drip(t *testing.T, fatal func(...any), pieces ...[]byte) (pongs []string, rested []bool) {
	conn, peer := connected(t)
	defer peer.Close()
	d := &dripping{TCPConn: conn, peer: peer, pieces: pieces}
	h := New(Config{MaxFrame: 65536, Outbox: 1 << 20}, &porter{}, slog.New(slog.DiscardHandler))
	h.ServeHTTP(hijacked{httptest.NewRecorder(), d}, handshake())
	readHandshake(fatal, peer)
	for {
		first, payload := readServerFrame(t, peer)
		if first == 0x80|opClose {
			break
		}
		if first != 0x80|opPong {
			fatal("a frame that is no pong:", first)
		}
		pongs = append(pongs, string(payload))
	}
	peer.Close() // it lingers no longer
	h.readers.Wait()
	return pongs, d.rested
}

// readHandshake takes the answer to an upgrade, and not a byte more.
func readHandshake(fatal func(...any), peer net.Conn) {
	var got []byte
	for b := make([]byte, 1); !strings.HasSuffix(string(got), "\r\n\r\n"); got = append(got, b[0]) {
		if _, err := peer.Read(b); err != nil {
			fatal(err)
		}
	}
}

func TestReader_RestsWhereNothingElseWasRead(t *testing.T) {
	var (
		ping, pong = clientFrame(opPing, nil), clientFrame(opPong, nil)
		named      = clientFrame(opPing, []byte("n"))
		all        = func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	)
	for name, c := range map[string]struct {
		pieces [][]byte
		rested []bool // of the read of each piece, and of the end
	}{
		"nothing said":               {nil, []bool{true}},
		"a pong":                     {[][]byte{pong}, []bool{true, true}},
		"a ping":                     {[][]byte{ping}, []bool{true, true}},
		"pong by pong":               {[][]byte{pong, pong}, []bool{true, true, true}},
		"two at once":                {[][]byte{all(pong, pong)}, []bool{true, false}},
		"with a payload":             {[][]byte{named}, []bool{true, false}},
		"and then without":           {[][]byte{named, pong}, []bool{true, false, true}},
		"a whole one behind":         {[][]byte{all(pong, ping), pong}, []bool{true, false, true}},
		"half a one behind":          {[][]byte{all(pong, ping[:3]), ping[3:]}, []bool{true, false, true}},
		"its end and some":           {[][]byte{ping[:3], all(ping[3:], pong[:3]), pong[3:]}, []bool{true, false, true, true}},
		"its end and a whole one":    {[][]byte{ping[:3], all(ping[3:], pong)}, []bool{true, false, false}},
		"its end and all but a byte": {[][]byte{ping[:5], all(ping[5:], pong[:5]), pong[5:]}, []bool{true, false, true, true}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, rested := drip(t, t.Fatal, c.pieces...); !slices.Equal(rested, c.rested) {
				t.Errorf("rested before its reads: %t, want %t", rested, c.rested)
			}
		})
	}
}

// However what it says is cut, a client's pings are all answered in their order.
func TestReader_SeesAllFramesHoweverTheyCome(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var said []byte
		var want []string
		for range rapid.IntRange(1, pongsAhead).Draw(rt, "frames") {
			payload := rapid.SampledFrom([]string{"", "", "a", "bcd", strings.Repeat("e", 20)}).Draw(rt, "payload")
			op := rapid.SampledFrom([]byte{opPing, opPong}).Draw(rt, "op")
			said = append(said, clientFrame(op, []byte(payload))...)
			if op == opPing {
				want = append(want, payload)
			}
		}
		var pieces [][]byte
		for len(said) > 0 {
			n := min(len(said), rapid.IntRange(1, 14).Draw(rt, "piece"))
			pieces, said = append(pieces, said[:n]), said[n:]
		}
		if got, _ := drip(t, rt.Fatal, pieces...); !slices.Equal(got, want) {
			rt.Fatalf("answered %q, want %q", got, want)
		}
	})
}
