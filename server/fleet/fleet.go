package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"godwit/server/ask"
	"godwit/store"
)

// Errors of who asks, besides Conflict and those of the store.
var (
	ErrNoNode    = errors.New("no such node")
	ErrNoSession = errors.New("no such session")
	ErrNoDrain   = errors.New("no drain")
	// ErrNoAnswer says that the node that was asked said nothing in time: it may
	// have done it.
	ErrNoAnswer = errors.New("no answer")
)

// Conflict says why something cannot be done as things stand.
type Conflict struct{ Why string }

func (c *Conflict) Error() string { return c.Why }

func conflict(format string, args ...any) error { return &Conflict{fmt.Sprintf(format, args...)} }

// Fleet is the fleet as one of its nodes sees it.
type Fleet struct {
	store *store.Store
	self  store.Ref
	desk  *ask.Desk
}

// New makes the view of a node.
func New(st *store.Store, self store.Ref) *Fleet {
	return &Fleet{store: st, self: self, desk: ask.New(st)}
}

// Nodes are all nodes that the store knows, by name and then by boot. One whose
// lease is over is store.NodeLost until it is swept; its next life, under the
// same name, is another node.
//
// Errors: store.ErrUnavailable.
func (f *Fleet) Nodes(ctx context.Context) ([]store.Node, error) {
	nodes, err := f.store.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	for i := range nodes {
		if !nodes[i].Alive {
			nodes[i].State = store.NodeLost
		}
	}
	slices.SortFunc(nodes, func(a, b store.Node) int {
		return cmp.Compare(a.String(), b.String())
	})
	return nodes, nil
}

// Node is the node of that name: of several lives the one that lives, and of
// those the youngest.
//
// Errors: ErrNoNode, store.ErrUnavailable.
func (f *Fleet) Node(ctx context.Context, name string) (store.Node, error) {
	nodes, err := f.Nodes(ctx)
	if err != nil {
		return store.Node{}, err
	}
	return pick(nodes, name)
}

func pick(nodes []store.Node, name string) (store.Node, error) {
	var found *store.Node
	for i := range nodes {
		n := &nodes[i]
		if n.Node != name {
			continue
		}
		if found == nil || n.Alive && !found.Alive || n.Alive == found.Alive && n.Started.After(found.Started) {
			found = n
		}
	}
	if found == nil {
		return store.Node{}, fmt.Errorf("%w: %s", ErrNoNode, name)
	}
	return *found, nil
}

// obeys says whether a node that lives does what is asked, and if not, why.
func obeys(n store.Node, order string) error {
	switch {
	case !n.Alive:
		return conflict("node %s is lost", n.Node)
	case !slices.Contains(strings.Fields(n.Knows), order):
		return conflict("node %s is of a revision that does not know this (%s)", n.Node, order)
	}
	return nil
}
