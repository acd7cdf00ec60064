package server

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"godwit/rules/drain"
	"godwit/server/session"
	"godwit/store"
)

const (
	drainLook = 10 * time.Millisecond
	// drainCrowd is for how many sessions the drain waits one more drainLook
	// before it looks again for new ones: a look walks them all.
	drainCrowd = 1000
	// drainAgain is after about which time a session is tried again of which
	// another offer stood, or which had moved on: its socket is closed by then, or
	// it is here with a new gen.
	drainAgain = time.Second
	// drainTries is how often a session is tried while the store is away, about once
	// in drainAgain: a store that fails over takes a few seconds. drainHopes is the
	// same where there is another node that cannot take it yet: one that is frozen,
	// or about to join, takes no longer than a lease, or it is of no help.
	drainTries = 5
	drainHopes = 10
	// drainSpread is the longest delay before a resume that a client is told
	// while there is time, in ms; the pace spreads the rest.
	drainSpread = 250
)

var (
	errDrained = errors.New("drain budget is over")
	errUndone  = errors.New("drain was undone")
)

// drainer is one drain: from when the node turns to draining until nobody is
// left, its budget is over, or it is undone.
//
//	running ---------> done     the node stays as it is
//	   |                 |
//	   +----> stopped <--+      the node takes sockets again
type drainer struct {
	n     *Node
	began time.Time
	slots chan struct{} // one a question that may be open at once; only run puts into it
	quit  chan struct{} // closed by undo
	ended chan struct{} // closed when run has returned

	// owned by run
	seen   map[*session.Session]bool
	line   drain.Line[*session.Session]
	redone int // came back into line since the pace counts: it is not for them
	work   sync.WaitGroup

	moved, refused, told atomic.Int64

	// guarded by mu
	mu      sync.Mutex
	state   string // one of store.Drain...
	order   string // the last one that it obeyed
	final   bool   // the process ends after it
	took    time.Duration
	pace    pace
	offered map[*session.Session]bool // by this drain, and not over
	bye     map[*session.Session]bool // told to resume
	unsure  []*session.Session        // gone, maybe by an offer
	asking  int                       // were unsure, and are looked at
	again   []retry                   // in the order of time
	failed  map[*session.Session]tries
	turned  map[*session.Session]string // the target that did not take it
	held    bool                        // in this round: enough offers are under way
}

// pace is a drain's plan, and what it counts from.
type pace struct {
	drain.Plan
	budget time.Duration
	since  time.Time
}

// retry is a session that could not be offered anything yet.
type retry struct {
	s  *session.Session
	at time.Time
}

// turn makes the node draining before anything that may take time, and returns
// its drain: the one that is under way, with the new budget, or a fresh one,
// which the caller is to run. An end of the process is final: no order changes it.
func (n *Node) turn(order string, budget time.Duration, final bool) (d *drainer, fresh bool) {
	n.drainMu.Lock()
	defer n.drainMu.Unlock()
	n.draining.Store(true)
	n.lease.Kick()
	if d = n.drain; d != nil && d.retime(order, budget, final) {
		return d, false
	}
	n.drain = &drainer{
		n: n, began: time.Now(), slots: make(chan struct{}, drain.Asks(n.cfg.Offers)),
		quit: make(chan struct{}), ended: make(chan struct{}),
		seen:  make(map[*session.Session]bool),
		state: store.DrainRunning, order: order, final: final, pace: n.paced(budget),
		offered: make(map[*session.Session]bool), bye: make(map[*session.Session]bool),
		failed: make(map[*session.Session]tries), turned: make(map[*session.Session]string),
	}
	n.log.Info("draining", "sessions", n.hub.Len(), "budget", budget.String())
	return n.drain, true
}

func (n *Node) paced(budget time.Duration) pace {
	return pace{drain.NewPlan(n.hub.Len(), budget, rand.Float64), budget, time.Now()}
}

// turnBack ends the drain that was ordered, if there is one: offers are
// withdrawn, and the node takes sockets again.
func (n *Node) turnBack(order string) {
	n.drainMu.Lock()
	defer n.drainMu.Unlock()
	if n.drain == nil || !n.drain.undo(order) {
		return
	}
	n.draining.Store(false)
	n.lease.Kick()
	n.log.Info("drain undone", "sessions", n.hub.Len())
}

// lastDrain is the drain under way, or the last; nil if there was none.
func (n *Node) lastDrain() *drainer {
	n.drainMu.Lock()
	defer n.drainMu.Unlock()
	return n.drain
}

// Drain takes no more sockets, offers every session another node at a pace that
// spreads the moves, and returns when they are gone or the budget is over, save
// for what the stop may take. Who cannot be moved is told bye: the session stays,
// detached, and goes on elsewhere by a resume. It is for the end of the process
// and cannot be undone; a drain that an operator began goes on within its budget.
func (n *Node) Drain(ctx context.Context) error {
	budget := drain.Moving(n.cfg.DrainBudget)
	ctx, cancel := context.WithTimeoutCause(ctx, budget, errDrained)
	defer cancel()
	d, fresh := n.turn("", budget, true)
	if fresh {
		return d.run(ctx)
	}
	select {
	case <-d.ended:
	case <-ctx.Done():
	}
	if n.hub.Len() > 0 {
		return errDrained
	}
	return nil
}

// retime gives a drain under way another budget, and says whether it is under
// way. An order without a budget, or after the final one, changes nothing.
func (d *drainer) retime(order string, budget time.Duration, final bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state != store.DrainRunning {
		return false
	}
	if order != "" {
		d.order = order
	}
	if !d.final {
		d.final, d.pace = final, d.n.paced(budget)
	}
	return true
}

// undo ends a drain, unless the process is to end, and says whether it did.
func (d *drainer) undo(order string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.order = order
	if d.final || d.state == store.DrainStopped {
		return false
	}
	if d.state == store.DrainRunning {
		d.took = time.Since(d.began)
	}
	d.state = store.DrainStopped
	close(d.quit)
	return true
}

// run drains until it is over, for whatever reason.
func (d *drainer) run(ctx context.Context) error {
	within, cancel := context.WithCancel(ctx)
	defer cancel()
	err := d.loop(within)
	cancel()
	d.work.Wait()
	d.mu.Lock()
	if d.state == store.DrainRunning {
		d.state, d.took = store.DrainDone, time.Since(d.began)
	}
	undone, took := d.state == store.DrainStopped, d.took.Round(time.Millisecond).String()
	var standing []*session.Session
	for s := range d.offered {
		standing = append(standing, s)
	}
	d.mu.Unlock()
	if undone {
		for _, s := range standing {
			s.Cancel()
		}
	}
	d.n.drains.Add(ending(err))
	close(d.ended)
	d.n.lease.Kick() // its load has changed
	d.n.orders.ring()
	switch {
	case undone:
	case err != nil:
		d.n.log.Warn("drain ends with sessions left", "sessions", d.n.hub.Len(), "moved", d.moved.Load(), "told", d.told.Load(), "took", took)
	default:
		d.n.log.Info("drained", "sessions", d.moved.Load()+d.told.Load(), "moved", d.moved.Load(), "told", d.told.Load(), "took", took)
	}
	return err
}

// ending is how a drain ended, in a word.
func ending(err error) string {
	switch {
	case err == nil:
		return "done"
	case errors.Is(err, errUndone):
		return "undone"
	case errors.Is(err, errDrained):
		return "over_budget"
	}
	return "cut"
}

func (d *drainer) loop(ctx context.Context) error {
	tick := time.NewTicker(drainLook)
	defer tick.Stop()
	var since time.Time
	for round, begun := 0, 0; ; round++ {
		d.mu.Lock()
		p := d.pace
		d.held = false
		d.mu.Unlock()
		if p.since != since {
			since, begun, d.redone = p.since, 0, 0
		}
		after := time.Since(since)
		switch {
		case d.empty():
			return nil
		case after >= p.budget:
			return errDrained
		}
		d.resolve(ctx)
		if round%(1+d.n.hub.Len()/drainCrowd) == 0 {
			d.gather(p.Bye(after))
		}
		for due := p.Due(after) + d.redone; begun < due && d.line.Len() > 0 && d.mayBegin(); begun++ {
			d.begin(ctx, d.line.Next((*session.Session).Calling))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-d.quit:
			return errUndone
		case <-tick.C:
		}
	}
}

// mayBegin says whether there is room for one more offer, as far as is known.
func (d *drainer) mayBegin() bool {
	d.mu.Lock()
	held := d.held
	d.mu.Unlock()
	return !held && len(d.slots) < cap(d.slots) && d.n.mover.Sent() < d.n.cfg.Offers
}

// empty says whether there is nobody left, and nobody on the way in or out. A
// process that ends does not wait for sockets that never said who they are.
func (d *drainer) empty() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.n.hub.Len() > 0 || len(d.offered) > 0 {
		return false
	}
	// Nobody comes back to them.
	for d.line.Len() > 0 {
		d.unsure = append(d.unsure, d.line.Next(func(*session.Session) bool { return false }))
	}
	for _, r := range d.again {
		d.unsure = append(d.unsure, r.s)
	}
	d.again = nil
	return d.final || len(d.unsure)+d.asking == 0 && d.n.sockets.Load() == 0
}

// gather queues who was not seen before, or is to be tried again; or gives them
// all up, late in the drain.
func (d *drainer) gather(bye bool) {
	// Also whoever logs in meanwhile, once that is answered.
	all := slices.DeleteFunc(d.n.hub.All(), func(s *session.Session) bool { return !s.Greeted() })
	if bye {
		for _, s := range all {
			d.seen[s] = true
			d.giveUp(s)
		}
		d.line = drain.Line[*session.Session]{}
		return
	}
	var more []*session.Session
	for _, s := range all {
		if !d.seen[s] {
			d.seen[s] = true
			more = append(more, s)
		}
	}
	rand.Shuffle(len(more), func(i, j int) { more[i], more[j] = more[j], more[i] })
	for _, s := range more {
		d.line.Add(s)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for now := time.Now(); len(d.again) > 0 && !now.Before(d.again[0].at); d.again = d.again[1:] {
		s := d.again[0].s
		if there, ok := d.n.hub.Find(s.ID()); ok && there == s {
			d.line.Add(s)
			d.redone++
		} else { // maybe moved, by the offer that stood before
			d.unsure = append(d.unsure, s)
		}
	}
}
