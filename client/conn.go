package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/lxzan/gws"

	"godwit/wire"
)

// subprotocol is what the client offers on /v1/ws.
const subprotocol = "godwit.v1"

// answer is told a call's outcome: the result, or a *wire.Error, or errLost
// when the socket ended first. It runs exactly once, in the socket's reader.
type answer func(result jsontext.Value, err error)

// conn is one websocket: calls with their answers, notices, and how it ended.
// It knows nothing of sessions. Frames are handled one after the other in the
// order they came, by one goroutine, which a handler may hold up.
type conn struct {
	ws   *gws.Conn
	pipe *gather
	// notice handles a notification. owned by the reader
	notice func(k *conn, method string, params jsontext.Value)
	// over runs once after the last frame, before the pending calls are told.
	over func(k *conn)
	done chan struct{} // closed when reader and writer have returned
	url  string

	// guarded by Client.mu: what the session notes about it
	dropped bool              // what it still delivers is not taken
	epochs  map[string]string // by room, during a redirect: whose order it tells

	mu sync.Mutex
	// guarded by mu
	calls  map[uint64]answer // nil once the socket has ended
	lastID uint64
	ended  *CloseError
	after  time.Duration // what bye asked for
	cause  error         // why this side ended it
}

// dial opens a websocket to rawURL. Nothing is left behind on an error.
func dial(ctx context.Context, o *Options, rawURL string,
	notice func(*conn, string, jsontext.Value), over func(*conn),
) (*conn, error) {
	nc, err := dialNet(ctx, o, rawURL)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", rawURL, err)
	}
	k := &conn{
		pipe: newGather(nc), notice: notice, over: over,
		done: make(chan struct{}), calls: make(map[uint64]answer), url: rawURL,
	}
	go k.pipe.run()
	unhook := context.AfterFunc(ctx, func() { _ = nc.Close() })
	wait := writeWait
	if t, ok := ctx.Deadline(); ok { // ctx ends it: gws leaves a goroutine where its own time is over
		wait += max(time.Until(t), 0)
	}
	ws, resp, err := gws.NewClientFromConn(k, &gws.ClientOption{
		Addr:             rawURL,
		RequestHeader:    http.Header{"Sec-Websocket-Protocol": {subprotocol}},
		HandshakeTimeout: wait,
	}, k.pipe)
	if !unhook() && err == nil {
		err = context.Cause(ctx)
		_ = k.pipe.Close()
	}
	if err != nil {
		<-k.pipe.done
		if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
			return nil, fmt.Errorf("dial %s: %w", rawURL, &refused{HTTPError{resp.StatusCode}, retryAfterHeader(resp)})
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("dial %s: %w", rawURL, err)
	}
	k.ws = ws
	go k.read()
	return k, nil
}

// dialNet opens the network connection, with TLS for wss.
func dialNet(ctx context.Context, o *Options, rawURL string) (net.Conn, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, err
	}
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "wss":
		port = "443"
	default:
		port = "80"
	}
	nc, err := o.Dial(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil || u.Scheme != "wss" {
		return nc, err
	}
	cfg := o.TLS.Clone()
	if cfg == nil {
		cfg = new(tls.Config)
	}
	if cfg.ServerName == "" {
		cfg.ServerName = u.Hostname()
	}
	tc := tls.Client(nc, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		_ = nc.Close()
		return nil, err
	}
	return tc, nil
}

// refused is an HTTPError with the Retry-After that came with it.
type refused struct {
	HTTPError
	after time.Duration
}

func (r *refused) Unwrap() error { return &r.HTTPError }

// retryAfterHeader reads Retry-After in seconds; a date is not used by nodes.
func retryAfterHeader(resp *http.Response) time.Duration {
	s, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || s < 0 || s > 3600 {
		return 0
	}
	return time.Duration(s) * time.Second
}

// read is the socket's reader.
func (k *conn) read() {
	defer close(k.done)
	k.ws.ReadLoop()
	<-k.pipe.done
	k.mu.Lock()
	calls := k.calls
	k.calls = nil
	k.mu.Unlock()
	k.over(k)
	ids := make([]uint64, 0, len(calls))
	for id := range calls {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		calls[id](nil, errLost)
	}
}

// call writes one request; members is its text after the id, from "method" to
// the end of the params. It does not wait. False says that the socket has
// ended: nothing was written and then will not be called.
func (k *conn) call(members []byte, then answer) bool {
	k.mu.Lock()
	if k.calls == nil {
		k.mu.Unlock()
		return false
	}
	k.lastID++
	id := k.lastID
	k.calls[id] = then
	k.mu.Unlock()

	b := make([]byte, 0, 40+len(members))
	b = append(b, `{"jsonrpc":"2.0","id":`...)
	b = strconv.AppendUint(b, id, 10)
	b = append(b, ',')
	b = append(b, members...)
	b = append(b, '}')
	// An error shows as the end of the reader, which answers the call.
	_ = k.ws.WriteMessage(gws.OpcodeText, b)
	return true
}

// tell writes one notification, whose text is as in call.
func (k *conn) tell(members []byte) {
	b := append([]byte(`{"jsonrpc":"2.0",`), members...)
	_ = k.ws.WriteMessage(gws.OpcodeText, append(b, '}'))
}

// abort ends the socket without a word to the peer. It does not wait.
func (k *conn) abort() {
	_ = k.pipe.Close()
	_ = k.pipe.Conn.Close()
}

// quit is abort for a reason, which why tells unless the peer gave its own.
func (k *conn) quit(cause error) {
	k.mu.Lock()
	k.cause = cause
	k.mu.Unlock()
	k.abort()
}

// why is how the socket ended, and the wait that the server asked for. Only
// after done.
func (k *conn) why() (*CloseError, time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.cause != nil && (k.ended == nil || k.ended.Code == codeLost):
		return &CloseError{Code: codeLost, Cause: k.cause}, k.after
	case k.ended == nil:
		return &CloseError{Code: codeLost}, k.after
	}
	return k.ended, k.after
}

// codeLost is the code of a socket that ended without a close frame.
const codeLost wire.CloseCode = 1006

// envelope is any frame of the server.
type envelope struct {
	ID     uint64         `json:"id"`
	Method string         `json:"method"`
	Params jsontext.Value `json:"params"`
	Result jsontext.Value `json:"result"`
	Error  *wire.Error    `json:"error"`
}

// OnMessage handles one frame. gws calls it from the reader.
func (k *conn) OnMessage(_ *gws.Conn, m *gws.Message) {
	defer m.Close()
	var e envelope
	if m.Opcode != gws.OpcodeText || json.Unmarshal(m.Bytes(), &e) != nil {
		return // of a later version, or an answer with a foreign id
	}
	if e.Method != "" {
		k.notice(k, e.Method, e.Params)
		return
	}
	k.mu.Lock()
	then := k.calls[e.ID]
	delete(k.calls, e.ID)
	k.mu.Unlock()
	switch {
	case then == nil:
	case e.Error != nil:
		then(nil, e.Error)
	default:
		then(e.Result, nil)
	}
}

// OnClose notes how the socket ended. gws calls it from the reader.
func (k *conn) OnClose(_ *gws.Conn, err error) {
	e := &CloseError{Code: codeLost}
	var ce *gws.CloseError
	switch {
	case errors.As(err, &ce):
		// gws reports a close frame without a code as 0.
		if e.Code = wire.CloseCode(ce.Code); e.Code < 1000 {
			e.Code = codeLost
		}
		e.Reason = string(ce.Reason)
	case errors.Is(err, os.ErrDeadlineExceeded):
		e.Cause = errors.New("peer is silent")
	default:
		e.Cause = err
	}
	k.pipe.mu.Lock()
	if k.pipe.broken != nil && ce == nil {
		e.Cause = k.pipe.broken
	}
	k.pipe.mu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ended = e
}

// OnOpen has nothing to do: the first frame is the session's.
func (k *conn) OnOpen(*gws.Conn) {}

// OnPing answers with the same payload, as the peer may match it.
func (k *conn) OnPing(ws *gws.Conn, payload []byte) { _ = ws.WritePong(payload) }

// OnPong has nothing to do: having been read is all it is for.
func (k *conn) OnPong(*gws.Conn, []byte) {}
