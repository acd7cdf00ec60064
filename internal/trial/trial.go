// Package trial runs a small fleet of real nodes in this process, on one
// embedded Redis, for examples and tests. It takes no *testing.T, so an example
// can use it; what fails panics.
package trial

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"

	"godwit/handlers/socket"
	"godwit/server"
	"godwit/server/auth"
	"godwit/server/session"
	"godwit/store"
)

// Fleet is some nodes on one store.
type Fleet struct {
	Nodes []*Node

	mini *miniredis.Miniredis
	stop chan struct{}
	tick sync.WaitGroup
}

// Node is one node, at URL until it is cut.
type Node struct {
	URL string

	store   *store.Store
	web     *http.Server
	sockets context.CancelFunc
	life    context.CancelFunc
	served  sync.WaitGroup // the handler of sockets, and HTTP
	lived   sync.WaitGroup // the node

	mu    sync.Mutex
	conns []net.Conn // guarded by mu: all that were ever accepted
	ended bool       // guarded by mu
}

// Start runs n nodes that accept dev tokens, and returns when all have joined.
func Start(n int) *Fleet {
	mini, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	f := &Fleet{mini: mini, stop: make(chan struct{})}
	f.tick.Go(func() { store.Tick(mini, f.stop) })
	for i := range n {
		f.Nodes = append(f.Nodes, start(fmt.Sprintf("n%d", i+1), mini.Addr()))
	}
	return f
}

// Close ends the nodes that are left, and the store.
func (f *Fleet) Close() {
	for _, n := range f.Nodes {
		n.Cut()
	}
	close(f.stop)
	f.tick.Wait()
	f.mini.Close()
}

// URLs are the addresses of all nodes.
func (f *Fleet) URLs() []string {
	var urls []string
	for _, n := range f.Nodes {
		urls = append(urls, n.URL)
	}
	return urls
}

func start(name, redis string) *Node {
	st, err := store.Open(store.Config{URL: "redis://" + redis, Lease: time.Second})
	if err != nil {
		panic(err)
	}
	v, err := auth.New(auth.Config{Dev: true})
	if err != nil {
		panic(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	log := slog.New(slog.DiscardHandler)
	core := server.New(server.Config{
		Config: session.Config{
			Node: store.Ref{Node: name}, FrameBytes: 64 << 10, MessageBytes: 32 << 10, Rooms: 256,
			Rate: 1000, Burst: 1000, Ping: 20 * time.Second, Grace: 30 * time.Second,
		},
		Lease: time.Second, DrainBudget: time.Second,
	}, st, v, log)
	ws := socket.New(socket.Config{
		HelloTimeout: 10 * time.Second, Ping: 20 * time.Second, MaxFrame: 64 << 10, Outbox: 256 << 10,
	}, core, log)
	sockets, stopSockets := context.WithCancel(context.Background())
	life, stopLife := context.WithCancel(context.Background())
	n := &Node{
		URL: "ws://" + l.Addr().String(), store: st, web: &http.Server{Handler: ws},
		sockets: stopSockets, life: stopLife,
	}
	n.lived.Go(func() { _ = core.Run(life) })
	n.served.Go(func() { _ = ws.Run(sockets) })
	n.served.Go(func() { _ = n.web.Serve(counted{l, n}) })
	<-core.Joined()
	return n
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
	n.sockets()
	n.served.Wait()
	n.life()
	n.lived.Wait()
	_ = n.store.Close()
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
