package socket

import (
	"errors"
	"io"
	"sync"
	"syscall"
)

const (
	// inputBytes is how much is read of a socket at once, and no less than is asked for.
	inputBytes = 4 << 10
	// shortestFrame is that of a client with no payload, in bytes: two, and the mask's key.
	shortestFrame = 2 + 4
)

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
	last     int               // bytes of the last read
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
func (in *input) wait() {
	if in.raw != nil && in.buf == nil {
		_ = in.raw.Read(in.read) // what is wrong stays so, and Read says it
	}
}

// empty says, to one who has just been given the end of a frame, that no whole frame is
// left of what was read: that end was in the last read, which was no longer than the
// shortest frame. Of a connection that is no socket of the system nobody knows.
func (in *input) empty() bool { return in.raw != nil && in.last <= shortestFrame }

// try reads once. It is not done where the socket has nothing, which is then waited
// for without a buffer.
func (in *input) try(fd uintptr) (done bool) {
	if len(in.into) >= inputBytes { // nothing is won by a copy of it
		in.n, in.err = receive(fd, in.into)
		in.last = in.n
	} else {
		in.buf = inputs.Get().(*[inputBytes]byte)
		in.from = 0
		if in.to, in.err = receive(fd, in.buf[:]); in.err != nil {
			inputs.Put(in.buf)
			in.buf = nil
		}
		in.last = in.to
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
