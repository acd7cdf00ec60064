package socket

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/lxzan/gws"

	"godwit/server/session"
	"godwit/wire"
)

// Node is what takes the sockets.
type Node interface {
	// Admit decides before the upgrade; nil lets the socket in.
	Admit() *session.Refusal
	// Left follows each Admit that let a socket in, once, when it is gone.
	Left()
	// Login runs a socket's first request. If the reply has an error there is
	// no session, and the reply's After closes the socket.
	Login(ctx context.Context, sock session.Socket, method string, params jsontext.Value) (*session.Session, session.Reply)
}

// Config is what the way in is told.
type Config struct {
	// Origins that browsers may come from: scheme://host[:port], with *. for
	// any subdomain, or * for any. Empty: the request's own host.
	Origins      []string
	HelloTimeout time.Duration // first frame
	Ping         time.Duration // a silent socket is pinged after it
	MaxFrame     int           // bytes
	Outbox       int           // bytes of live events that may wait for a socket
	Compress     bool          // negotiate permessage-deflate
}

// Stats counts what happened since the start.
type Stats struct {
	Open          atomic.Int64  // sockets now
	FramesIn      atomic.Uint64 // frames read
	FramesOut     atomic.Uint64 // frames written
	BytesOut      atomic.Uint64 // bytes written
	Writes        atomic.Uint64 // write calls: frames out by writes is how many were joined
	BadFrames     atomic.Uint64 // frames answered with -32700 or -32600
	EvictedSlow   atomic.Uint64 // closed 4200 with a full outbox
	EvictedStuck  atomic.Uint64 // given up after taking no byte for 10 s
	EvictedSilent atomic.Uint64 // closed 4201
	NoHello       atomic.Uint64 // closed 4408
	Panics        atomic.Uint64 // sockets ended by a bug
}

// Handler holds the sockets of every way in, and serves GET /v1/ws. Run must be
// running.
type Handler struct {
	cfg   Config
	node  Node
	log   *slog.Logger
	Stats Stats

	rpc     *way
	wheel   *wheel
	post    *post
	readers sync.WaitGroup

	mu    sync.Mutex
	conns map[*Conn]struct{} // guarded by mu
	ended bool               // guarded by mu: Run takes no further ones
}

// New makes the way in to a node.
func New(cfg Config, node Node, log *slog.Logger) *Handler {
	h := &Handler{cfg: cfg, node: node, log: log, wheel: newWheel((*Conn).due, time.Now()), post: newPost(), conns: make(map[*Conn]struct{})}
	h.rpc = h.way(Way{Protocol: Subprotocol, Enter: func(http.ResponseWriter, *http.Request) func(*Conn) Dialect { return speakRPC }})
	return h
}

// ServeHTTP upgrades one request to JSON-RPC.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.rpc.ServeHTTP(w, r) }

// recover is the last resort of gws's callbacks; conn has its own before it.
func (h *Handler) recover(gws.Logger) {
	if v := recover(); v != nil {
		h.Stats.Panics.Add(1)
		h.log.Error("panic in a socket", "panic", v, "stack", string(debug.Stack()))
	}
}

// lastWords is how long the sockets that are left at the end have to take their
// close frame.
const lastWords = time.Second

// Run keeps the sockets' time until ctx ends, then ends those that are left.
func (h *Handler) Run(ctx context.Context) error {
	h.wheel.run(ctx)
	h.mu.Lock()
	h.ended = true
	h.mu.Unlock()
	for _, c := range h.open() {
		c.Close(wire.CloseRestart, "the node is going away")
	}
	cut := time.AfterFunc(lastWords, func() {
		for _, c := range h.open() {
			c.net.Close()
		}
	})
	defer cut.Stop()
	h.readers.Wait()
	h.post.wait()
	return nil
}

// open is every connection there is.
func (h *Handler) open() []*Conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Keys(h.conns))
}

// Waiting is what sockets have not taken yet, in bytes.
type Waiting struct {
	Live    int // events as they happen
	Answers int // to requests
	Replay  int // events of the log
	Most    int // of live events, for one socket
}

// Waiting adds up what waits for all sockets.
func (h *Handler) Waiting() (w Waiting) {
	for _, c := range h.open() {
		size := c.box.sizes()
		w.Live += size[live]
		w.Answers += size[answer]
		w.Replay += size[replay]
		w.Most = max(w.Most, size[live])
	}
	return w
}

// take serves a connection until it ends, unless the handler has ended.
func (h *Handler) take(c *Conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return false
	}
	h.conns[c] = struct{}{}
	h.Stats.Open.Add(1)
	h.wheel.add(c, c.opened.Add(h.cfg.HelloTimeout), c.opened)
	// Blocking in the request's handler would keep its memory for the socket's life.
	h.readers.Add(1) // Go would stand on the reader's stack: see Conn.run
	go c.run()
	return true
}

// gone forgets a connection.
func (h *Handler) gone(c *Conn) {
	h.mu.Lock()
	delete(h.conns, c)
	h.mu.Unlock()
	h.wheel.remove(c)
	h.Stats.Open.Add(-1)
	h.node.Left()
}
