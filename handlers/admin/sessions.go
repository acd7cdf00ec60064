package admin

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"godwit/store"
)

type sessions interface {
	Session(ctx context.Context, sid string) (store.Session, []string, error)
	End(ctx context.Context, sid string) error
	Redirect(ctx context.Context, session, node string) (offer string, err error)
}

// Session is a session as operators see it: its secret is nobody's business.
type Session struct {
	Session string    `json:"session"`
	User    string    `json:"user"`
	Client  uint32    `json:"client" format:"int64"`
	Device  string    `json:"device,omitempty"`
	Handle  string    `json:"handle" doc:"of its user, for the binary dialects"`
	State   string    `json:"state" enum:"live,detached"`
	Node    string    `json:"node" doc:"that holds it, or held it last"`
	Boot    string    `json:"boot" doc:"of that life of the node"`
	Gen     uint64    `json:"gen" doc:"how often it has changed hands"`
	Caps    []string  `json:"caps" doc:"what its client can do"`
	Rooms   []string  `json:"rooms"`
	Expires time.Time `json:"expires" doc:"with its token"`
	Moves   []Moved   `json:"moves" doc:"the last redirects, newest first"`
}

// Moved is a redirect that was taken up.
type Moved struct {
	At   time.Time `json:"at"`
	From string    `json:"from" doc:"the node that it left"`
	Boot string    `json:"boot"`
}

func sessionOf(s store.Session, rooms []string) Session {
	out := Session{
		Session: s.ID, User: s.User, Client: s.Client, Device: s.Device, Handle: s.Handle, State: s.State,
		Node: s.Owner.Node, Boot: s.Owner.Boot, Gen: s.Gen, Caps: strings.Fields(s.Caps),
		Rooms: slices.Sorted(slices.Values(rooms)), Expires: s.Expires.UTC(), Moves: []Moved{},
	}
	if out.Rooms == nil {
		out.Rooms = []string{}
	}
	for _, m := range s.Moves {
		out.Moves = append(out.Moves, Moved{At: m.At.UTC(), From: m.From.Node, Boot: m.From.Boot})
	}
	return out
}

// SessionID is the session that a path names.
type SessionID struct {
	Session string `path:"session" doc:"its id"`
}

// RedirectOrder says where a session is to go.
type RedirectOrder struct {
	Node string `json:"node,omitempty" doc:"a node's name; absent: any"`
}

// Redirect is an offer that was made to a client.
type Redirect struct {
	ID string `json:"id" doc:"of the offer: the client takes it up, refuses, or stays where it is"`
}

func (a *api) serveSessions(h huma.API) {
	huma.Register(h, operation(http.MethodGet, "/sessions/{session}", "read-session", "One session"),
		func(ctx context.Context, in *SessionID) (*answer[Session], error) {
			s, rooms, err := a.fleet.Session(ctx, in.Session)
			if err != nil {
				return nil, a.failed(err)
			}
			return &answer[Session]{sessionOf(s, rooms)}, nil
		})
	huma.Register(h, operation(http.MethodDelete, "/sessions/{session}", "end-session",
		"End a session: out of its rooms, and its socket is closed 4403", done),
		func(ctx context.Context, in *SessionID) (*struct{}, error) {
			return nil, a.failed(a.fleet.End(ctx, in.Session))
		})
	huma.Register(h, operation(http.MethodPost, "/sessions/{session}/redirect", "redirect-session", "Offer a session another node", accepted),
		func(ctx context.Context, in *struct {
			SessionID
			Body *RedirectOrder
		},
		) (*answer[Redirect], error) {
			node := ""
			if in.Body != nil {
				node = in.Body.Node
			}
			id, err := a.fleet.Redirect(ctx, in.Session, node)
			if err != nil {
				return nil, a.failed(err)
			}
			return &answer[Redirect]{Redirect{ID: id}}, nil
		})
}
