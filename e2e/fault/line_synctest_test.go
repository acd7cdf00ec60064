package fault

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"godwit/internal/pipe"
)

const (
	hi     = "GET / HTTP/1.1\r\n\r\n"
	hello  = "HTTP/1.1 101 ok\r\n\r\n"
	offers = `{"jsonrpc":"2.0","method":"redirect","params":{}}`
)

// text is a frame of text; a client's is masked.
func text(s string, masked bool) []byte {
	b := []byte{0x81}
	switch n := len(s); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	if !masked {
		return append(b, s...)
	}
	mask := []byte{1, 2, 3, 4}
	b[1] |= 0x80
	b = append(b, mask...)
	for i := range len(s) {
		b = append(b, s[i]^mask[i%4])
	}
	return b
}

// ends are those of one socket over a line, upgraded.
type ends struct{ client, node net.Conn }

// onLine is a line and what its nodes accept.
func onLine(t *testing.T, test func(t *testing.T, l *Line, dial func() ends)) {
	synctest.Test(t, func(t *testing.T) {
		nodes := make(chan net.Conn, 1)
		l := NewLine(func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := pipe.New()
			nodes <- theirs
			return ours, nil
		})
		test(t, l, func() ends {
			client, err := l.Dial(t.Context(), "tcp", "n1:80")
			if err != nil {
				t.Fatal(err)
			}
			e := ends{client, <-nodes}
			send(t, e.client, hi)
			send(t, e.node, hello)
			arrives(t, e.node, hi)
			arrives(t, e.client, hello)
			return e
		})
		l.Close()
	})
}

func send(t *testing.T, c net.Conn, what string) {
	t.Helper()
	if _, err := io.WriteString(c, what); err != nil {
		t.Fatal(err)
	}
}

func arrives(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("%q arrives, %v, want %q", got, err, want)
	}
}

// silent expects no byte, and an end if the socket was cut.
func silent(t *testing.T, c net.Conn, cut bool) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	n, err := c.Read(make([]byte, 1))
	if n != 0 || errors.Is(err, os.ErrDeadlineExceeded) == cut {
		t.Fatalf("%d bytes, %v; cut: %t", n, err, cut)
	}
}

func TestLine_PassesFramesWhateverPiecesTheyComeIn(t *testing.T) {
	for _, piece := range []int{1, 7, 1 << 20} {
		onLine(t, func(t *testing.T, l *Line, dial func() ends) {
			e := dial()
			var up, down []byte
			for _, n := range []int{0, 5, 125, 126, 300, 70_000} {
				s := strings.Repeat("x", n)
				up, down = append(up, text(s, true)...), append(down, text(s, false)...)
			}
			for _, way := range []struct {
				from, to net.Conn
				all      []byte
			}{{e.client, e.node, up}, {e.node, e.client, down}} {
				for rest := way.all; len(rest) > 0; rest = rest[min(piece, len(rest)):] {
					send(t, way.from, string(rest[:min(piece, len(rest))]))
				}
				arrives(t, way.to, string(way.all))
			}
		})
	}
}

func TestLine_AtTheMomentTheSocketsFail(t *testing.T) {
	said := string(text("I say handover now", true))
	for name, m := range map[string]Moment{"before": {Text: "handover"}, "after": {Text: "handover", After: true}} {
		for _, cut := range []bool{true, false} {
			for _, which := range []Which{{Old: true}, {New: true}, {Old: true, New: true}} {
				onLine(t, func(t *testing.T, l *Line, dial func() ends) {
					t.Log(name, cut, which)
					old := dial()
					send(t, old.client, said) // not on the socket that it is about
					arrives(t, old.node, said)
					reached := l.At(m, which, cut)
					send(t, old.node, string(text(offers, false)))
					arrives(t, old.client, string(text(offers, false)))
					fresh := dial()
					select {
					case <-reached:
						t.Fatal("too early")
					default:
					}
					send(t, fresh.client, said)
					<-reached
					synctest.Wait()
					comes := m.After || !which.New
					if comes {
						arrives(t, fresh.node, said)
					}
					for _, s := range []struct {
						ends
						hit bool
					}{{old, which.Old}, {fresh, which.New}} {
						if s.hit {
							silent(t, s.node, cut)
							silent(t, s.client, cut)
						}
						if s.hit && cut {
							continue
						}
						send(t, s.node, string(text("on", false)))
						if s.hit {
							silent(t, s.client, false)
						} else {
							arrives(t, s.client, string(text("on", false)))
						}
					}
					l.Thaw()
					for _, s := range []struct {
						ends
						hit bool
					}{{old, which.Old}, {fresh, which.New}} {
						if s.hit && !cut {
							arrives(t, s.client, string(text("on", false)))
						}
					}
					if !comes && !cut {
						arrives(t, fresh.node, said)
					}
				})
			}
		}
	}
}

// The one that is not there yet fails as it is dialled.
func TestLine_ANewSocketMayFailBeforeItIsThere(t *testing.T) {
	for _, cut := range []bool{true, false} {
		onLine(t, func(t *testing.T, l *Line, dial func() ends) {
			old := dial()
			reached := l.At(Moment{Old: true, Down: true, Text: offers}, Which{New: true}, cut)
			send(t, old.node, string(text(offers, false)))
			<-reached
			arrives(t, old.client, string(text(offers, false)))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			began := time.Now()
			_, err := l.Dial(ctx, "tcp", "n2:80")
			if waited := time.Since(began); err == nil || cut != (waited == 0) {
				t.Errorf("dialled: %v after %s; cut: %t", err, waited, cut)
			}
			dial() // the one after that is a good one
		})
	}
}

// What the client has not seen by the old socket it is to be told by the new one.
func TestLine_AClientMayBeBehind(t *testing.T) {
	onLine(t, func(t *testing.T, l *Line, dial func() ends) {
		old := dial()
		reached := l.At(Moment{Down: true, Text: "event", Nth: 2, Behind: time.Minute}, Which{New: true}, true)
		send(t, old.node, string(text(offers, false)))
		arrives(t, old.client, string(text(offers, false)))
		send(t, old.node, string(text("event", false)))
		silent(t, old.client, false)
		began := time.Now()
		fresh := dial()
		if took := time.Since(began); took != time.Minute {
			t.Errorf("the dial takes %s", took)
		}
		first := text("event 1", false)
		send(t, fresh.node, string(bytes.Join([][]byte{first, text("event 2", false)}, nil)))
		<-reached
		arrives(t, fresh.client, string(first))
		silent(t, fresh.client, true)
	})
}
