package trace

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
)

// ID names a span, everywhere.
type ID struct {
	Trace [16]byte
	Span  [8]byte
}

// Names are drawn by chance, and no secret. None is all zeros, which is no name.
func newTrace() (id [16]byte) {
	binary.BigEndian.PutUint64(id[:8], rand.Uint64())
	binary.BigEndian.PutUint64(id[8:], max(1, rand.Uint64()))
	return id
}

func newSpan() (id [8]byte) {
	binary.BigEndian.PutUint64(id[:], max(1, rand.Uint64()))
	return id
}

const (
	version = "00"
	sampled = "01"
	// length is that of "00-TRACE-SPAN-01".
	length = 2 + 1 + 32 + 1 + 16 + 1 + 2
)

// String is the ID as a W3C traceparent, of a trace that is followed.
func (id ID) String() string {
	b := make([]byte, 0, length)
	b = append(b, version+"-"...)
	b = hex.AppendEncode(b, id.Trace[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, id.Span[:])
	b = append(b, "-"+sampled...)
	return string(b)
}

// Parse reads what String writes, and nothing else: only nodes write it.
func Parse(text string) (id ID, ok bool) {
	if len(text) != length || text[:3] != version+"-" || text[35] != '-' || text[52:] != "-"+sampled {
		return ID{}, false
	}
	_, err1 := hex.Decode(id.Trace[:], []byte(text[3:35]))
	_, err2 := hex.Decode(id.Span[:], []byte(text[36:52]))
	if err1 != nil || err2 != nil || id.Trace == [16]byte{} || id.Span == [8]byte{} {
		return ID{}, false
	}
	return id, true
}
