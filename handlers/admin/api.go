// Package admin is the operators' way in: probes, and the admin API about the
// whole fleet, whichever node is asked.
//
// It reads requests, lets in who has the token, and turns errors into problems
// (RFC 9457). It decides nothing about nodes or sessions: that is server/fleet's.
package admin

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/go-json-experiment/json"

	"godwit/server"
	"godwit/server/fleet"
	"godwit/store"
)

// Config is what the operators' way in stands on.
type Config struct {
	Token string // of the admin API; empty turns it off
	State func() server.State
	Fleet Fleet
	// MessageBytes is the largest data of a message; 0 is no limit but the body's.
	MessageBytes int
	// MaxContacts is how long a list of contacts may be: what a body may hold.
	MaxContacts int
	Metrics     Metrics
	Profiles    bool // serve /debug/pprof, behind the token
	Log         *slog.Logger
	Audit       *slog.Logger // of what operators change
}

// Metrics shows what the node counts, and counts what is asked of this way in.
type Metrics interface {
	http.Handler
	// Served counts a request by the pattern of its path.
	Served(route, method string, status int)
}

// Fleet is what the API asks; server/fleet answers it. Each noun names its part.
type Fleet interface {
	nodes
	drains
	rooms
	sessions
	users
	contacts
}

// api is the admin API.
type api struct {
	fleet        Fleet
	messageBytes int
	log          *slog.Logger
}

// New serves the probes, /metrics, /openapi.json, /admin/v1 and maybe /debug/pprof.
func New(cfg Config) http.Handler {
	r := chi.NewRouter()
	r.Use(served(cfg.Metrics.Served), jsonBody, guard(cfg.Token), audit(cfg.Audit), middleware.GetHead)
	r.NotFound(func(w http.ResponseWriter, _ *http.Request) { problem(w, http.StatusNotFound, "there is nothing here") })
	r.MethodNotAllowed(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Allow", strings.Join(methods(r, q), ", "))
		problem(w, http.StatusMethodNotAllowed, "this path has other methods")
	})
	probes(r, cfg.State)
	r.Method(http.MethodGet, "/metrics", cfg.Metrics)
	if cfg.Profiles {
		profiles(r)
	}
	c := huma.DefaultConfig("Godwit", "1")
	c.DocsPath, c.SchemasPath, c.CreateHooks = "", "", nil // no page from elsewhere, no $schema in answers
	c.Info.Description = "What operators ask of a fleet. Every answer is about the fleet, not the node asked."
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer"}}
	h := humachi.New(r, c)
	a := &api{fleet: cfg.Fleet, messageBytes: cfg.MessageBytes, log: cfg.Log}
	a.serveNodes(h)
	a.serveDrains(h)
	a.serveRooms(h)
	a.serveMessages(h)
	a.serveSessions(h)
	a.serveUsers(h, cfg.MaxContacts)
	return r
}

const (
	// bodyMost is the largest body of a request, in bytes.
	bodyMost = 64 << 10
	prefix   = "/admin/v1"
)

// operation is an entry of the API. Every one of them may also answer 401, 404
// without a token set, 422 and 503, and one that takes a body 400 and 413.
func operation(method, path, id, summary string, change ...func(*huma.Operation)) huma.Operation {
	op := huma.Operation{
		OperationID: id, Method: method, Path: prefix + path, Summary: summary, MaxBodyBytes: bodyMost,
		Security: []map[string][]string{{"token": {}}},
		Errors: []int{
			http.StatusUnauthorized, http.StatusNotFound, http.StatusConflict,
			http.StatusServiceUnavailable, http.StatusGatewayTimeout,
		},
	}
	if method == http.MethodPost || method == http.MethodPut {
		op.Errors = append(op.Errors, http.StatusBadRequest, http.StatusRequestEntityTooLarge)
	}
	for _, f := range change {
		f(&op)
	}
	return op
}

// accepted makes 202 the answer.
func accepted(op *huma.Operation) { op.DefaultStatus = http.StatusAccepted }

// done makes 204 the answer: there is nothing to tell.
func done(op *huma.Operation) { op.DefaultStatus = http.StatusNoContent }

// jsonBody takes a body for JSON, whatever it is called.
func jsonBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("Content-Type", "application/json")
		next.ServeHTTP(w, r)
	})
}

// guard lets in to the API, and to the profiles, who has the token.
func guard(token string) func(http.Handler) http.Handler {
	want := sha256.Sum256([]byte(token))
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
			got := sha256.Sum256([]byte(given)) // of one length, so that the time tells nothing
			switch {
			case !strings.HasPrefix(r.URL.Path, "/admin/") && !strings.HasPrefix(r.URL.Path, debug):
				next.ServeHTTP(w, r)
			case token == "":
				problem(w, http.StatusNotFound, "the admin API is off: GODWIT_ADMIN_TOKEN is not set at this node")
			case !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(got[:], want[:]) != 1:
				w.Header().Set("WWW-Authenticate", "Bearer")
				problem(w, http.StatusUnauthorized, "expected Authorization: Bearer with the admin token")
			default:
				next.ServeHTTP(w, r)
			}
		})
	}
}

// methods are those that the path of a request has.
func methods(routes chi.Routes, r *http.Request) (out []string) {
	path := cmp.Or(r.URL.RawPath, r.URL.Path)
	for _, m := range []string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodPatch, http.MethodDelete} {
		if !routes.Match(chi.NewRouteContext(), m, path) {
			continue
		}
		if out = append(out, m); m == http.MethodGet {
			out = append(out, http.MethodHead) // is answered as that
		}
	}
	return out
}

// problem answers what no operation answers.
func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.MarshalWrite(w, map[string]any{"title": http.StatusText(status), "status": status, "detail": detail}, json.Deterministic(true)) // who is gone needs no answer
}

// failed turns an error into a problem.
func (a *api) failed(err error) error {
	var c *fleet.Conflict
	var w *fleet.Wrong
	switch {
	case err == nil:
		return nil
	case errors.As(err, &w):
		return huma.Error422UnprocessableEntity(w.Why)
	case errors.As(err, &c):
		return huma.Error409Conflict(c.Why)
	case errors.Is(err, fleet.ErrNoNode), errors.Is(err, fleet.ErrNoSession), errors.Is(err, fleet.ErrNoDrain),
		errors.Is(err, fleet.ErrNoRoom), errors.Is(err, fleet.ErrNoMember):
		return huma.Error404NotFound(err.Error())
	case errors.Is(err, fleet.ErrNoAnswer):
		return huma.Error504GatewayTimeout(err.Error() + ": it may have done it; look again")
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		// Whoever asked has gone, or the store has had its time.
		a.log.Debug("admin request not answered", "error", err)
		return huma.ErrorWithHeaders(huma.Error503ServiceUnavailable("the store cannot be reached: the outcome is unknown, ask again"),
			http.Header{"Retry-After": {"1"}})
	}
	a.log.Error("admin request failed", "error", err)
	return huma.Error500InternalServerError("something is wrong here; the node's log says what")
}

// Span is the part of a list that is asked for.
type Span struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"items at most"`
	Cursor string `query:"cursor" doc:"where the last answer ended"`
}

// list is a part of a list.
type list[T any] struct {
	Items  []T    `json:"items"`
	Cursor string `json:"cursor,omitempty" doc:"of the items that follow, if there are any"`
}

// after is the key of the last item that was told; empty: none was.
func (s Span) after() (string, error) {
	after, err := base64.RawURLEncoding.DecodeString(s.Cursor)
	if err != nil {
		return "", huma.Error422UnprocessableEntity("cursor: expected one of an answer before")
	}
	return string(after), nil
}

// cursor leads to the items behind a key.
func cursor(key string) string { return base64.RawURLEncoding.EncodeToString([]byte(key)) }

// cut is the part of a whole list, sorted by key, that is asked for.
func cut[T any](all []T, key func(T) string, s Span) (list[T], error) {
	after, err := s.after()
	if err != nil {
		return list[T]{}, err
	}
	out := list[T]{Items: []T{}}
	for _, item := range all {
		switch {
		case s.Cursor != "" && key(item) <= after:
		case len(out.Items) == s.Limit:
			out.Cursor = cursor(key(out.Items[s.Limit-1]))
			return out, nil
		default:
			out.Items = append(out.Items, item)
		}
	}
	return out, nil
}
