package move

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/rs/xid"

	"godwit/measure"
	"godwit/rules/redirect"
	"godwit/server/ask"
	"godwit/server/auth"
	"godwit/server/session"
	"godwit/store"
	"godwit/wire"
)

const (
	// prepareWithin is how long a target has to keep a place.
	prepareWithin = 1500 * time.Millisecond
	// prepareTries is how many targets are asked for one offer. Who denies does so
	// at once; of those that say nothing, only silentTries are waited for.
	prepareTries = 32
	silentTries  = 3
	// wordsMost is how many words may wait; a target that cannot say its word in
	// time has denied.
	wordsMost   = 1024
	wordWorkers = 4
	// keysMost is how many keys of other nodes are kept: those of many deploys.
	keysMost = 1024
	// meetWithin is how long the answer to a login is waited for, where somebody asks
	// for an offer who knows of the session already.
	meetWithin = 500 * time.Millisecond
	// fleetFor is how long a look at the fleet is good for.
	fleetFor = 500 * time.Millisecond
)

// Config is what a Mover is told.
type Config struct {
	Ref store.Ref
	// NodeURL is this node's own (directed mode), PublicURL the fleet's.
	NodeURL, PublicURL string
	Life               time.Duration // of an offer
	MaxSessions        int           // 0: no limit
	Offers             int           // under way at once, for a drain or a balance
}

// Mover moves sessions. It is the session.Moves of its node.
type Mover struct {
	cfg   Config
	store *store.Store
	log   *slog.Logger
	key   ed25519.PrivateKey
	// load is the sessions attached; leaving says that the node takes no more.
	load    func() int
	leaving func() bool

	Stats map[string]*measure.Set // offers by what for, and what became of them

	words chan saying // what is to be said to other nodes

	desk *ask.Desk // where targets' words are waited for

	mu     sync.Mutex
	kept   map[string]place     // guarded by mu: for who is still to come, by offer
	sent   map[string]sent      // guarded by mu: by target
	keys   map[store.Ref]string // guarded by mu: of other nodes' lives; a life's never changes
	doubts map[string]doubt     // guarded by mu: of targets

	fleetMu sync.Mutex   // held over the round trip: one looks for all
	fleet   []store.Node // guarded by fleetMu: the last look
	looked  time.Time    // guarded by fleetMu: when that began
}

// place is one that is kept.
type place struct {
	redirect.Target
	sum string // of the token that will be shown, as its issuer has said; it may not have
}

// sent is what is under way to a target.
type sent struct{ offers, asks int } // asks are those offers that wait for its word

// saying is a word and whom it is for.
type saying struct {
	to   store.Ref
	word store.Word
}

// New makes a Mover with a key of its own.
func New(cfg Config, st *store.Store, load func() int, leaving func() bool, log *slog.Logger) *Mover {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return &Mover{
		cfg: cfg, store: st, log: log, key: key, load: load, leaving: leaving,
		words: make(chan saying, wordsMost), desk: ask.New(st), Stats: newStats(), kept: make(map[string]place), sent: make(map[string]sent),
		keys: make(map[store.Ref]string), doubts: make(map[string]doubt),
	}
}

// Run says what is to be said to other nodes until ctx ends.
func (m *Mover) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for range wordWorkers {
		all.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case w := <-m.words:
					if err := m.store.Tell(ctx, w.to, w.word); err != nil {
						m.log.Debug("node not told", "what", w.word.What, "error", err)
					}
				}
			}
		})
	}
	all.Wait()
	return nil
}

// say has a word said; it does not wait. A word may be lost as it is.
func (m *Mover) say(to store.Ref, w store.Word) {
	select {
	case m.words <- saying{to, w}:
	default:
	}
}

// Possible says whether there is a way to send anybody to another node.
func (m *Mover) Possible() bool { return m.cfg.NodeURL != "" || m.cfg.PublicURL != "" }

// Sent is how many offers are under way, those for which a place is asked included.
func (m *Mover) Sent() int {
	sent, _ := m.under()
	return sent
}

// Standing is how many offers clients have.
func (m *Mover) Standing() int {
	sent, asks := m.under()
	return sent - asks
}

func (m *Mover) under() (offers, asks int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, to := range m.sent {
		offers, asks = offers+to.offers, asks+to.asks
	}
	return offers, asks
}

// Key is the public half of what this node signs offers with.
func (m *Mover) Key() string { return string(m.key.Public().(ed25519.PublicKey)) }

// Pending is how many places are kept for sessions of other nodes.
func (m *Mover) Pending() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for id, t := range m.kept {
		if !t.Holds(now) {
			delete(m.kept, id)
		}
	}
	return len(m.kept)
}

// Why there is no offer.
var (
	// ErrNoTarget says that no node can be offered: there is no other, none has
	// room, or no URL leads to it.
	ErrNoTarget = errors.New("no node to be sent to")
	// ErrNotYet is an ErrNoTarget for the time being: there is another node, which
	// is silent, full, or about to join.
	ErrNotYet = fmt.Errorf("%w yet", ErrNoTarget)
	// ErrHeld says that each node that could be offered holds its share of what may
	// be under way: one of those has to end first.
	ErrHeld = errors.New("enough offers are under way")
	// ErrUnable says that the client does not follow redirects.
	ErrUnable = errors.New("the client follows no redirect")
)

// Why says what an offer is for.
type Why struct {
	Reason string // one of wire.For...
	Node   string // a node's name; empty: any
	ID     string // of the offer; empty: one is drawn
	Final  bool
	Not    string // a target that is not to be offered, as its Ref is written
	// Over is told what became of the offer, to whom it led, and why it was refused:
	// see session.Offering. nil: nobody asks.
	Over func(state store.OfferState, target, why string)
}

// asked says whether somebody waits for an offer, and is told why there is none.
func (w Why) asked() bool { return w.Reason == wire.ForRequest || w.Reason == wire.ForAdmin }

// Offer offers a session another node. It returns once the client has been
// told, or with the reason why there is no offer.
//
// Errors: ErrNoTarget, ErrNotYet, ErrHeld, ErrUnable, store.ErrBusy, store.ErrMoved, store.ErrGone,
// store.ErrUnavailable.
func (m *Mover) Offer(ctx context.Context, s *session.Session, why Why) error {
	after, err := m.untold(ctx, s, why)
	if after != nil {
		after()
	}
	return err
}

// untold is Offer, but for what follows: see session.Offer.
func (m *Mover) untold(ctx context.Context, s *session.Session, why Why) (after func(), err error) {
	after, err = m.offer(ctx, s, why)
	if err != nil && !errors.Is(err, ErrHeld) { // tried again, it becomes something
		m.count(why, unoffered(err))
	}
	return after, err
}

func (m *Mover) offer(ctx context.Context, s *session.Session, why Why) (after func(), _ error) {
	if s.Caps() != "redirect" {
		return nil, ErrUnable
	}
	if why.asked() {
		met, stop := context.WithTimeout(ctx, meetWithin)
		s.Meet(met)
		stop()
	}
	if s.Moving() || !s.Greeted() {
		return nil, store.ErrBusy
	}
	began := time.Now()
	nodes, at, err := m.look(ctx, began.Add(-fleetFor))
	if err != nil {
		return nil, err
	}
	denied := make(map[string]bool)
	if why.Not != "" {
		denied[why.Not] = true
	}
	if err := m.bar(ctx, s.ID(), nodes, why.Reason, denied); err != nil {
		return nil, err
	}
	o := store.Offer{ID: cmp.Or(why.ID, xid.New().String()), TokenID: xid.New().String(), Session: s.ID(), Gen: s.Gen(), Source: m.cfg.Ref}
	to, err := m.lead(ctx, o, nodes, why, denied)
	if errors.Is(err, ErrNoTarget) && why.asked() && !at.After(began) {
		// Who asks may know of a node that has become ready since the look.
		if nodes, _, err = m.look(ctx, began); err != nil {
			return nil, err
		}
		if err := m.bar(ctx, s.ID(), nodes, why.Reason, denied); err != nil {
			return nil, err
		}
		to, err = m.lead(ctx, o, nodes, why, denied)
	}
	switch {
	case errors.Is(err, ErrNoTarget) && m.another(nodes):
		return nil, ErrNotYet
	case err != nil:
		return nil, err
	}
	o.Target = to.target
	after, err = m.write(ctx, s, o, to, why)
	if err != nil {
		m.towards(o.Target.String(), -1, 0)
		m.release(o)
	}
	return after, err
}

// lead finds where an offer can lead to.
func (m *Mover) lead(ctx context.Context, o store.Offer, nodes []store.Node, why Why, denied map[string]bool) (way, error) {
	if m.cfg.NodeURL == "" {
		return m.anyone(o, nodes, why, denied)
	}
	return m.place(ctx, o, nodes, why, denied)
}

// way is where an offer leads to, and its token.
type way struct {
	target     store.Ref
	url, token string
	until      time.Time // of the token, by this node's clock
}

// sign makes the token of an offer. Its end is by the store's clock, for another
// node checks it; or by this node's, if that is later, for one of the version before
// goes by its own. The claim holds it to the offer's life.
func (m *Mover) sign(o store.Offer, url string) (way, error) {
	audience := o.Target.String()
	if o.Target.Node == store.Anyone {
		audience = store.Anyone
	}
	until := time.Now().Add(m.cfg.Life)
	token, err := auth.SignOffer(m.key, auth.Offer{
		ID: o.TokenID, Session: o.Session, Gen: o.Gen, Audience: audience,
		Issuer: m.cfg.Ref.String(), Expires: until.Add(max(0, m.store.Ahead())).UnixMilli(),
	})
	return way{o.Target, url, token, until}, err
}

// write hands the offer to the session. It is under way until it is over; with an
// error it never is.
func (m *Mover) write(ctx context.Context, s *session.Session, o store.Offer, to way, why Why) (after func(), _ error) {
	target := o.Target.String()
	return s.Offer(ctx, session.Offering{
		Offer: o, URL: to.url, Token: to.token, Life: m.cfg.Life, Until: to.until, Reason: why.Reason, Final: why.Final,
		Over: func(state store.OfferState, refusal string) {
			m.found(target, why, state, refusal) // before anybody else is sent in its place
			m.towards(target, -1, 0)
			if state != store.OfferCommitted && state != "" {
				m.release(o)
			}
			m.log.Debug("redirect over", "session", o.Session, "offer", o.ID, "state", string(state))
			m.count(why, cmp.Or(string(state), unknown))
			if why.Over != nil {
				why.Over(state, target, refusal)
			}
		},
	})
}

// towards notes that more, or fewer, are under way to a target.
func (m *Mover) towards(target string, offers, asks int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.towardsLocked(target, offers, asks)
}

func (m *Mover) towardsLocked(target string, offers, asks int) {
	to := m.sent[target]
	to.offers += offers
	to.asks += asks
	if m.sent[target] = to; to == (sent{}) {
		delete(m.sent, target)
	}
}

// look reads the fleet, unless that was begun since a moment, and says when it was.
func (m *Mover) look(ctx context.Context, since time.Time) ([]store.Node, time.Time, error) {
	m.fleetMu.Lock()
	defer m.fleetMu.Unlock()
	if m.looked.After(since) {
		return m.fleet, m.looked, nil
	}
	began := time.Now()
	nodes, err := m.store.Nodes(ctx)
	if err != nil {
		return nil, time.Time{}, err
	}
	m.fleet, m.looked = nodes, began
	return nodes, began, nil
}
