package server

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"godwit/measure"
	"godwit/rules/drain"
	"godwit/rules/handle"
	"godwit/server/auth"
	"godwit/server/fleet"
	"godwit/server/hub"
	"godwit/server/move"
	"godwit/server/presence"
	"godwit/server/relay"
	"godwit/server/session"
	"godwit/server/watch"
	"godwit/store"
	"godwit/trace"
	"godwit/wire"
)

// Config is what a node is told.
type Config struct {
	session.Config // Node.Boot is drawn by New when empty

	URL         string // of this node, for others to be sent to; may be empty
	PublicURL   string // of the fleet, likewise
	OfferTTL    time.Duration
	Rebalance   bool // move sessions to nodes that have fewer
	Revision    string
	Lease       time.Duration
	DrainBudget time.Duration
	MaxSessions int           // 0: no limit
	Offers      int           // under way at once in a drain; 0: drain.Offers
	Trace       *trace.Tracer // nil: no send is followed

	// Allowed is asked before anything is written of this node, until it is nil
	// and the node has joined, and again when its lease was over; a nil func allows.
	Allowed func(context.Context) error
}

// Node is one node of the fleet.
type Node struct {
	cfg   Config
	store *store.Store
	log   *slog.Logger

	door    *session.Door
	hub     *hub.Registry[*session.Session]
	relay   *relay.Relay
	board   *presence.Board
	sub     *store.Subscriber
	lease   *watch.Lease
	custody *watch.Custody
	leaving *watch.Departures
	sweep   *watch.Sweep
	calls   *watch.Calls
	mover   *move.Mover
	fleet   *fleet.Fleet
	orders  *orders

	started  time.Time
	sockets  atomic.Int64
	draining atomic.Bool
	refused  *measure.Set // sockets, by why
	drains   *measure.Set // by how they ended

	drainMu sync.Mutex
	drain   *drainer // guarded by drainMu: the last one
}

// New makes a node on a store. Run starts it.
func New(cfg Config, st *store.Store, verifier *auth.Verifier, log *slog.Logger) *Node {
	if cfg.Node.Boot == "" {
		cfg.Node.Boot = rand.Text()[:12]
	}
	cfg.Offers = cmp.Or(cfg.Offers, drain.Offers)
	n := &Node{cfg: cfg, store: st, log: log, hub: hub.NewRegistry[*session.Session](), started: time.Now(), refused: newRefused(), drains: newDrains()}
	ref := cfg.Node
	n.custody = &watch.Custody{
		Store: st, Ref: ref, Hub: n.hub, Log: log,
		Renew:   func(ctx context.Context) error { return st.Renew(ctx, n.record()) },
		Suspect: n.suspect,
	}
	n.custody.Init()
	n.relay = relay.New(st, n.custody.Whole, log)
	n.sub = st.NewSubscriber(ref, listener{n})
	n.board = presence.New(st, log)
	n.board.Listen(n.sub)
	n.relay.Listen(n.sub, n.board)
	n.calls = watch.NewCalls(st, cfg.CallTimeout, log)
	n.relay.Calls(n.calls.Heard)
	n.relay.Trace(cfg.Trace)
	n.lease = watch.NewLease(st, cfg.Lease, n.record, n.whole, n.reclaim, log)
	n.leaving = watch.NewDepartures(st, ref, log)
	n.mover = move.New(move.Config{
		Ref: ref, NodeURL: cfg.URL, PublicURL: cfg.PublicURL, Life: cfg.OfferTTL, MaxSessions: cfg.MaxSessions, Offers: cfg.Offers,
	}, st, n.hub.Len, n.draining.Load, log)
	n.fleet, n.orders = fleet.New(st, ref), newOrders(n)
	n.sweep = &watch.Sweep{Store: st, Ref: ref, Lease: n.lease, Log: log}
	n.door = &session.Door{
		Config: cfg.Config, Store: st, Relay: n.relay, Hub: n.hub, Board: n.board, Verifier: verifier,
		Leaving: leaving{n.leaving, n.custody}, Moves: n.mover, Calls: n.calls, Turns: session.NewTurns(), Stats: session.NewStats(),
		Fenced: func() bool { return n.lease.Fenced(time.Now()) }, Full: n.full,
		Trace: cfg.Trace, Log: log,
	}
	return n
}

// leaving is what a session's end needs of the watch.
type leaving struct {
	*watch.Departures
	custody *watch.Custody
}

func (l leaving) Suspect(s *session.Session) { l.custody.Look(s) }

// listener is what the node does with what it hears. Its methods do not wait.
type listener struct{ n *Node }

func (l listener) Heard(room string, m store.Message, whole bool) { l.n.relay.Heard(room, m, whole) }

func (l listener) Inbox(user string, m store.Inbox) { l.n.board.Inbox(user, m) }

func (l listener) Told(w store.Word) {
	// A word may be old: the store is asked before anything is closed.
	switch w.What {
	case store.WordReplaced:
		if s, ok := l.n.hub.Find(w.Session); ok && s.Gen() < w.Gen {
			l.n.custody.Look(s)
		}
	case store.WordClaimed, store.WordDone:
		if s, ok := l.n.hub.Find(w.Session); ok {
			s.Told(w.Offer, w.What == store.WordDone)
		}
	case store.WordEnded:
		if s, ok := l.n.hub.Find(w.Session); ok {
			s.SignedOut()
			l.n.custody.Look(s)
		}
	case store.WordOrder, store.WordMove:
		l.n.orders.told(w)
	case store.WordOffered:
		l.n.fleet.Told(w)
	default:
		l.n.mover.Told(w)
	}
}

func (l listener) Reset() {
	l.n.log.Warn("subscription renewed; comparing rooms with their logs", "rooms", l.n.relay.Len())
	l.n.relay.Reset()
	l.n.board.Suspect()
	l.n.custody.Look(l.n.hub.All()...) // a word may have been missed, too
}

func (l listener) Suspect() { l.n.suspect() }

// suspect has everything compared with the store that is heard from it.
func (n *Node) suspect() {
	n.relay.Suspect()
	n.board.Suspect()
}

// record is the node as the fleet sees it.
func (n *Node) record() store.Node {
	state := store.NodeReady
	switch {
	case n.draining.Load():
		state = store.NodeDraining
	case !n.lease.Held():
		state = store.NodeJoining
	}
	return store.Node{
		Ref: n.cfg.Node, URL: n.cfg.URL, Revision: n.cfg.Revision, State: state,
		Sessions: n.hub.Len() + n.mover.Pending(), Started: n.started, Key: n.mover.Key(),
		Rooms: n.relay.Len(), Knows: strings.TrimSpace(knows + " " + n.store.Sharded().Knows()),
	}
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// whole is done before each renewal of the lease.
func (n *Node) whole(ctx context.Context) error {
	if n.cfg.Allowed != nil && n.lease.Fenced(time.Now()) {
		if err := n.cfg.Allowed(ctx); err != nil {
			return fmt.Errorf("ask whether the node may join: %w", err)
		}
	}
	return n.custody.Whole(ctx)
}

// reclaim is done before a node that was fenced writes again.
func (n *Node) reclaim(ctx context.Context) error {
	if err := n.custody.All(ctx); err != nil {
		return fmt.Errorf("look at own sessions: %w", err)
	}
	n.suspect()
	return nil
}

// Joined is closed when the node holds its lease for the first time.
func (n *Node) Joined() <-chan struct{} { return n.lease.Joined() }

// Sessions is how many sessions are attached.
func (n *Node) Sessions() int { return n.hub.Len() }

// Fleet answers for every node.
func (n *Node) Fleet() *fleet.Fleet { return n.fleet }

// Ref is the node's name and boot.
func (n *Node) Ref() store.Ref { return n.cfg.Node }

// leaveWithin is how long a node that stops tries to tell the store so.
const leaveWithin = 2 * time.Second

// Run lives until ctx ends: first Drain if the sessions are to be told. When
// it returns, the store has been told of every session that was attached, as
// far as it could be reached.
func (n *Node) Run(ctx context.Context) error {
	lanes, stopLanes := context.WithCancel(context.WithoutCancel(ctx))
	duties, stopDuties := context.WithCancel(lanes)
	var store, work sync.WaitGroup
	store.Go(func() { n.fatal("store", n.store.Run(lanes)) })
	for name, run := range map[string]func(context.Context) error{
		"subscriber": n.sub.Run, "relay": n.relay.Run, "presence": n.board.Run, "lease": n.lease.Run,
		"custody": n.custody.Run, "sweep": n.sweep.Run, "calls": n.calls.Run, "mover": n.mover.Run, "orders": n.orders.run, "balance": n.balance,
	} {
		work.Go(func() { n.fatal(name, run(duties)) })
	}
	leave, stopLeaving := context.WithCancel(lanes)
	var departures sync.WaitGroup
	departures.Go(func() { n.fatal("departures", n.leaving.Run(leave)) })

	<-ctx.Done()
	stopDuties()
	work.Wait()
	n.depart(lanes)
	stopLeaving()
	departures.Wait()
	stopLanes()
	store.Wait()
	return nil
}

// balance keeps the node's load near the fleet's, if it is to.
func (n *Node) balance(ctx context.Context) error {
	if !n.cfg.Rebalance {
		return nil
	}
	b := &move.Balance{Mover: n.mover, Hub: n.hub, Settled: func() bool { return n.lease.Settled(time.Now()) }}
	return b.Run(ctx)
}

func (n *Node) fatal(duty string, err error) {
	if err != nil {
		n.log.Error("duty ended", "duty", duty, "error", err)
	}
}

// depart tells the store that the node is gone, so that nobody waits for its
// lease to end.
func (n *Node) depart(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leaveWithin)
	defer cancel()
	err := n.leaving.Flush(ctx)
	if err == nil {
		var left []string
		if left, err = n.store.Owned(ctx, n.cfg.Node, 1); err == nil && len(left) == 0 {
			err = n.store.Expel(ctx, n.cfg.Node)
		}
	}
	if err != nil {
		n.log.Warn("left without telling the store; another node sweeps", "error", err)
	}
}

// Admit decides whether a socket may come in; Left must follow each one that
// did, when it is gone.
func (n *Node) Admit() *session.Refusal {
	r, why := n.admit()
	if r != nil {
		n.refused.Add(why)
	}
	return r
}

// admit is Admit, and why not in a word.
func (n *Node) admit() (r *session.Refusal, why string) {
	switch {
	case n.draining.Load():
		return &session.Refusal{Reason: "draining", RetryAfter: time.Second}, "draining"
	case !isClosed(n.lease.Joined()):
		return &session.Refusal{Reason: "joining", RetryAfter: time.Second}, "joining"
	case n.lease.Fenced(time.Now()), !n.lease.Reachable():
		return &session.Refusal{Reason: "the store cannot be reached", RetryAfter: 2 * time.Second}, "store"
	}
	// Whoever a place is kept for comes in, too; full holds the others back.
	if now := n.sockets.Add(1); n.cfg.MaxSessions > 0 && now > int64(n.cfg.MaxSessions+n.mover.Pending()) {
		n.sockets.Add(-1)
		return &session.Refusal{Reason: "full", RetryAfter: 5 * time.Second}, "full"
	}
	return nil, ""
}

// full says whether the places that are left are kept for sessions on their way.
func (n *Node) full() bool {
	return n.cfg.MaxSessions > 0 && n.hub.Len()+n.mover.Pending() >= n.cfg.MaxSessions
}

// Left says that an admitted socket is gone.
func (n *Node) Left() { n.sockets.Add(-1) }

// Login runs a socket's first request.
func (n *Node) Login(ctx context.Context, sock session.Socket, method string, params jsontext.Value) (*session.Session, session.Reply) {
	return n.door.Open(ctx, sock, method, params)
}

// Enter opens a session for a socket whose token was checked.
func (n *Node) Enter(ctx context.Context, sock session.Socket, e session.Entry) (*session.Session, session.Reply) {
	return n.door.Enter(ctx, sock, e)
}

// Verify says whom a token lets in that is no hello's.
func (n *Node) Verify(ctx context.Context, token string) (auth.Claims, *wire.Error) {
	claims, bad := n.door.Verify(ctx, token)
	if bad != nil {
		n.door.Stats.Refused(bad)
	}
	return claims, bad
}

// UserOf is the user that a handle belongs to, or "" if nobody has it.
func (n *Node) UserOf(ctx context.Context, h handle.Handle) (string, error) {
	return n.store.UserOf(ctx, h)
}

// HandlesOf are the handles of users, in their order.
func (n *Node) HandlesOf(ctx context.Context, users []string) ([]handle.Handle, error) {
	return n.store.HandlesOf(ctx, users)
}

// State is how the node stands, for probes.
type State struct {
	Joined         bool // holds its lease
	JoinedOnce     bool
	StoreReachable bool
	Deaf           bool // has joined, and never heard what the store publishes
	Draining       bool
}

// Reason is one not to be ready.
type Reason struct {
	Word  string // for programs
	Text  string // for people
	Holds bool
}

// Reasons are all there are.
func (s State) Reasons() []Reason {
	return []Reason{
		{"joining", "joining", !s.JoinedOnce},
		{"lease", "the lease is over", s.JoinedOnce && !s.Joined},
		{"store", "the store cannot be reached", !s.StoreReachable},
		{"deaf", "nothing is heard on the channels of the store: the log says why", s.Deaf},
		{"draining", "draining", s.Draining},
	}
}

// Unready is why /readyz does not answer 200, in words for people; empty: it does.
func (s State) Unready() []string {
	var why []string
	for _, r := range s.Reasons() {
		if r.Holds {
			why = append(why, r.Text)
		}
	}
	return why
}

// State tells how the node stands now.
func (n *Node) State() State {
	once := isClosed(n.lease.Joined())
	return State{
		Joined: once && !n.lease.Fenced(time.Now()), JoinedOnce: once,
		StoreReachable: n.lease.Reachable(), Deaf: once && !n.sub.Ever(), Draining: n.draining.Load(),
	}
}
