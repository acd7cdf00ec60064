package socket

import (
	"errors"
	"io"
	"sync"
	"syscall"
)

// inputBytes is how much is read of a socket at once, and no less than is asked for.
const inputBytes = 4 << 10

// inputs are the buffers of sockets of which something was read that is not taken.
var inputs = sync.Pool{New: func() any { return new([inputBytes]byte) }}

// input reads a socket through a buffer that it has only while there is something in
// it, for most sockets wait most of the time. Of its reader alone.
type input struct {
	raw  syscall.RawConn
	read func(fd uintptr) (done bool) // made once, of try

	into     []byte            // what is asked for; while it is read
	buf      *[inputBytes]byte // nil: all that was read is taken
	from, to int               // of buf: what is not
	n        int               // of the last read: bytes of into
	err      error             // of the last read
}

func (in *input) over(raw syscall.RawConn) *input {
	in.raw, in.read = raw, in.try
	return in
}

// Read takes what was read, or waits until there is something.
func (in *input) Read(p []byte) (int, error) {
	if in.buf == nil {
		in.into, in.n, in.err = p, 0, nil
		err := in.raw.Read(in.read)
		in.into = nil
		if err == nil {
			err = in.err
		}
		if err != nil || in.n > 0 {
			return in.n, err
		}
	}
	n := copy(p, in.buf[in.from:in.to])
	if in.from += n; in.from == in.to {
		inputs.Put(in.buf)
		in.buf = nil
	}
	return n, nil
}

// wait returns once there is something to read, or never will be: which, Read tells.
// All that was read is taken.
func (in *input) wait() {
	if in.raw != nil {
		_ = in.raw.Read(in.read) // what is wrong stays so, and Read says it
	}
}

// try reads once. It is not done where the socket has nothing, which is then waited
// for without a buffer.
func (in *input) try(fd uintptr) (done bool) {
	if len(in.into) >= inputBytes { // nothing is won by a copy of it
		in.n, in.err = receive(fd, in.into)
	} else {
		in.buf = inputs.Get().(*[inputBytes]byte)
		in.from = 0
		if in.to, in.err = receive(fd, in.buf[:]); in.err != nil {
			inputs.Put(in.buf)
			in.buf = nil
		}
	}
	if errors.Is(in.err, syscall.EAGAIN) {
		in.err = nil
		return false
	}
	return true
}

// receive is one read(2).
func receive(fd uintptr, p []byte) (int, error) {
	for {
		switch n, err := syscall.Read(int(fd), p); {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}
