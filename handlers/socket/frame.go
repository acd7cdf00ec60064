package socket

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"sync"
)

// opcodes of RFC 6455.
const (
	opText   = 0x1
	opBinary = 0x2
	opClose  = 0x8
	opPing   = 0x9
	opPong   = 0xA
	// opRaw is bytes that are framed already: what gws itself writes.
	opRaw = 0xFF
)

// compressFrom is the smallest payload worth compressing.
const compressFrom = 512

// appendFrame appends an item as a websocket frame of a server: never masked, and
// squeezed where that was negotiated and is worth it.
func appendFrame(b []byte, it item, squeeze bool) []byte {
	if it.op == opRaw {
		return append(b, it.payload...)
	}
	first, payload := 0x80|it.op, it.payload
	if squeeze && it.op == opText && len(payload) >= compressFrom {
		first, payload = first|0x40, deflate(payload)
	}
	b = append(b, first)
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return append(b, payload...)
}

var deflaters = sync.Pool{New: func() any {
	w, err := flate.NewWriter(nil, flate.BestSpeed)
	if err != nil {
		panic(err) // the level is a constant
	}
	return w
}}

// deflate compresses one message without context, as RFC 7692 has it: the
// empty block at the end is left out.
func deflate(payload []byte) []byte {
	var out bytes.Buffer
	w := deflaters.Get().(*flate.Writer)
	defer deflaters.Put(w)
	w.Reset(&out)
	// A bytes.Buffer takes everything.
	_, _ = w.Write(payload)
	_ = w.Flush()
	return bytes.TrimSuffix(out.Bytes(), []byte{0, 0, 0xff, 0xff})
}
