package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/xid"

	"godwit/store"
)

// Drain is how a node's drain goes.
type Drain struct {
	Node store.Node
	store.Drain
}

// Ordered is the state of a drain that the node has not begun yet.
const Ordered = "ordered"

const (
	// obeyWithin is how long a node has to show that it obeys an order; it does
	// later what it could not do by then.
	obeyWithin = 2 * time.Second
	obeyLook   = 20 * time.Millisecond
)

// Drain asks a node to drain, within a budget or, with 0, its own. One that
// drains already takes up a new budget, and goes on as it does without one. May
// be repeated.
//
// Errors: ErrNoNode, Conflict, store.ErrUnavailable.
func (f *Fleet) Drain(ctx context.Context, name string, budget time.Duration) (Drain, error) {
	n, err := f.Node(ctx, name)
	if err != nil {
		return Drain{}, err
	}
	if err := obeys(n, store.OrderDrain); err != nil {
		return Drain{}, err
	}
	_, now, err := f.store.DrainOf(ctx, n.Ref)
	switch {
	case err != nil:
		return Drain{}, err
	case now.By == store.BySignal:
		return Drain{}, ending(n)
	case now.State == store.DrainRunning && budget == 0:
		return f.Drained(ctx, name)
	}
	return f.order(ctx, n, store.Order{What: store.OrderDrain, Budget: budget})
}

// Undrain ends a node's drain: offers that stand are withdrawn, and the node
// takes sockets again. May be repeated.
//
// Errors: ErrNoNode, ErrNoDrain, Conflict, store.ErrUnavailable.
func (f *Fleet) Undrain(ctx context.Context, name string) (Drain, error) {
	d, err := f.Drained(ctx, name)
	switch {
	case err != nil:
		return Drain{}, err
	case d.By == store.BySignal:
		return Drain{}, ending(d.Node)
	case d.State == store.DrainStopped:
		return d, nil
	}
	if err := obeys(d.Node, store.OrderStop); err != nil {
		return Drain{}, err
	}
	return f.order(ctx, d.Node, store.Order{What: store.OrderStop})
}

// Drained tells how a node's drain goes. What it says may be a second old.
//
// Errors: ErrNoNode, ErrNoDrain, store.ErrUnavailable.
func (f *Fleet) Drained(ctx context.Context, name string) (Drain, error) {
	n, err := f.Node(ctx, name)
	if err != nil {
		return Drain{}, err
	}
	order, d, err := f.store.DrainOf(ctx, n.Ref)
	switch {
	case err != nil:
		return Drain{}, err
	case order.What == store.OrderDrain && order.ID != d.Order:
		d = store.Drain{Order: order.ID, By: store.ByOperator, State: Ordered, Budget: order.Budget, Left: n.Owned}
	case d.State == "":
		return Drain{}, fmt.Errorf("%w of node %s", ErrNoDrain, name)
	}
	if !n.Alive && d.State != store.DrainDone {
		d.State = store.DrainStopped // nobody does it any more
	}
	return Drain{n, d}, nil
}

func ending(n store.Node) error {
	return conflict("node %s was told to end and drains: no order changes that", n.Node)
}

// order asks a node for something, and waits for a while to see it done.
func (f *Fleet) order(ctx context.Context, n store.Node, o store.Order) (Drain, error) {
	o.ID = xid.New().String()
	switch err := f.store.Ask(ctx, n.Ref, o); {
	case errors.Is(err, store.ErrGone):
		return Drain{}, conflict("node %s is lost", n.Node)
	case err != nil:
		return Drain{}, err
	}
	// If the word is lost, the node looks by itself.
	if err := f.store.Tell(ctx, n.Ref, store.Word{What: store.WordOrder}); err != nil {
		return Drain{}, err
	}
	tick := time.NewTicker(obeyLook)
	defer tick.Stop()
	late := time.NewTimer(obeyWithin)
	defer late.Stop()
	for {
		_, d, err := f.store.DrainOf(ctx, n.Ref)
		switch {
		case err != nil:
			return Drain{}, err
		case d.Order == o.ID && d.By == store.BySignal:
			return Drain{}, ending(n)
		case d.Order == o.ID:
			return Drain{n, d}, nil
		}
		select {
		case <-ctx.Done():
			return Drain{}, context.Cause(ctx)
		case <-late.C:
			return f.Drained(ctx, n.Node)
		case <-tick.C:
		}
	}
}
