package server

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"godwit/rules/drain"
	"godwit/server/move"
	"godwit/server/session"
	"godwit/store"
	"godwit/wire"
)

const (
	drainLook = 10 * time.Millisecond
	// drainAsking is how many sessions are offered a node at once, and
	// drainOffers how many offers may stand.
	drainAsking = 64
	drainOffers = 512
	// drainSpread is the longest delay before a resume that a client is told
	// while there is time, in ms; the pace spreads the rest.
	drainSpread = 250
)

// drainer is one drain under way.
type drainer struct {
	n     *Node
	plan  drain.Plan
	began time.Time
	slots chan struct{} // cap drainAsking
	work  sync.WaitGroup

	moved, told atomic.Int64

	mu  sync.Mutex
	bye map[*session.Session]bool // guarded by mu: told to resume
}

// Drain takes no more sockets, offers every session another node at a pace that
// spreads the moves, and returns when they are gone or the budget is over. Who
// cannot be moved is told bye: the session stays, detached, and goes on
// elsewhere by a resume.
func (n *Node) Drain(ctx context.Context) error {
	n.draining.Store(true) // before anything that may take time
	n.lease.Kick()
	ctx, cancel := context.WithTimeoutCause(ctx, n.cfg.DrainBudget, errDrained)
	defer cancel()
	d := &drainer{
		n: n, plan: drain.NewPlan(n.hub.Len(), n.cfg.DrainBudget, rand.Float64), began: time.Now(),
		slots: make(chan struct{}, drainAsking), bye: make(map[*session.Session]bool),
	}
	n.log.Info("draining", "sessions", n.hub.Len(), "budget", n.cfg.DrainBudget.String())
	err := d.run(ctx)
	cancel()
	d.work.Wait()
	took := time.Since(d.began).Round(time.Millisecond).String()
	if err != nil {
		n.log.Warn("drain ends with sessions left", "sessions", n.hub.Len(), "moved", d.moved.Load(), "told", d.told.Load(), "took", took)
		return err
	}
	n.log.Info("drained", "sessions", d.moved.Load()+d.told.Load(), "moved", d.moved.Load(), "told", d.told.Load(), "took", took)
	return nil
}

func (d *drainer) run(ctx context.Context) error {
	seen := make(map[*session.Session]bool)
	var queue []*session.Session
	tick := time.NewTicker(drainLook)
	defer tick.Stop()
	for begun := 0; ; {
		all := d.n.hub.All() // also whoever logs in meanwhile
		if len(all) == 0 {
			return nil
		}
		for _, s := range all {
			if !seen[s] {
				seen[s] = true
				queue = append(queue, s)
			}
		}
		after := time.Since(d.began)
		if d.plan.Bye(after) {
			for _, s := range all {
				d.giveUp(s)
			}
			queue = nil
		}
		rand.Shuffle(len(queue), func(i, j int) { queue[i], queue[j] = queue[j], queue[i] })
		for due := d.plan.Due(after); begun < due && len(queue) > 0 && d.n.mover.Sent() < drainOffers; begun++ {
			d.begin(ctx, queue[0])
			queue = queue[1:]
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// begin has one session moved, or told bye where that cannot be.
func (d *drainer) begin(ctx context.Context, s *session.Session) {
	if !d.n.mover.Possible() {
		d.sayBye(s)
		return
	}
	select {
	case d.slots <- struct{}{}:
	case <-ctx.Done():
		return
	}
	d.work.Go(func() {
		defer func() { <-d.slots }()
		err := d.n.mover.Offer(ctx, s, move.Why{Reason: wire.ForDrain, Final: true, Over: func(state store.OfferState) {
			switch state {
			case store.OfferCommitted:
				d.moved.Add(1)
			case "": // its socket is gone
			default:
				d.sayBye(s)
			}
		}})
		switch {
		case err == nil, errors.Is(err, store.ErrMoved), errors.Is(err, store.ErrGone):
		case errors.Is(err, store.ErrBusy): // an earlier offer stands: it may be taken up yet
		default:
			d.n.log.Debug("not moved", "session", s.ID(), "error", err)
			d.sayBye(s)
		}
	})
}

// giveUp withdraws what was offered, or says bye.
func (d *drainer) giveUp(s *session.Session) {
	if s.Moving() {
		s.Cancel() // if it comes in time, bye follows
		return
	}
	d.sayBye(s)
}

// sayBye tells a client, once, to resume elsewhere after a while.
func (d *drainer) sayBye(s *session.Session) {
	d.mu.Lock()
	again := d.bye[s]
	d.bye[s] = true
	d.mu.Unlock()
	if again {
		return
	}
	d.told.Add(1)
	after := time.Since(d.began)
	spread := int64(drainSpread)
	if d.plan.Bye(after) {
		spread = max(1, d.plan.Spread(after).Milliseconds())
	}
	s.Send("bye", wire.Bye{Reason: "drain", RetryAfterMS: rand.Int64N(spread)}, wire.CloseRestart, "the node is going away")
}
