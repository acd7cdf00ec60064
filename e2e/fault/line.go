package fault

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"sync"
	"time"

	"godwit/internal/pipe"
)

// Dialler is a network as a client sees it.
type Dialler func(ctx context.Context, network, addr string) (net.Conn, error)

// Moment is one in what a client and its nodes do on the way of a redirect: a
// frame of one of the two sockets passes.
type Moment struct {
	Name string
	// Old says that it is on the socket by which the offer came; otherwise on the one
	// that was dialled after that.
	Old bool
	// Down says that the frame comes from the node; otherwise from the client. A dial,
	// and each side's part of the upgrade, are frames, too.
	Down bool
	// Text stands in the frame; a close frame's is CloseFrame.
	Text string
	// After is the moment when the frame has passed; otherwise it has not.
	After bool
	// Nth is which of several such frames it is; 0 is the first.
	Nth int
	// Behind stops the old socket once the offer has passed, and has the dial that
	// follows take this long: the client is behind by then.
	Behind time.Duration
}

// The texts of what is no websocket message.
const (
	DialFrame  = "\x00dial"
	CloseFrame = "\x00close"
)

// Which sockets something happens to.
type Which struct{ Old, New bool }

// Line is a client's way to its nodes, in memory: all the sockets that it dials.
// At a moment of a redirect it cuts some of them, or stops their bytes.
type Line struct {
	dial    Dialler
	reached chan struct{}

	mu sync.Mutex
	// guarded by mu
	at     *Moment // nil: not armed, or it was reached
	seen   int     // frames that might have been its
	which  Which
	cut    bool // otherwise stop
	old    *sock
	fresh  *sock // dialled after the offer
	doomed bool  // who is dialled next is cut, or stopped, at once
	all    []*sock
	thaw   chan struct{} // closed by Thaw
	wg     sync.WaitGroup
}

// sock is one socket: two ends, and the bytes between them.
type sock struct {
	line *Line
	over chan struct{} // closed when it is cut

	// guarded by line.mu
	ends    []net.Conn // to the client, and to the node unless it is being dialled
	stopped bool
	ended   bool
}

// NewLine makes a line over a network.
func NewLine(dial Dialler) *Line { return &Line{dial: dial, thaw: make(chan struct{})} }

// At arms the line: at the moment those sockets are cut, or else no byte passes
// them until Thaw. A redirect begins after it. The channel is closed when the
// moment has come.
func (l *Line) At(m Moment, which Which, cut bool) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at, l.which, l.cut, l.reached = &m, which, cut, make(chan struct{})
	return l.reached
}

// Thaw lets the bytes go on that were stopped.
func (l *Line) Thaw() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.thaw)
	l.thaw, l.doomed = make(chan struct{}), false
	for _, s := range l.all {
		s.stopped = false
	}
}

// Close cuts all that there is, and waits for it.
func (l *Line) Close() {
	l.mu.Lock()
	for _, s := range l.all {
		s.endLocked()
	}
	l.mu.Unlock()
	l.wg.Wait()
}

// Dial is the network with the line in it.
func (l *Line) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ours, theirs := pipe.New()
	s := &sock{line: l, over: make(chan struct{}), ends: []net.Conn{theirs}}
	l.mu.Lock()
	l.all = append(l.all, s)
	if l.old != nil && l.fresh == nil {
		l.fresh = s
	}
	if l.fresh == s && l.doomed {
		s.befallLocked()
	}
	l.mu.Unlock()
	refused := &net.OpError{Op: "dial", Net: network, Err: net.ErrClosed}
	if !s.dawdle(ctx) {
		return nil, refused
	}
	s.passes([]byte(DialFrame), false, false)
	if !s.open(ctx) {
		return nil, refused
	}
	up, err := l.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	s.ends = append(s.ends, up)
	l.wg.Go(func() { s.carry(theirs, up, false) }) // both until the socket is cut, by Close at the latest
	l.wg.Go(func() { s.carry(up, theirs, true) })
	l.mu.Unlock()
	s.passes([]byte(DialFrame), false, true)
	return ours, nil
}

// dawdle waits as long as the armed moment says that its dial takes.
func (s *sock) dawdle(ctx context.Context) bool {
	s.line.mu.Lock()
	var wait time.Duration
	if s.line.at != nil && s.line.fresh == s {
		wait = s.line.at.Behind
	}
	s.line.mu.Unlock()
	late := time.NewTimer(wait)
	defer late.Stop()
	select {
	case <-late.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// carry takes frames from one end to the other until either ends.
func (s *sock) carry(from, to net.Conn, down bool) {
	defer s.end()
	var buf []byte
	chunk := make([]byte, 32<<10)
	upgraded := false
	for {
		n, err := from.Read(chunk)
		buf = append(buf, chunk[:n]...)
		for {
			text, size := frame(buf, upgraded)
			if size == 0 {
				break
			}
			upgraded = true
			s.passes(text, down, false)
			if !s.open(context.Background()) {
				return
			}
			if _, err := to.Write(buf[:size]); err != nil {
				return
			}
			s.passes(text, down, true)
			buf = buf[size:]
		}
		if err != nil {
			s.open(context.Background()) // an end is no faster than bytes
			return
		}
	}
}

// passes lets happen what is to happen when a frame passes.
func (s *sock) passes(text []byte, down, after bool) {
	l := s.line
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at == nil {
		return
	}
	if down && bytes.Contains(text, []byte(`"method":"redirect",`)) {
		l.old = s
		s.stopped = after && l.at.Behind > 0
	}
	m, at := l.at, l.fresh
	if m.Old {
		at = l.old
	}
	if at != s || m.Down != down || m.After != after || !bytes.Contains(text, []byte(m.Text)) {
		return
	}
	if l.seen++; l.seen < m.Nth {
		return
	}
	l.at = nil
	close(l.reached)
	if l.which.Old {
		l.old.befallLocked()
	}
	switch {
	case l.which.New && l.fresh != nil:
		l.fresh.befallLocked()
	case l.which.New:
		l.doomed = true
	}
}

// befallLocked cuts the socket, or stops its bytes.
func (s *sock) befallLocked() {
	if s.line.cut {
		s.endLocked()
		return
	}
	s.stopped = true
}

// open waits while no byte passes, and says whether any passes then.
func (s *sock) open(ctx context.Context) bool {
	for {
		s.line.mu.Lock()
		stopped, thaw := s.stopped, s.line.thaw
		s.line.mu.Unlock()
		select {
		case <-s.over:
			return false
		default:
		}
		if !stopped {
			return true
		}
		select {
		case <-thaw:
		case <-s.over:
		case <-ctx.Done():
			return false
		}
	}
}

// end cuts the socket.
func (s *sock) end() {
	s.line.mu.Lock()
	defer s.line.mu.Unlock()
	s.endLocked()
}

func (s *sock) endLocked() {
	if !s.ended {
		s.ended = true
		close(s.over)
	}
	for _, c := range s.ends {
		_ = c.Close()
	}
}

// frame is the first frame in b as its receiver reads it, and how many bytes it
// takes; 0 when it is not whole. Before the upgrade it is a header.
func frame(b []byte, upgraded bool) (text []byte, size int) {
	if !upgraded {
		head, _, whole := bytes.Cut(b, []byte("\r\n\r\n"))
		if !whole {
			return nil, 0
		}
		return head, len(head) + 4
	}
	if len(b) < 2 {
		return nil, 0
	}
	length, head := int(b[1]&0x7f), 2
	switch length {
	case 126:
		if len(b) < 4 {
			return nil, 0
		}
		length, head = int(binary.BigEndian.Uint16(b[2:])), 4
	case 127:
		if len(b) < 10 {
			return nil, 0
		}
		length, head = int(binary.BigEndian.Uint64(b[2:])), 10
	}
	var mask []byte
	if b[1]&0x80 != 0 {
		mask, head = b[head:min(head+4, len(b))], head+4
	}
	if len(b) < head+length {
		return nil, 0
	}
	text = bytes.Clone(b[head : head+length])
	for i := range mask {
		for j := i; j < length; j += 4 {
			text[j] ^= mask[i]
		}
	}
	if b[0]&0x0f == 8 {
		text = []byte(CloseFrame)
	}
	return text, head + length
}
