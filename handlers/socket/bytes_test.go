package socket

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"godwit/internal/pipe"
	"godwit/server/session"
	"godwit/wire"
)

// porter is a node that counts who is let in and who has left, and whose Login
// is the test's.
type porter struct {
	in, out, logins atomic.Int64
	login           func(session.Socket) session.Reply // nil: everyone is refused
}

func (p *porter) Admit() *session.Refusal { p.in.Add(1); return nil }
func (p *porter) Left()                   { p.out.Add(1) }

func (p *porter) Login(_ context.Context, sock session.Socket, _ string, _ jsontext.Value) (*session.Session, session.Reply) {
	p.logins.Add(1)
	if p.login != nil {
		return nil, p.login(sock)
	}
	return nil, session.Reply{
		Err:   wire.Errorf(wire.Unauthorized, "nobody comes in"),
		After: func() { sock.Close(wire.CloseUnauthorized, "nobody comes in") },
	}
}

// hijacked is the answer of an HTTP server that gives its connection away.
type hijacked struct {
	*httptest.ResponseRecorder
	conn net.Conn
}

func (w hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) { return w.conn, nil, nil }

// handshake is a request for a websocket.
func handshake() *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/v1/ws", nil)
	for k, v := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket",
		"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
	} {
		r.Header.Set(k, v)
	}
	return r
}

// upgradeOver opens a websocket over a pipe, and returns the client's end past
// the handshake. The handler's wheel need not turn.
func upgradeOver(t testing.TB, h *Handler, header http.Header) (*pipe.Conn, *bufio.Reader) {
	t.Helper()
	ours, theirs := pipe.New()
	r := handshake()
	maps.Copy(r.Header, header)
	h.ServeHTTP(hijacked{httptest.NewRecorder(), theirs}, r)
	in := bufio.NewReader(ours)
	res, err := http.ReadResponse(in, r)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: %s", res.Status)
	}
	return ours, in
}

// clientFrame is one whole frame of a client, masked with zeros.
func clientFrame(op byte, payload []byte) []byte {
	b := []byte{0x80 | op}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

// A client may send any bytes: its socket is served or closed, and what it is
// told is whole frames, the close frame last.
func FuzzBytes(f *testing.F) {
	f.Add(clientFrame(opText, []byte(helloAnn)))
	f.Add(append(clientFrame(opPing, []byte("x")), clientFrame(opClose, []byte{3, 232})...))
	f.Add(clientFrame(0x2, []byte{1}))
	f.Add(clientFrame(opText, []byte{0xff}))
	f.Add([]byte{0x01, 0x81, 0, 0, 0, 0, '{', 0x80, 0x81, 0, 0, 0, 0, '}'}) // in two fragments
	f.Add([]byte{0x81, 0xff, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0})           // a length past the limit
	f.Add([]byte{0xf1, 0x05, 'h'})                                          // reserved bits, no mask
	var log strings.Builder                                                 // errors alone; written by one socket at a time
	node := &porter{}
	h := New(Config{MaxFrame: 65536, Outbox: 1 << 20, Compress: true}, node,
		slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError})))
	f.Fuzz(func(t *testing.T, sent []byte) {
		sent = sent[:min(len(sent), pipe.Buffer)] // what is taken at once
		ours, in := upgradeOver(t, h, http.Header{"Sec-Websocket-Extensions": {"permessage-deflate"}})
		defer ours.Close()
		if _, err := ours.Write(sent); err != nil {
			t.Fatal(err)
		}
		ours.CloseWrite()
		said, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		h.readers.Wait()
		r, closed := bytes.NewReader(said), false
		for r.Len() > 0 {
			if closed {
				t.Fatalf("%x: after the close frame came %d bytes", sent, r.Len())
			}
			first, payload := readServerFrame(t, r)
			closed = first == 0x80|opClose
			if first == 0x80|opText && !jsontext.Value(payload).IsValid() {
				t.Fatalf("%x is answered %q", sent, payload)
			}
		}
		if !closed {
			t.Fatalf("%x: no close frame after %x", sent, said)
		}
		if strings.Contains(log.String(), "panic in a request") {
			t.Fatalf("%x: %s", sent, log.String())
		}
		log.Reset()
		if n := h.Stats.Open.Load(); n != 0 || node.in.Load() != node.out.Load() {
			t.Fatalf("%x: %d sockets open, %d let in, %d left", sent, n, node.in.Load(), node.out.Load())
		}
	})
}

func TestSubprotocol_IsSelectedWhereverItIsOffered(t *testing.T) {
	h := New(Config{MaxFrame: 65536, Outbox: 1 << 20}, &porter{}, slog.New(slog.DiscardHandler))
	for _, c := range []struct {
		name    string
		offered []string
		want    string
	}{
		{"alone", []string{"godwit.v1"}, "godwit.v1"},
		{"behind another", []string{"x, godwit.v1"}, "godwit.v1"},
		{"in a second line", []string{"x", "godwit.v1,y"}, "godwit.v1"},
		{"another", []string{"x"}, ""},
		{"none", nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			ours, theirs := pipe.New()
			defer ours.Close()
			r := handshake()
			for _, line := range c.offered {
				r.Header.Add("Sec-WebSocket-Protocol", line)
			}
			h.ServeHTTP(hijacked{httptest.NewRecorder(), theirs}, r)
			res, err := http.ReadResponse(bufio.NewReader(ours), r)
			if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
				t.Fatalf("%+v, %v", res, err)
			}
			if got := res.Header.Get("Sec-WebSocket-Protocol"); got != c.want {
				t.Errorf("selected %q, want %q", got, c.want)
			}
		})
	}
	h.readers.Wait()
}
