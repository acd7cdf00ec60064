package fault

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Bounds of what the reader takes for RESP. They are far above what Redis
// sends; past them the stream is not understood, and passes unread.
const (
	maxDepth = 32
	maxLine  = 64 << 10
)

var errSyntax = errors.New("not RESP")

// value is one complete reply or push.
type value struct {
	raw []byte // as received
	// parts are the first strings of an array or push, at most three, for the
	// kind, the channel (and the pattern's channel) of a pub/sub message.
	parts [][]byte
	kind  byte // the type byte, attributes left out
}

// channel is the channel of a pub/sub message. In RESP2 a message is an array
// like any other; the caller says whether the connection has subscribed.
func (v *value) channel(subscribed bool) (string, bool) {
	if v.kind != '>' && (v.kind != '*' || !subscribed) || len(v.parts) < 2 {
		return "", false
	}
	switch string(v.parts[0]) {
	case "message", "smessage":
		return string(v.parts[1]), true
	case "pmessage":
		if len(v.parts) == 3 {
			return string(v.parts[2]), true
		}
	}
	return "", false
}

// confirms says whether the value confirms a subscription, after which RESP2
// arrays may be messages.
func (v *value) confirms() bool {
	if len(v.parts) == 0 || v.kind != '>' && v.kind != '*' {
		return false
	}
	switch string(v.parts[0]) {
	case "subscribe", "psubscribe", "ssubscribe":
		return true
	}
	return false
}

// reader reads values. When it answers errSyntax, pending holds what it has
// taken of the value that it did not understand.
type reader struct {
	r       *bufio.Reader
	pending bytes.Buffer
	v       value
}

func newReader(r io.Reader) *reader { return &reader{r: bufio.NewReaderSize(r, 32<<10)} }

// next reads one value. It is good until the next call.
func (r *reader) next() (*value, error) {
	r.pending.Reset()
	r.v = value{}
	if err := r.read(0, true); err != nil {
		return nil, err
	}
	r.v.raw = r.pending.Bytes()
	return &r.v, nil
}

// read takes one value at the given depth. top is set where a message's parts
// stand: at the outermost value, behind its attributes.
func (r *reader) read(depth int, top bool) error {
	if depth > maxDepth {
		return fmt.Errorf("%w: more than %d levels", errSyntax, maxDepth)
	}
	head, err := r.line()
	if err != nil {
		return err
	}
	if top && head[0] != '|' {
		r.v.kind = head[0]
	}
	switch head[0] {
	case '+', '-', ':', '_', ',', '#', '(':
		r.part(depth, head[1:])
		return nil
	case '$', '!', '=':
		n, err := length(head)
		if err != nil || n < 0 {
			return err
		}
		start := r.pending.Len()
		if _, err := io.CopyN(&r.pending, r.r, n+2); err != nil {
			return err
		}
		body := r.pending.Bytes()[start:]
		if !bytes.HasSuffix(body, []byte("\r\n")) {
			return fmt.Errorf("%w: a string that does not end where it says", errSyntax)
		}
		r.part(depth, body[:n])
		return nil
	case '*', '~', '>', '%', '|':
		n, err := length(head)
		if err != nil {
			return err
		}
		if head[0] == '%' || head[0] == '|' {
			n *= 2
		}
		inside := depth + 1
		if head[0] == '|' {
			inside = depth + 2 // what an attribute holds is no part
		}
		for range n {
			if err := r.read(inside, false); err != nil {
				return err
			}
		}
		if head[0] == '|' { // the value that it describes follows
			return r.read(depth, top)
		}
		return nil
	}
	return fmt.Errorf("%w: type %q", errSyntax, head[0])
}

// part keeps a string directly inside the outermost value.
func (r *reader) part(depth int, b []byte) {
	if depth == 1 && len(r.v.parts) < 3 {
		r.v.parts = append(r.v.parts, bytes.Clone(b))
	}
}

// line takes one line and returns it without its end.
func (r *reader) line() ([]byte, error) {
	start := r.pending.Len()
	for {
		b, err := r.r.ReadSlice('\n')
		r.pending.Write(b)
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
		if r.pending.Len()-start > maxLine {
			return nil, fmt.Errorf("%w: a line of more than %d bytes", errSyntax, maxLine)
		}
	}
	line := r.pending.Bytes()[start:]
	if len(line) < 3 || line[len(line)-2] != '\r' {
		return nil, fmt.Errorf("%w: a line without its type or its end", errSyntax)
	}
	return line[:len(line)-2], nil
}

// length is the number behind a type byte; -1 is RESP2's null.
func length(head []byte) (int64, error) {
	n, err := strconv.ParseInt(string(head[1:]), 10, 64)
	if err != nil || n < -1 || n > 1<<32 {
		return 0, fmt.Errorf("%w: length %q", errSyntax, head[1:])
	}
	return n, nil
}
