package load

import (
	"errors"
	"syscall"
)

// A socket that nobody reads holds megabytes before its sender notices: what it
// has received, and what the sender's kernel keeps for it, the more the larger
// its segments are, which on loopback are 64 KB. With these it holds some ten KB.
const (
	narrowBuffer  = 2 << 10 // bytes, of what was received
	narrowSegment = 536     // bytes
)

// narrowed makes a socket hold little, which is to be said before it connects.
func narrowed(_, _ string, raw syscall.RawConn) error {
	var bad error
	err := raw.Control(func(fd uintptr) {
		bad = errors.Join(
			syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, narrowBuffer),
			syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, narrowSegment),
		)
	})
	return errors.Join(err, bad)
}
