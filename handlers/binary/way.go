package binary

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"godwit/handlers/socket"
	"godwit/rules/handle"
	"godwit/server/auth"
	"godwit/server/session"
	"godwit/wire"
	"godwit/wire/chatd"
	"godwit/wire/statusd"
)

// Node is what the dialects ask of the node.
type Node interface {
	// Verify says whom a token lets in.
	Verify(ctx context.Context, token string) (auth.Claims, *wire.Error)
	// Enter opens a session.
	Enter(ctx context.Context, sock session.Socket, e session.Entry) (*session.Session, session.Reply)
	// UserOf is the user that a handle belongs to, or "".
	UserOf(ctx context.Context, h handle.Handle) (string, error)
	// HandlesOf are the handles of users, in their order.
	HandlesOf(ctx context.Context, users []string) ([]handle.Handle, error)
}

// Config is what the ways in are told.
type Config struct {
	MessageBytes int // of one message, as its sender has it
}

// Chatd serves GET /v1/chatd/{room} on connections of the handler.
func Chatd(cfg Config, node Node, sockets *socket.Handler) http.Handler {
	return sockets.Way(socket.Way{Protocol: chatd.Protocol, Binary: true, Enter: func(w http.ResponseWriter, r *http.Request) func(*socket.Conn) socket.Dialect {
		claims, ok := enter(w, r, node)
		if !ok {
			return nil
		}
		room, bad := roomOf(r)
		if bad != nil {
			http.Error(w, bad.Message, http.StatusBadRequest)
			return nil
		}
		return func(c *socket.Conn) socket.Dialect {
			return &chat{line: c, node: node, cfg: cfg, claims: claims, room: room}
		}
	}})
}

// Statusd serves GET /v1/statusd on connections of the handler.
func Statusd(node Node, sockets *socket.Handler) http.Handler {
	return sockets.Way(socket.Way{Protocol: statusd.Protocol, Binary: true, Enter: func(w http.ResponseWriter, r *http.Request) func(*socket.Conn) socket.Dialect {
		claims, ok := enter(w, r, node)
		if !ok {
			return nil
		}
		return func(c *socket.Conn) socket.Dialect {
			return newStatus(c, node, claims)
		}
	}})
}

// keysAway is when to come again while the keys of tokens cannot be read, in seconds.
const keysAway = "2"

// enter says who comes, or answers that nobody does.
func enter(w http.ResponseWriter, r *http.Request, node Node) (auth.Claims, bool) {
	claims, bad := node.Verify(r.Context(), token(r))
	switch {
	case bad == nil:
		return claims, true
	case bad.Reason() == wire.Unavailable:
		w.Header().Set("Retry-After", keysAway)
		http.Error(w, bad.Message, http.StatusServiceUnavailable)
	default:
		w.Header().Set("WWW-Authenticate", "Bearer")
		http.Error(w, bad.Message, http.StatusUnauthorized)
	}
	return auth.Claims{}, false
}

// token is what the request shows: in a header or, from a browser, which cannot
// set one, as a subprotocol, which is never selected.
func token(r *http.Request) string {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	for _, offer := range socket.Offers(r) {
		if token, ok := strings.CutPrefix(offer, "bearer."); ok {
			return token
		}
	}
	return ""
}

// roomOf is the room that the last segment of the path names.
func roomOf(r *http.Request) (string, *wire.Error) {
	path := r.URL.EscapedPath()
	room, err := url.PathUnescape(path[strings.LastIndexByte(path, '/')+1:])
	if err != nil {
		return "", wire.ErrParams("room is not percent-encoded")
	}
	return room, session.CheckRoom(room)
}
