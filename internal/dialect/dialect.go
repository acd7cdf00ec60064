// Package dialect holds the checks that the codec of each binary dialect has to
// pass.
package dialect

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"godwit/e2e/raw"
	"godwit/wire/command"
)

// Codec is a dialect's.
type Codec struct {
	FromClient, FromServer func(frame []byte) command.Frame
	// Read is a command, of the server's or of a client's, as its own type.
	Read func(op byte, body []byte, server bool) any
}

func (c Codec) open(frame []byte, server bool) command.Frame {
	if server {
		return c.FromServer(frame)
	}
	return c.FromClient(frame)
}

// words is what a frame says, and what ended it.
func words(f command.Frame) string {
	var out []string
	for f.Next() {
		out = append(out, fmt.Sprintf("%02x:%x", f.Op(), f.Body()))
	}
	if bad := f.Bad(); bad.Reason != 0 {
		out = append(out, fmt.Sprintf("bad %02x/%d", bad.About, bad.Reason))
	}
	return strings.Join(out, " ")
}

// Says checks what a frame, in hex, says when a client and when the server sends
// it: "opcode:body" of each command, and "bad about/reason" of what ended it.
func (c Codec) Says(t *testing.T, frame, client, server string) {
	t.Helper()
	if got := words(c.FromClient(raw.Hex(frame))); got != client {
		t.Errorf("a client's %s is %s, want %s", frame, got, client)
	}
	if got := words(c.FromServer(raw.Hex(frame))); got != server {
		t.Errorf("a server's %s is %s, want %s", frame, got, server)
	}
}

// fatal is a test, of testing or of rapid.
type fatal interface {
	Fatalf(format string, args ...any)
}

// Reads checks that a frame is these commands, and nothing else.
func (c Codec) Reads(t fatal, frame []byte, server bool, want []any) {
	f := c.open(frame, server)
	for i, w := range want {
		if !f.Next() {
			t.Fatalf("%x: command %d of %d is missing: %+v", frame, i, len(want), f.Bad())
		}
		if got := c.Read(f.Op(), f.Body(), server); fmt.Sprintf("%T %v", got, got) != fmt.Sprintf("%T %v", w, w) {
			t.Fatalf("%x: command %d is %T %v, want %T %v", frame, i, got, got, w, w)
		}
	}
	if f.Next() || f.Bad().Reason != 0 {
		t.Fatalf("%x: and then opcode %x, %+v", frame, f.Op(), f.Bad())
	}
}

// Walks checks that, whatever a frame is, each command that is read is some of
// its bytes, they follow each other, and what is left over is why it ended.
// again writes a command anew, of which whole is what was read.
func (c Codec) Walks(t fatal, frame []byte, server bool, again func(cmd any, whole []byte) []byte) {
	f := c.open(frame, server)
	at := 0
	for f.Next() {
		whole := append([]byte{f.Op()}, f.Body()...)
		if !bytes.HasPrefix(frame[at:], whole) {
			t.Fatalf("%x: %x is not what stands at %d", frame, whole, at)
		}
		if got := again(c.Read(f.Op(), f.Body(), server), whole); !bytes.Equal(got, whole) {
			t.Fatalf("%x: %x is written %x", frame, whole, got)
		}
		at += len(whole)
	}
	bad := f.Bad()
	switch {
	case len(frame) == 0:
		if bad != (command.Error{Reason: command.Malformed}) {
			t.Fatalf("an empty frame: %+v", bad)
		}
	case at == len(frame):
		if bad.Reason != 0 {
			t.Fatalf("%x was read whole and is %+v", frame, bad)
		}
	case bad.About != frame[at] || bad.Reason != command.Malformed && bad.Reason != command.Unknown:
		t.Fatalf("%x ended at %d: %+v", frame, at, bad)
	}
}
