// Package trial runs a small fleet of real nodes in this process, on one
// embedded Redis, for examples and tests. With Bubble there is no socket of the
// kernel in it, so that it lives in a testing/synctest bubble, in virtual time.
//
// It takes no *testing.T, so an example can use it; what fails panics.
package trial

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"

	"godwit/handlers/socket"
	"godwit/internal/pipe"
	"godwit/server"
	"godwit/server/auth"
	"godwit/server/session"
	"godwit/store"
)

// Options shape a fleet. The zero value is one node with the defaults of the
// project, but a lease of a second.
type Options struct {
	Nodes int // 0 is 1
	// Bubble replaces the network by internal/pipe.
	Bubble bool
	// Change is shown the settings of each node before it starts.
	Change func(*Settings)
}

// Settings are those of one node.
type Settings struct {
	Store  store.Config
	Auth   auth.Config
	Server server.Config
	Socket socket.Config
}

// Fleet is some nodes on one store.
type Fleet struct {
	// Nodes are the nodes, cut ones included. Only Restart changes it.
	Nodes []*Node
	// Redis is the store's inside.
	Redis *miniredis.Miniredis

	opt  Options
	stop chan struct{}
	tick sync.WaitGroup

	mu     sync.Mutex
	routes map[string]*pipe.Listener // guarded by mu: by host:port, in a bubble
}

// Start runs nodes that accept dev tokens, and returns when all have joined.
func Start(o Options) *Fleet {
	f := &Fleet{
		Redis: miniredis.NewMiniRedis(), opt: o,
		stop: make(chan struct{}), routes: make(map[string]*pipe.Listener),
	}
	if o.Bubble {
		c, err := f.Redis.Dial() // starts it without a listener
		must(err)
		c.Close()
	} else {
		must(f.Redis.Start())
	}
	f.tick.Go(func() { store.Tick(f.Redis, f.stop) })
	for i := range max(1, o.Nodes) {
		f.Nodes = append(f.Nodes, f.start(fmt.Sprintf("n%d", i+1)))
	}
	return f
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// Close ends the nodes that are left, and the store.
func (f *Fleet) Close() {
	for _, n := range f.Nodes {
		n.Cut()
	}
	close(f.stop)
	f.tick.Wait()
	f.Redis.Close()
	if f.opt.Bubble {
		// The Redis client's pool, after many failures, tries a dial each second
		// and looks only then whether it was closed.
		time.Sleep(2 * time.Second)
	}
}

// Restart starts a node again that was cut, under its name and, in a bubble,
// its URL.
func (f *Fleet) Restart(i int) {
	f.Nodes[i] = f.start(fmt.Sprintf("n%d", i+1))
}

// URLs are the addresses of all nodes.
func (f *Fleet) URLs() []string {
	var urls []string
	for _, n := range f.Nodes {
		urls = append(urls, n.URL)
	}
	return urls
}

// Dial is the network as a client of the fleet sees it.
func (f *Fleet) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if !f.opt.Bubble {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	f.mu.Lock()
	l := f.routes[addr]
	f.mu.Unlock()
	if l == nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: fmt.Errorf("no node at %s", addr)}
	}
	return l.Dial()
}

// listen opens a node's way in.
func (f *Fleet) listen(name string) (l net.Listener, url string) {
	if !f.opt.Bubble {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(err)
		return l, "ws://" + l.Addr().String() + "/"
	}
	in := pipe.Listen()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.routes[name+":80"] = in
	return in, "ws://" + name + ":80/"
}

// dialRedis is the network as a node sees it.
func (f *Fleet) dialRedis(n *Node) (net.Conn, error) {
	ours, theirs := pipe.New()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.apart {
		return nil, &net.OpError{Op: "dial", Err: errors.New("no route to the store")}
	}
	n.redis = append(n.redis, ours)
	f.Redis.Server().ServeConn(theirs)
	return ours, nil
}

func (f *Fleet) settings(n *Node, name string) Settings {
	origins := []string{"*"} // the port of a node that starts later is not known
	if f.opt.Bubble {
		origins = nil
		for i := range max(1, f.opt.Nodes) {
			origins = append(origins, fmt.Sprintf("ws://n%d:80", i+1))
		}
	}
	s := Settings{
		Store: store.Config{Lease: time.Second, Logger: slog.New(slog.DiscardHandler)},
		Auth:  auth.Config{Dev: true},
		Server: server.Config{
			Config: session.Config{
				Node: store.Ref{Node: name}, FrameBytes: 64 << 10, MessageBytes: 32 << 10, Rooms: 256,
				Rate: 1000, Burst: 1000, Ping: 20 * time.Second, Grace: 30 * time.Second, Origins: origins,
				CallBeat: 4 * time.Second, CallTimeout: 15 * time.Second,
			},
			URL: n.URL, Lease: time.Second, DrainBudget: time.Second, OfferTTL: 15 * time.Second,
		},
		Socket: socket.Config{HelloTimeout: 10 * time.Second, Ping: 20 * time.Second, MaxFrame: 64 << 10, Outbox: 256 << 10},
	}
	if f.opt.Bubble {
		s.Store.Dial = func(context.Context, string, string) (net.Conn, error) { return f.dialRedis(n) }
	} else {
		s.Store.URL = "redis://" + f.Redis.Addr()
	}
	if f.opt.Change != nil {
		f.opt.Change(&s)
	}
	return s
}
