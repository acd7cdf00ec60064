package socket

import (
	"encoding/binary"
	"io"
	"log/slog"
	"testing"

	"godwit/wire"
)

// 64 bits of length with the highest one set is what no frame may have, and
// what gws reads as less than nothing.
func TestSocket_ALengthPast2To63EndsOnlyItsSocket(t *testing.T) {
	for name, length := range map[string][]byte{
		"2^63": {0x80, 0, 0, 0, 0, 0, 0, 0}, "2^64-1": {255, 255, 255, 255, 255, 255, 255, 255},
	} {
		t.Run(name, func(t *testing.T) {
			h := New(Config{MaxFrame: 65536, Outbox: 1 << 20}, &porter{}, slog.New(slog.DiscardHandler))
			ours, in := upgradeOver(t, h, nil)
			defer ours.Close()
			ours.Write(append(append([]byte{0x81, 0xff}, length...), 1, 2, 3, 4))
			ours.CloseWrite()
			if first, _ := readServerFrame(t, in); first != 0x80|opClose {
				t.Errorf("got a frame %x, want a close frame", first)
			}
			h.readers.Wait()
			if n := h.Stats.Open.Load(); n != 0 {
				t.Errorf("%d sockets open, want none", n)
			}
		})
	}
}

// What came in one packet with the frame that ended the socket is read already.
func TestSocket_WhatIsBehindTheFrameThatEndedItIsNotServed(t *testing.T) {
	for name, first := range map[string][]byte{
		"binary": clientFrame(0x2, []byte{1}), "no login": clientFrame(opText, []byte(`{}`)),
		"refused login": clientFrame(opText, []byte(helloAnn)),
	} {
		t.Run(name, func(t *testing.T) {
			node := &porter{}
			h := New(Config{MaxFrame: 65536, Outbox: 1 << 20}, node, slog.New(slog.DiscardHandler))
			ours, in := upgradeOver(t, h, nil)
			defer ours.Close()
			ours.Write(append(first, clientFrame(opText, []byte(helloAnn))...))
			ours.CloseWrite()
			if _, err := io.ReadAll(in); err != nil {
				t.Fatal(err)
			}
			h.readers.Wait()
			want := int64(0)
			if name == "refused login" {
				want = 1
			}
			if got := node.logins.Load(); got != want {
				t.Errorf("%d logins, want %d", got, want)
			}
		})
	}
}

// A close is answered with its code, and one that is lost with nothing but the close
// that says so: 1000 would end the session.
func TestSocket_WhatClosesItIsAnswered(t *testing.T) {
	for name, c := range map[string]struct {
		says []byte // before the way in ends
		code wire.CloseCode
	}{
		"1000 with a reason": {clientFrame(opClose, append([]byte{3, 232}, "done"...)), 1000},
		"4001 with a reason": {clientFrame(opClose, append([]byte{15, 161}, "done"...)), 4001},
		"half a frame":       {clientFrame(opPing, []byte("x"))[:4], wire.CloseGoingAway},
		"nothing":            {nil, wire.CloseGoingAway},
	} {
		t.Run(name, func(t *testing.T) {
			h := New(Config{MaxFrame: 65536, Outbox: 1 << 20}, &porter{}, slog.New(slog.DiscardHandler))
			ours, in := upgradeOver(t, h, nil)
			defer ours.Close()
			ours.Write(c.says)
			ours.CloseWrite()
			first, payload := readServerFrame(t, in)
			if first != 0x80|opClose || len(payload) < 2 || wire.CloseCode(binary.BigEndian.Uint16(payload)) != c.code {
				t.Errorf("got a frame %x with %q, want a close with %d", first, payload, c.code)
			}
			h.readers.Wait()
		})
	}
}
