package fleet

import (
	"context"
	"fmt"
	"time"

	"github.com/rs/xid"

	"godwit/store"
)

// moveWithin is how long a session's node has to make an offer: it may ask
// three nodes for a place.
const moveWithin = 6 * time.Second

// Redirect has a session offered another node, or the one that is named, and
// returns the offer's id. The client may refuse, or not come.
//
// Errors: ErrNoSession, ErrNoNode, Conflict, ErrNoAnswer, store.ErrUnavailable.
func (f *Fleet) Redirect(ctx context.Context, sid, target string) (string, error) {
	rec, _, err := f.Session(ctx, sid)
	if err != nil {
		return "", err
	}
	nodes, err := f.Nodes(ctx)
	if err != nil {
		return "", err
	}
	if target != "" {
		n, err := pick(nodes, target)
		switch {
		case err != nil:
			return "", err
		case n.State != store.NodeReady:
			return "", conflict("node %s is not ready: it is %s", target, n.State)
		case n.Ref == rec.Owner:
			return "", conflict("the session is at node %s already", target)
		}
	}
	if rec.State != store.StateLive {
		return "", conflict("the session is not attached: its client may resume at any node")
	}
	for _, n := range nodes {
		if n.Ref != rec.Owner {
			continue
		}
		if err := obeys(n, store.WordMove); err != nil {
			return "", err
		}
		return f.move(ctx, n.Ref, sid, target)
	}
	return "", conflict("the session's node %s is lost", rec.Owner.Node)
}

// move asks a session's node to offer it another.
func (f *Fleet) move(ctx context.Context, owner store.Ref, sid, target string) (string, error) {
	id := xid.New().String()
	w := store.Word{What: store.WordMove, Session: sid, Offer: id, Target: target, Node: f.self.Node, Boot: f.self.Boot}
	switch answer, ok, err := f.desk.Ask(ctx, owner, w, moveWithin); {
	case err != nil:
		return "", err
	case ok:
		return id, refusal(answer.Why)
	}
	// The answer may be lost, and the offer made.
	if state, err := f.store.OfferOf(ctx, sid, id); err == nil && state != store.OfferExpired {
		return id, nil
	}
	return "", fmt.Errorf("%w from node %s", ErrNoAnswer, owner.Node)
}

// refusal is what a node's word means to who asked.
func refusal(why string) error {
	switch why {
	case "":
		return nil
	case store.NoSession:
		return conflict("the session is not attached: it moves, or its client is gone")
	case store.NoCaps:
		return conflict("the session's client follows no redirect")
	case store.NoTarget:
		return conflict("no node can take the session")
	case store.NoOther:
		return conflict("another offer to the session stands, or its login is not answered yet")
	case store.NoStore:
		return fmt.Errorf("offer the session a node: %w", store.ErrUnavailable)
	}
	return conflict("the session's node refused: %s", why) // a later version's
}

// Told takes another node's word. It does not wait.
func (f *Fleet) Told(w store.Word) { f.desk.Told(w) }
