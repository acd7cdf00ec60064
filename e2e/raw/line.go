package raw

import (
	"bufio"
	"context"
	"encoding/binary"
	"net"
	"net/http"
	"sync"
	"time"

	"godwit/wire"
)

// line is what every websocket of a test has, whatever is spoken on it.
type line struct {
	// Net is the subject of tests that look below the protocol.
	Net net.Conn

	in    *bufio.Reader
	done  chan struct{} // closed when the reader has ended
	write sync.Mutex    // frames leave whole

	mu   sync.Mutex
	more chan struct{} // closed and replaced at each change
	// guarded by mu
	closed *Closed
	gate   chan struct{} // the reader waits for it; nil: it reads
}

// open makes a websocket of a connection that is there.
func (l *line) open(conn net.Conn, url string, header http.Header) error {
	in, err := upgrade(conn, url, header)
	l.Net, l.in, l.done, l.more = conn, in, make(chan struct{}), make(chan struct{})
	return err
}

// Drop ends the connection without a word.
func (l *line) Drop() {
	l.Net.Close()
	l.Go()
	<-l.done
}

// Halt stops reading once the frame that is being read is whole, and lets the
// kernel read little in its place.
func (l *line) Halt() {
	l.window(64 << 10)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gate == nil {
		l.gate = make(chan struct{})
	}
}

// Go reads on after Halt.
func (l *line) Go() {
	l.window(4 << 20)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gate != nil {
		close(l.gate)
		l.gate = nil
	}
}

// window bounds what the kernel takes before it is read, in bytes. A failure
// shows in what the test then waits for.
func (l *line) window(n int) {
	if tcp, ok := l.Net.(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(n)
	}
}

// next reads one frame, unless Halt keeps it.
func (l *line) next() (op byte, final bool, payload []byte, err error) {
	l.mu.Lock()
	gate := l.gate
	l.mu.Unlock()
	if gate != nil {
		<-gate
	}
	return readFrame(l.in)
}

func (l *line) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	close(l.more)
	l.more = make(chan struct{})
}

func (l *line) end(e *Closed) { l.change(func() { l.closed = e }) }

// bid takes a close frame: it is echoed, and the connection has ended so.
func (l *line) bid(payload []byte) {
	e := &Closed{Code: 1005}
	if len(payload) >= 2 {
		e.Code, e.Reason = wire.CloseCode(binary.BigEndian.Uint16(payload)), string(payload[2:])
	}
	l.Frame(opClose, payload)
	l.end(e)
}

// Frame writes one frame as it is.
func (l *line) Frame(op byte, payload []byte) error {
	l.write.Lock()
	defer l.write.Unlock()
	l.Net.SetWriteDeadline(time.Now().Add(10 * time.Second))
	_, err := l.Net.Write(appendFrame(nil, op, payload))
	return err
}

// End waits for the end of the connection and tells how it came.
func (l *line) End(ctx context.Context) (*Closed, error) {
	for {
		l.mu.Lock()
		more, closed := l.more, l.closed
		l.mu.Unlock()
		if closed != nil {
			return closed, nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Closed is how the connection ended, nil while it lives.
func (l *line) Closed() *Closed {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}
