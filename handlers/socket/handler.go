package socket

import (
	"bufio"
	"context"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
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

// Handler serves GET /v1/ws. Run must be running.
type Handler struct {
	cfg   Config
	node  Node
	log   *slog.Logger
	Stats Stats

	plain, named *gws.Upgrader // without and with the subprotocol
	wheel        wheel
	readers      sync.WaitGroup

	mu    sync.Mutex
	conns map[*conn]struct{} // guarded by mu
	ended bool               // guarded by mu: Run takes no further ones
}

// Subprotocol is selected when the client offers it.
const Subprotocol = "godwit.v1"

// New makes the way in to a node.
func New(cfg Config, node Node, log *slog.Logger) *Handler {
	h := &Handler{cfg: cfg, node: node, log: log, conns: make(map[*conn]struct{})}
	option := func(protocols ...string) *gws.ServerOption {
		return &gws.ServerOption{
			ReadBufferSize:     512,
			ReadMaxPayloadSize: cfg.MaxFrame,
			CheckUtf8Enabled:   true,
			SubProtocols:       protocols,
			Recovery:           h.recover,
			PermessageDeflate:  gws.PermessageDeflate{Enabled: cfg.Compress, PoolSize: 4},
		}
	}
	h.plain = gws.NewUpgrader(reader{}, option())
	h.named = gws.NewUpgrader(reader{}, option(Subprotocol))
	return h
}

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
	return nil
}

// open is every connection there is.
func (h *Handler) open() []*conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Keys(h.conns))
}

// ServeHTTP upgrades one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet || !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		w.Header().Set("Upgrade", "websocket")
		http.Error(w, "this is a websocket endpoint", http.StatusUpgradeRequired)
		return
	}
	if no := h.node.Admit(); no != nil {
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(no.RetryAfter.Seconds()))))
		http.Error(w, "no new sockets now: "+no.Reason, http.StatusServiceUnavailable)
		return
	}
	if !h.allowed(r) {
		h.node.Left()
		http.Error(w, "this Origin is not allowed (GODWIT_ALLOWED_ORIGINS)", http.StatusForbidden)
		return
	}
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		h.node.Left()
		http.Error(w, "the connection cannot be upgraded", http.StatusInternalServerError)
		return
	}
	raw, _, err := hijacker.Hijack()
	if err != nil {
		h.node.Left()
		h.log.Warn("connection not taken over", "error", err)
		return
	}
	c := newConn(h, raw)
	upgrader := h.plain
	if offers(r, Subprotocol) {
		upgrader = h.named
	}
	seen := gathering{raw, c}
	ws, err := upgrader.UpgradeFromConn(seen, bufio.NewReaderSize(seen, 512), r)
	if err != nil { // gws has answered it through the outbox
		c.box.writer.Wait()
		raw.Close()
		h.node.Left()
		return
	}
	c.box.mu.Lock()
	c.box.compress = h.cfg.Compress && strings.Contains(r.Header.Get("Sec-WebSocket-Extensions"), "permessage-deflate")
	c.box.mu.Unlock()
	c.ws, c.opened = ws, time.Now()
	if !h.take(c) {
		raw.Close()
		h.node.Left()
	}
}

// take serves a connection until it ends, unless the handler has ended.
func (h *Handler) take(c *conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return false
	}
	h.conns[c] = struct{}{}
	h.Stats.Open.Add(1)
	h.wheel.add(c, c.opened, c.opened)
	// Blocking in the request's handler would keep its memory for the socket's life.
	h.readers.Go(c.run)
	return true
}

// gone forgets a connection.
func (h *Handler) gone(c *conn) {
	h.mu.Lock()
	delete(h.conns, c)
	h.mu.Unlock()
	h.Stats.Open.Add(-1)
	h.node.Left()
}

// offers says whether the client offers a subprotocol.
func offers(r *http.Request, name string) bool {
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for offer := range strings.SplitSeq(line, ",") {
			if strings.TrimSpace(offer) == name {
				return true
			}
		}
	}
	return false
}

// allowed checks the Origin, which only browsers send and no script can forge.
func (h *Handler) allowed(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		// "null" and the like are nobody's origin.
		return len(h.cfg.Origins) == 1 && h.cfg.Origins[0] == "*"
	}
	if len(h.cfg.Origins) == 0 {
		return strings.EqualFold(u.Host, r.Host)
	}
	for _, o := range h.cfg.Origins {
		if matches(o, u) {
			return true
		}
	}
	return false
}

// matches compares an origin with one entry of the setting.
func matches(entry string, origin *url.URL) bool {
	if entry == "*" {
		return true
	}
	scheme, host, ok := strings.Cut(entry, "://")
	if !ok {
		scheme, host = "", entry
	}
	if scheme != "" && !strings.EqualFold(scheme, origin.Scheme) {
		return false
	}
	if rest, wild := strings.CutPrefix(host, "*"); wild {
		return len(origin.Host) > len(rest) && strings.EqualFold(origin.Host[len(origin.Host)-len(rest):], rest)
	}
	return strings.EqualFold(host, origin.Host)
}

// gathering is the connection as gws sees it: what it writes goes through the
// outbox, in order with everything else.
type gathering struct {
	net.Conn
	c *conn
}

// Read notes that nothing more can be read.
func (g gathering) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	if err != nil {
		g.c.unread = true
	}
	return n, err
}

// Write takes what gws answers a frame with. After a failed read there is none
// to answer: gws would tell the peer 1000, "the session was ended", of a
// connection that is merely lost.
func (g gathering) Write(p []byte) (int, error) {
	if len(p) == 0 || g.c.unread {
		return len(p), nil
	}
	g.c.box.put(item{op: opRaw, kind: control, payload: append([]byte(nil), p...)})
	return len(p), nil
}

// Close is conn.run's to do, once the outbox is empty.
func (g gathering) Close() error { return nil }

// SetDeadline sets the reader's: the writer keeps its own.
func (g gathering) SetDeadline(t time.Time) error { return g.SetReadDeadline(t) }

// SetWriteDeadline is the outbox's to do.
func (g gathering) SetWriteDeadline(time.Time) error { return nil }
