package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"godwit/server/fleet"
)

type drains interface {
	Drain(ctx context.Context, node string, budget time.Duration) (fleet.Drain, error)
	Drained(ctx context.Context, node string) (fleet.Drain, error)
	Undrain(ctx context.Context, node string) (fleet.Drain, error)
}

// Drain is how a node's drain goes.
type Drain struct {
	ID        string  `json:"id" doc:"of the order that it follows; empty when a signal began it"`
	Node      string  `json:"node"`
	Boot      string  `json:"boot"`
	NodeState string  `json:"node_state" enum:"joining,ready,draining,lost"`
	State     string  `json:"state" enum:"ordered,running,done,stopped" doc:"ordered: the node has not begun yet; done: nobody is left, or the budget is over"`
	By        string  `json:"by" enum:"operator,signal" doc:"after a signal the process ends"`
	BudgetMS  int64   `json:"budget_ms"`
	ElapsedMS int64   `json:"elapsed_ms"`
	Moved     int     `json:"moved" doc:"sessions handed over"`
	Left      int     `json:"left" doc:"sessions still attached"`
	Refused   int     `json:"refused" doc:"offers that clients declined"`
	Resumed   int     `json:"resumed" doc:"sessions told to resume elsewhere"`
	Rate      float64 `json:"rate" doc:"sessions a second that go, lately; of a drain that is over the mean"`
	ETAMS     int64   `json:"eta_ms" doc:"until nobody is left"`
}

// drained answers with what the fleet did.
func (a *api) drained(d fleet.Drain, err error) (*answer[Drain], error) {
	if err != nil {
		return nil, a.failed(err)
	}
	return &answer[Drain]{Drain{
		ID: d.Order, Node: d.Node.Node, Boot: d.Node.Boot, NodeState: d.Node.State, State: d.State, By: d.By,
		BudgetMS: d.Budget.Milliseconds(), ElapsedMS: d.Elapsed.Milliseconds(),
		Moved: d.Moved, Left: d.Left, Refused: d.Refused, Resumed: d.Resumed, Rate: d.Rate, ETAMS: d.ETA.Milliseconds(),
	}}, nil
}

// DrainOrder is what is asked of a node.
type DrainOrder struct {
	BudgetMS int64 `json:"budget_ms,omitempty,omitzero" minimum:"1" maximum:"86400000" doc:"time for the drain; absent: the node's GODWIT_DRAIN_BUDGET"`
}

func (a *api) serveDrains(h huma.API) {
	const path = "/nodes/{node}/drain"
	huma.Register(h, operation(http.MethodPost, path, "drain-node",
		"Drain a node: it takes no more sockets, and its sessions move to others. The process goes on", accepted),
		func(ctx context.Context, in *struct {
			NodeName
			Body *DrainOrder
		},
		) (*answer[Drain], error) {
			var budget time.Duration
			if in.Body != nil {
				budget = time.Duration(in.Body.BudgetMS) * time.Millisecond
			}
			return a.drained(a.fleet.Drain(ctx, in.Node, budget))
		})
	huma.Register(h, operation(http.MethodGet, path, "read-drain", "How a node's drain goes; it tells once a second"),
		func(ctx context.Context, in *NodeName) (*answer[Drain], error) {
			return a.drained(a.fleet.Drained(ctx, in.Node))
		})
	huma.Register(h, operation(http.MethodDelete, path, "undrain-node",
		"End a node's drain: offers that stand are withdrawn, and it takes sockets again"),
		func(ctx context.Context, in *NodeName) (*answer[Drain], error) {
			return a.drained(a.fleet.Undrain(ctx, in.Node))
		})
}
