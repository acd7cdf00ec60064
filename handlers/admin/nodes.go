package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"godwit/store"
)

type nodes interface {
	Nodes(ctx context.Context) ([]store.Node, error)
	Node(ctx context.Context, name string) (store.Node, error)
}

// Node is a node as operators see it.
type Node struct {
	Node     string    `json:"node"`
	Boot     string    `json:"boot" doc:"of this life of the node"`
	State    string    `json:"state" enum:"joining,ready,draining,lost"`
	Revision string    `json:"revision"`
	URL      string    `json:"url,omitempty" doc:"where clients reach it by name"`
	Sessions int       `json:"sessions" doc:"attached to it"`
	Rooms    int       `json:"rooms" doc:"it has members in"`
	Load     int       `json:"load" doc:"sessions attached, and places kept for those on their way"`
	LeaseMS  int64     `json:"lease_ms" doc:"until it is lost, if it does not renew"`
	Started  time.Time `json:"started"`
}

func nodeOf(n store.Node) Node {
	return Node{
		Node: n.Node, Boot: n.Boot, State: n.State, Revision: n.Revision, URL: n.URL, Sessions: n.Owned,
		Rooms: n.Rooms, Load: n.Sessions, LeaseMS: n.Lease.Milliseconds(), Started: n.Started.UTC(),
	}
}

// NodeName is the node that a path names.
type NodeName struct {
	Node string `path:"node" doc:"its name"`
}

type answer[T any] struct{ Body T }

func (a *api) serveNodes(h huma.API) {
	huma.Register(h, operation(http.MethodGet, "/nodes", "list-nodes", "The nodes of the fleet"),
		func(ctx context.Context, in *Span) (*answer[list[Node]], error) {
			all, err := a.fleet.Nodes(ctx)
			if err != nil {
				return nil, a.failed(err)
			}
			part, err := cut(all, func(n store.Node) string { return n.String() }, *in)
			if err != nil {
				return nil, err
			}
			out := list[Node]{Items: []Node{}, Cursor: part.Cursor}
			for _, n := range part.Items {
				out.Items = append(out.Items, nodeOf(n))
			}
			return &answer[list[Node]]{out}, nil
		})
	huma.Register(h, operation(http.MethodGet, "/nodes/{node}", "read-node", "One node: of several lives the one that lives"),
		func(ctx context.Context, in *NodeName) (*answer[Node], error) {
			n, err := a.fleet.Node(ctx, in.Node)
			if err != nil {
				return nil, a.failed(err)
			}
			return &answer[Node]{nodeOf(n)}, nil
		})
}
