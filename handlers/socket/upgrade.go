package socket

import (
	"bufio"
	"encoding/binary"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lxzan/gws"

	"godwit/wire"
)

// Way is one way in: an endpoint, and what is spoken there.
type Way struct {
	// Protocol is the subprotocol that is selected where it is offered. Who
	// offers none is served, too.
	Protocol string
	// Binary says that frames are binary, both ways; else they are text.
	Binary bool
	// Enter decides, before the upgrade and after all other checks, whether a
	// request may come in, and how what its socket speaks is made. If it gives
	// nil it has answered the request.
	Enter func(w http.ResponseWriter, r *http.Request) func(*Conn) Dialect
}

// Way is a further way in. Its sockets are the handler's as those of /v1/ws are.
func (h *Handler) Way(w Way) http.Handler { return h.way(w) }

// way is a Way of a handler.
type way struct {
	Way
	h        *Handler
	op       byte // of its frames
	compress bool
	// without and with the subprotocol
	plain, named *gws.Upgrader
}

func (h *Handler) way(w Way) *way {
	y := &way{Way: w, h: h, op: opText, compress: h.cfg.Compress}
	if w.Binary {
		// What applications put into opaque bytes is mostly small or compressed.
		y.op, y.compress = opBinary, false
	}
	option := func(protocols ...string) *gws.ServerOption {
		return &gws.ServerOption{
			ReadMaxPayloadSize: h.cfg.MaxFrame,
			CheckUtf8Enabled:   true,
			SubProtocols:       protocols,
			Recovery:           h.recover,
			NewSession:         func() gws.SessionStorage { return nothing },
			PermessageDeflate:  gws.PermessageDeflate{Enabled: y.compress, PoolSize: 4},
		}
	}
	y.plain, y.named = gws.NewUpgrader(reader{}, option()), gws.NewUpgrader(reader{}, option(w.Protocol))
	return y
}

// nothing is what each gws.Conn keeps for its application, which is nothing: the Conn
// is found by its connection.
var nothing gws.SessionStorage = none{}

type none struct{}

func (none) Len() int                     { return 0 }
func (none) Load(string) (any, bool)      { return nil, false }
func (none) Store(string, any)            {}
func (none) Delete(string)                {}
func (none) Range(func(string, any) bool) {}

// ServeHTTP upgrades one request.
func (y *way) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := y.h
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
	speak := y.Enter(w, r)
	if speak == nil {
		h.node.Left()
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
	c := newConn(h, raw, y.op)
	c.dialect = speak(c)
	upgrader := y.plain
	if slices.Contains(Offers(r), y.Protocol) {
		upgrader = y.named
		r.Header.Set("Sec-WebSocket-Protocol", y.Protocol) // gws reads one line of them
	}
	c.read = c.reader()
	ws, err := upgrader.UpgradeFromConn(gathering{raw, c}, c.read, r)
	if err != nil { // gws has answered it through the outbox
		c.box.writer.Wait()
		raw.Close()
		h.node.Left()
		return
	}
	c.box.mu.Lock()
	c.box.compress = y.compress && strings.Contains(r.Header.Get("Sec-WebSocket-Extensions"), "permessage-deflate")
	c.box.mu.Unlock()
	c.ws, c.opened = ws, time.Now()
	if !h.take(c) {
		raw.Close()
		h.node.Left()
	}
}

// readAhead is what gws may hold of a connection that is no socket of the system, in
// bytes: small frames come in one read.
const readAhead = 512

// reader is what gws reads of the connection. Of a socket of the system the input has
// what was read ahead, so that gws need hold nothing.
func (c *Conn) reader() *bufio.Reader {
	if c.box.raw == nil {
		return bufio.NewReaderSize(c.net, readAhead)
	}
	return bufio.NewReaderSize(c.input.over(c.box.raw), 0)
}

// Offers are the subprotocols that a client offers, in its order.
func Offers(r *http.Request) []string {
	var all []string
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for offer := range strings.SplitSeq(line, ",") {
			all = append(all, strings.TrimSpace(offer))
		}
	}
	return all
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

// gathering is the connection as gws writes to it: that goes through the outbox, in
// order with everything else. gws reads past it: see Conn.reader.
type gathering struct {
	net.Conn
	c *Conn
}

// Write takes what gws answers a frame with.
func (g gathering) Write(p []byte) (int, error) {
	if len(p) > 0 && !afterLoss(p) {
		g.c.box.put(item{op: opRaw, kind: control, payload: append([]byte(nil), p...)})
	}
	return len(p), nil
}

// afterLoss says whether a frame of gws's is the close after a read that failed, which
// answers nothing: of a connection that is merely lost it would tell the peer 1000,
// "the session was ended". No other close of gws's is a 1000 that gives a reason.
func afterLoss(frame []byte) bool {
	const code = 2 // after opcode and length
	return len(frame) > code+2 && frame[0] == 0x80|opClose &&
		binary.BigEndian.Uint16(frame[code:]) == uint16(wire.CloseBye)
}

// Close is conn.run's to do, once the outbox is empty.
func (g gathering) Close() error { return nil }

// SetDeadline sets the reader's: the writer keeps its own.
func (g gathering) SetDeadline(t time.Time) error { return g.SetReadDeadline(t) }

// SetWriteDeadline is the outbox's to do.
func (g gathering) SetWriteDeadline(time.Time) error { return nil }
