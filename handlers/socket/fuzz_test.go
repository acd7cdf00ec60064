package socket

import (
	"context"
	"io"
	"log/slog"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"godwit/internal/pipe"
	"godwit/server/session"
	"godwit/wire"
)

// closedDoor is a node that lets nobody in.
type closedDoor struct{}

func (closedDoor) Admit() *session.Refusal { return nil }
func (closedDoor) Left()                   {}
func (closedDoor) Login(_ context.Context, sock session.Socket, _ string, _ jsontext.Value) (*session.Session, session.Reply) {
	return nil, session.Reply{
		Err:   wire.Errorf(wire.Unauthorized, "nobody comes in"),
		After: func() { sock.Close(wire.CloseUnauthorized, "nobody comes in") },
	}
}

// Whatever a first frame is, the socket gets one answer and a close frame.
func FuzzFirstFrame(f *testing.F) {
	f.Add([]byte(helloAnn))
	f.Add([]byte(`[` + helloAnn + `]`))
	f.Add([]byte(`{"jsonrpc":"2.0","id":{},"method":"resume"}`))
	f.Add([]byte(`{"a":1,"a":2}`))
	f.Add([]byte("\xff\x00[[[["))
	h := New(Config{MaxFrame: 65536, Outbox: 1 << 20}, closedDoor{}, slog.New(slog.DiscardHandler))
	f.Fuzz(func(t *testing.T, frame []byte) {
		ours, theirs := pipe.New()
		defer theirs.Close()
		c := newConn(h, ours, opText)
		c.dialect = speakRPC(c)
		c.first(frame)
		c.box.writer.Wait()
		ours.Close()
		first, answer := readServerFrame(t, theirs)
		if first != 0x80|opText || !jsontext.Value(answer).IsValid() {
			t.Fatalf("%q is answered %x %q", frame, first, answer)
		}
		if first, _ := readServerFrame(t, theirs); first != 0x80|opClose {
			t.Fatalf("%q: after the answer came %x, want a close frame", frame, first)
		}
		if rest, _ := io.ReadAll(theirs); len(rest) > 0 {
			t.Fatalf("%q: after the close frame came %q", frame, rest)
		}
	})
}
