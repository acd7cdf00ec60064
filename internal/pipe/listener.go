package pipe

import (
	"net"
	"sync"
)

// Listener accepts what is dialled. The zero value is not ready: use Listen.
type Listener struct {
	conns chan net.Conn
	ended chan struct{}
	once  sync.Once
}

// Listen makes a listener.
func Listen() *Listener {
	return &Listener{conns: make(chan net.Conn), ended: make(chan struct{})}
}

// Dial makes a connection to the listener; it waits for Accept.
func (l *Listener) Dial() (*Conn, error) {
	ours, theirs := New()
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-l.ended:
		return nil, net.ErrClosed
	}
}

// Accept waits for the next connection.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.ended:
		return nil, net.ErrClosed
	}
}

// Close ends the listener; its connections stay.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.ended) })
	return nil
}

// Addr is the same for every listener.
func (l *Listener) Addr() net.Addr { return addr{} }
