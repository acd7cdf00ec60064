package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

type moves interface {
	Redirect(ctx context.Context, session, node string) (offer string, err error)
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
	huma.Register(h, operation(http.MethodPost, "/sessions/{session}/redirect", "redirect-session", "Offer a session another node", accepted),
		func(ctx context.Context, in *struct {
			Session string `path:"session"`
			Body    *RedirectOrder
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
