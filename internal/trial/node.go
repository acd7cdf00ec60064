package trial

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync"

	"godwit/handlers/binary"
	"godwit/handlers/socket"
	"godwit/server"
	"godwit/server/auth"
	"godwit/store"
)

// Node is one node, at URL until it is cut.
type Node struct {
	URL string
	// Core, Sockets and Store are the node's inside.
	Core    *server.Node
	Sockets *socket.Handler
	Store   *store.Store

	listener net.Listener
	web      *http.Server
	deaf     context.CancelFunc // ends Sockets
	dead     context.CancelFunc // ends Core
	served   sync.WaitGroup     // the handler of sockets, and HTTP
	lived    sync.WaitGroup     // the node

	mu    sync.Mutex
	conns []net.Conn // guarded by mu: all that were ever accepted
	redis []net.Conn // guarded by mu: all that were ever dialled, in a bubble
	apart bool       // guarded by mu
	ended bool       // guarded by mu
}

func (f *Fleet) start(name string) *Node {
	n := &Node{}
	n.listener, n.URL = f.listen(name)
	s := f.settings(n, name)
	st, err := store.Open(s.Store)
	must(err)
	v, err := auth.New(s.Auth)
	must(err)
	n.Store, n.Core = st, server.New(s.Server, st, v, s.Store.Logger)
	n.Sockets = socket.New(s.Socket, n.Core, s.Store.Logger)
	n.web = &http.Server{Handler: n.ways(s.Server.MessageBytes)}
	sockets, deaf := context.WithCancel(context.Background())
	life, dead := context.WithCancel(context.Background())
	n.deaf, n.dead = deaf, dead
	n.lived.Go(func() { _ = n.Core.Run(life) })
	n.served.Go(func() { _ = n.Sockets.Run(sockets) })
	n.served.Go(func() { _ = n.web.Serve(counted{n.listener, n}) }) // until Cut
	<-n.Core.Joined()
	return n
}

// ways are the node's ways in: JSON-RPC at every path that is no other's.
func (n *Node) ways(messageBytes int) http.Handler {
	rooms := binary.Chatd(binary.Config{MessageBytes: messageBytes}, n.Core, n.Sockets)
	users := binary.Statusd(n.Core, n.Sockets)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.EscapedPath(); {
		case strings.HasPrefix(path, "/v1/chatd/"):
			rooms.ServeHTTP(w, r)
		case path == "/v1/statusd":
			users.ServeHTTP(w, r)
		default:
			n.Sockets.ServeHTTP(w, r)
		}
	})
}

// Cut ends the node as its clients see a crash: every socket ends without a
// word, and nobody listens any more.
func (n *Node) Cut() {
	n.mu.Lock()
	again := n.ended
	n.ended = true
	conns := n.conns
	n.mu.Unlock()
	if again {
		return
	}
	_ = n.web.Close() // the listener; what was hijacked follows
	for _, c := range conns {
		c.Close()
	}
	n.deaf()
	n.served.Wait()
	n.dead()
	n.lived.Wait()
	_ = n.Store.Close()
}

// Part takes the node's way to the store away, in a bubble; Join gives it back.
func (n *Node) Part() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.apart = true
	for _, c := range n.redis {
		c.Close()
	}
	n.redis = nil
}

// Join ends Part.
func (n *Node) Join() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.apart = false
}

// Hang ends every socket without a word, and so does every connection to the
// store, in a bubble; new ones are welcome.
func (n *Node) Hang() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range append(n.conns, n.redis...) {
		c.Close()
	}
	n.conns, n.redis = nil, nil
}

// counted remembers what it accepts.
type counted struct {
	net.Listener
	n *Node
}

func (l counted) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	l.n.conns = append(l.n.conns, c)
	return c, nil
}
