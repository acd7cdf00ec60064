package move

import (
	"context"
	"errors"
	"strings"
	"time"

	"godwit/rules/redirect"
	"godwit/server/auth"
	"godwit/server/session"
	"godwit/store"
	"godwit/wire"
)

// Told takes another node's word about a place for an offer. It does not wait.
func (m *Mover) Told(w store.Word) {
	switch w.What {
	case store.WordPrepare:
		back := store.Word{What: store.WordDenied, Offer: w.Offer, Node: m.cfg.Ref.Node, Boot: m.cfg.Ref.Boot}
		if m.keep(w.Offer, w.Sum) {
			back.What = store.WordPrepared
		}
		m.say(store.Ref{Node: w.Node, Boot: w.Boot}, back)
	case store.WordPrepared, store.WordDenied:
		m.desk.Told(w)
	case store.WordRelease:
		m.giveUp(w.Offer)
	}
}

// keep keeps a place for an offer, if there is one; sum stands for its token.
func (m *Mover) keep(id, sum string) bool {
	if id == "" || m.leaving() {
		return false
	}
	if m.cfg.MaxSessions > 0 && m.load()+m.Pending() >= m.cfg.MaxSessions {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.kept[id]
	if !t.Prepare(id, time.Now().Add(m.cfg.Life)) {
		return t.Holds(time.Now()) // said twice
	}
	t.sum = sum
	m.kept[id] = t
	return true
}

// giveUp gives the place of an offer up for which nobody comes.
func (m *Mover) giveUp(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t := m.kept[id]; t.Cancelled(id) {
		delete(m.kept, id)
	}
}

// Taken is session.Moves: the place of an offer that was claimed is the
// session's. Where nodes have no URLs of their own none was kept.
func (m *Mover) Taken(id string) redirect.Target {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.kept[id]
	delete(m.kept, id)
	t.Claimed(id)
	return t.Target
}

// Check reads the token that a client shows, and says whether this node takes
// the session up. See session.Moves.
func (m *Mover) Check(ctx context.Context, id, token string) (store.Offer, *wire.Error) {
	m.mu.Lock()
	vouched := m.kept[id].sum
	m.mu.Unlock()
	now := time.Now().Add(min(0, m.store.Ahead())) // the earlier clock: see sign
	p, err := auth.VerifyOffer(token, m.cfg.Ref.String(), vouched, now, func(issuer string) (string, error) {
		ref, ok := refOf(issuer)
		if !ok {
			return "", nil
		}
		return m.keyOf(ctx, ref)
	})
	switch {
	case err == nil:
	case errors.Is(err, auth.ErrBadOffer):
		return store.Offer{}, wire.Errorf(wire.BadToken, "the token is no offer of this fleet")
	case errors.Is(err, auth.ErrOfferAudience):
		return store.Offer{}, wire.Errorf(wire.WrongAudience, "the offer is for another node")
	case errors.Is(err, auth.ErrOfferExpired):
		return store.Offer{}, wire.Errorf(wire.Expired, "the offer is over")
	default:
		m.log.Debug("offer not checked", "error", err)
		return store.Offer{}, wire.Errorf(wire.Capacity, "this node cannot take the session now")
	}
	source, _ := refOf(p.Issuer) // read above
	if source == m.cfg.Ref {
		return store.Offer{}, wire.Errorf(wire.SameNode, "the offer comes from this node; dial again")
	}
	if m.leaving() {
		return store.Offer{}, wire.Errorf(wire.Capacity, "this node is draining")
	}
	return store.Offer{ID: id, TokenID: p.ID, Session: p.Session, Gen: p.Gen, Source: source}, nil
}

// keyOf is the public half of what a node signs offers with; empty when there is
// no such node.
func (m *Mover) keyOf(ctx context.Context, ref store.Ref) (string, error) {
	m.mu.Lock()
	key, ok := m.keys[ref]
	m.mu.Unlock()
	if ok {
		return key, nil
	}
	key, err := m.store.NodeKey(ctx, ref)
	if err != nil || key == "" {
		return "", err // made up, or gone: it may be asked for without an end
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.keys) >= keysMost {
		clear(m.keys)
	}
	m.keys[ref] = key
	return key, nil
}

// refOf reads "NODE BOOT".
func refOf(text string) (store.Ref, bool) {
	node, boot, ok := strings.Cut(text, " ")
	return store.Ref{Node: node, Boot: boot}, ok && node != "" && boot != ""
}

// Request is session.Moves: a client asks for an offer.
func (m *Mover) Request(ctx context.Context, s *session.Session, node string) (after func(), _ *wire.Error) {
	after, err := m.untold(ctx, s, Why{Reason: wire.ForRequest, Node: node})
	switch {
	case err == nil:
		return after, nil
	case errors.Is(err, ErrNoTarget), errors.Is(err, ErrUnable):
		return nil, wire.Errorf(wire.NoTarget, "%s", err)
	case errors.Is(err, store.ErrBusy):
		return nil, nil // an offer stands: that one follows, or has
	case errors.Is(err, store.ErrMoved), errors.Is(err, store.ErrGone):
		return after, wire.Errorf(wire.Moved, "the session lives on another socket")
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, context.Canceled):
		return nil, wire.ErrUnavailable()
	}
	m.log.Error("no redirect offered", "session", s.ID(), "error", err)
	return nil, wire.ErrInternal()
}
