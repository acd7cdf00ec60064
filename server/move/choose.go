package move

import (
	"context"
	"math/rand/v2"
	"slices"

	"godwit/rules/drain"
	"godwit/rules/redirect"
	"godwit/server/auth"
	"godwit/store"
	"godwit/wire"
)

// bar adds to denied the nodes that a session may not move to without being in need of it.
func (m *Mover) bar(ctx context.Context, sid string, nodes []store.Node, reason string, denied map[string]bool) error {
	if reason != wire.ForBalance && reason != wire.ForRequest {
		return nil
	}
	rec, _, err := m.store.Peek(ctx, sid)
	if err != nil {
		return err
	}
	moves := make([]redirect.Move, len(rec.Moves))
	for i, mv := range rec.Moves {
		moves[i] = redirect.Move{At: mv.At, From: mv.From.String()}
	}
	now := m.store.Now() // the moves are by its clock
	rests := reason == wire.ForBalance && !redirect.Rested(moves, now)
	for _, n := range nodes {
		if n.Ref != m.cfg.Ref && (rests || !redirect.MayMove(moves, n.String(), now)) {
			denied[n.String()] = true
		}
	}
	return nil
}

// targets are the nodes that may be offered: all that rules/drain names, for a
// balance those that have too little, or the one that was asked for, if it can
// take a session at all. Called with mu held.
func (m *Mover) targetsLocked(nodes []store.Node, why Why, denied map[string]bool) []drain.Node {
	seen := m.seenLocked(nodes, denied)
	if why.Node != "" {
		for i, n := range nodes {
			if n.Node == why.Node && seen[i].Ready && n.Ref != m.cfg.Ref {
				return seen[i : i+1]
			}
		}
		return nil
	}
	m.passOverLocked(seen)
	if why.Reason == wire.ForBalance {
		return drain.Takers(seen, m.cfg.Ref.String())
	}
	return drain.Targets(seen, m.cfg.Ref.String())
}

// seenLocked are the nodes as the rules see them; one that is denied is not ready.
func (m *Mover) seenLocked(nodes []store.Node, denied map[string]bool) []drain.Node {
	seen := make([]drain.Node, 0, len(nodes))
	for _, n := range nodes {
		to := m.sent[n.String()]
		seen = append(seen, drain.Node{
			ID: n.String(), Revision: n.Revision, Started: n.Started, Load: n.Sessions + to.offers, Offers: to.offers, Asks: to.asks,
			Ready: n.Alive && n.State == store.NodeReady && m.reachable(n) && !denied[n.String()], Live: n.Alive,
		})
	}
	return seen
}

// another says whether some other node may take sessions, if not now. The one
// that drains will not.
func (m *Mover) another(nodes []store.Node) bool {
	return slices.ContainsFunc(nodes, func(n store.Node) bool {
		return n.Alive && n.State != store.NodeDraining && n.Ref != m.cfg.Ref && m.reachable(n)
	})
}

func (m *Mover) reachable(n store.Node) bool { return m.cfg.NodeURL == "" || n.URL != "" }

// reserve takes a target for an offer, which is under way to it from here on, with
// an ask: who chooses next sees that. One that holds its share is taken by no drain
// and no balance, which can wait; by a drain one that is crowded, rather than wait.
func (m *Mover) reserve(nodes []store.Node, why Why, denied map[string]bool) (target string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	targets := m.targetsLocked(nodes, why, denied)
	if len(targets) == 0 {
		return "", ErrNoTarget
	}
	peers := targets
	if why.Reason == wire.ForDrain {
		all := m.seenLocked(nodes, nil)
		m.passOverLocked(all)
		peers = drain.Peers(all, m.cfg.Ref.String(), targets)
	}
	free := drain.Free(targets, len(peers), m.cfg.Offers)
	if len(free) == 0 {
		free = slices.DeleteFunc(drain.Free(peers, len(peers), m.cfg.Offers), func(n drain.Node) bool { return denied[n.ID] })
	}
	switch {
	case len(free) > 0:
		targets = free
	case why.Reason == wire.ForDrain, why.Reason == wire.ForBalance:
		return "", ErrHeld
	}
	target = drain.Pick(targets, rand.IntN).ID
	m.sendsLocked(target, why)
	m.towardsLocked(target, 1, 1)
	return target, nil
}

// anyone is place where nodes have no URLs of their own: who claims the offer has
// a place.
func (m *Mover) anyone(o store.Offer, nodes []store.Node, why Why, denied map[string]bool) (way, error) {
	m.mu.Lock()
	none := m.cfg.PublicURL == "" || len(m.targetsLocked(nodes, why, denied)) == 0
	m.mu.Unlock()
	if none {
		return way{}, ErrNoTarget
	}
	o.Target = store.Ref{Node: store.Anyone}
	to, err := m.sign(o, m.cfg.PublicURL)
	if err == nil {
		m.towards(o.Target.String(), 1, 0)
	}
	return to, err
}

// place finds a target that keeps a place for the offer, which is under way to it
// then, and adds to denied who does not.
func (m *Mover) place(ctx context.Context, o store.Offer, nodes []store.Node, why Why, denied map[string]bool) (way, error) {
	for tries, silent := 0, 0; tries < prepareTries && silent < silentTries; tries++ {
		target, err := m.reserve(nodes, why, denied)
		if err != nil {
			return way{}, err
		}
		n := nodes[slices.IndexFunc(nodes, func(n store.Node) bool { return n.String() == target })]
		o.Target = n.Ref
		to, heard, kept, err := m.prepare(ctx, o, n.URL)
		m.towards(target, 0, -1)
		if kept {
			return to, nil
		}
		m.towards(target, -1, 0)
		if err != nil {
			return way{}, err
		}
		if !heard {
			silent++
		}
		denied[target] = true
	}
	return way{}, ErrNoTarget
}

// prepare asks the target, at its url, to keep a place for who will show the token,
// and waits for its word. One that is not heard may have kept it all the same.
func (m *Mover) prepare(ctx context.Context, o store.Offer, url string) (to way, heard, kept bool, err error) {
	to, err = m.sign(o, url)
	if err != nil {
		return way{}, false, false, err
	}
	w := store.Word{
		What: store.WordPrepare, Session: o.Session, Offer: o.ID, Sum: auth.OfferSum(to.token),
		Node: m.cfg.Ref.Node, Boot: m.cfg.Ref.Boot,
	}
	target := o.Target.String()
	m.asks(target)
	answer, heard, err := m.desk.Ask(ctx, o.Target, w, prepareWithin)
	if err == nil {
		m.asked(target, heard)
	}
	if !heard {
		m.release(o)
	}
	return to, heard, heard && answer.What == store.WordPrepared, err
}

// release tells a target that nobody comes for an offer; if that is lost, the
// place is kept no longer than the offer.
func (m *Mover) release(o store.Offer) {
	if o.Target.Node != store.Anyone {
		m.say(o.Target, store.Word{What: store.WordRelease, Offer: o.ID})
	}
}
