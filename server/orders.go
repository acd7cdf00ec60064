package server

import (
	"context"
	"errors"
	"sync"
	"time"

	"godwit/server/move"
	"godwit/server/wait"
	"godwit/store"
	"godwit/wire"
)

const (
	// ordersLook is how often a node looks for an order that it was not told of,
	// and tells how its drain goes.
	ordersLook = time.Second
	// movesMost is how many sessions may wait to be moved by an operator's word,
	// moveWorkers how many are at once. Of one that does not get in nobody
	// hears: who asked for it does not wait for ever.
	movesMost   = 256
	moveWorkers = 4
)

// knows names the orders that this node obeys, see store.Node.
const knows = store.OrderDrain + " " + store.OrderStop + " " + store.WordMove

// orders is the duty that does what operators ask of this node, by whichever
// node they were heard.
type orders struct {
	n     *Node
	bell  chan struct{}   // cap 1
	moves chan store.Word // cap movesMost
}

func newOrders(n *Node) *orders {
	return &orders{n: n, bell: make(chan struct{}, 1), moves: make(chan store.Word, movesMost)}
}

// ring has the order, and how the drain goes, looked at now.
func (o *orders) ring() {
	wait.Ring(o.bell)
}

// told takes an operator's word. It does not wait.
func (o *orders) told(w store.Word) {
	if w.What == store.WordOrder {
		o.ring()
		return
	}
	select {
	case o.moves <- w:
	default:
		o.n.log.Warn("too many sessions to move at once; one is left out", "session", w.Session)
	}
}

// run obeys until ctx ends.
func (o *orders) run(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	for range moveWorkers {
		work.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case w := <-o.moves:
					o.move(ctx, w)
				}
			}
		})
	}
	tick := time.NewTicker(ordersLook)
	defer tick.Stop()
	obeyed := ""
	var tell teller
	for {
		order, err := o.n.store.Asked(ctx, o.n.cfg.Node)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			o.n.log.Debug("orders not read", "error", err)
		case order.ID != obeyed && order.ID != "":
			obeyed = order.ID
			if d := o.obey(order); d != nil {
				work.Go(func() { _ = d.run(ctx) }) // it has logged how it went
			}
			// Whoever asked is told by the drain's progress: by then the fleet
			// sees the node's new state. The lease only gets longer.
			if err := o.n.store.Renew(ctx, o.n.record()); err != nil {
				o.n.log.Debug("state not written; the lease's renewal does it", "error", err)
			}
		}
		if d := o.n.lastDrain(); d != nil {
			tell.progress(ctx, d)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-o.bell:
		case <-tick.C:
		}
	}
}

// obey does what an order says; a drain that it returns is to be run.
func (o *orders) obey(order store.Order) *drainer {
	switch order.What {
	case store.OrderDrain:
		budget := order.Budget
		if budget <= 0 {
			budget = o.n.cfg.DrainBudget
		}
		if d, fresh := o.n.turn(order.ID, budget, false); fresh {
			return d
		}
	case store.OrderStop:
		o.n.turnBack(order.ID)
	default:
		o.n.log.Warn("an order that this node does not know", "what", order.What)
	}
	return nil
}

// teller writes how a drain goes, and stays quiet about what is no news.
type teller struct {
	gauge gauge
	of    *drainer
	last  store.Drain
	at    time.Time
}

func (t *teller) progress(ctx context.Context, d *drainer) {
	if t.of != d {
		*t = teller{of: d}
	}
	p := d.progress(&t.gauge)
	// What stands in the store has to be renewed, but for a drain that was undone.
	again := p.State != store.DrainStopped && time.Since(t.at) >= d.n.cfg.Lease/3
	if p == t.last && !again {
		return
	}
	if err := d.n.store.WriteDrain(ctx, d.n.cfg.Node, p); err != nil {
		d.n.log.Debug("drain's progress not written", "error", err)
		return
	}
	t.last, t.at = p, time.Now()
}

// move offers a session another node, and tells who asked.
func (o *orders) move(ctx context.Context, w store.Word) {
	self := o.n.cfg.Node
	back := store.Word{What: store.WordOffered, Session: w.Session, Offer: w.Offer, Node: self.Node, Boot: self.Boot}
	s, ok := o.n.hub.Find(w.Session)
	if !ok {
		back.Why = store.NoSession
	} else {
		err := o.n.mover.Offer(ctx, s, move.Why{Reason: wire.ForAdmin, Node: w.Target, ID: w.Offer})
		back.Why = whyNot(err)
		if err != nil {
			o.n.log.Debug("no redirect offered", "session", w.Session, "error", err)
		}
	}
	if err := o.n.store.Tell(ctx, store.Ref{Node: w.Node, Boot: w.Boot}, back); err != nil {
		o.n.log.Debug("node not told", "what", back.What, "error", err)
	}
}

// whyNot is why there is no offer, as a word says it.
func whyNot(err error) string {
	for _, c := range []struct {
		err error
		why string
	}{
		{move.ErrNoTarget, store.NoTarget},
		{move.ErrUnable, store.NoCaps},
		{store.ErrBusy, store.NoOther},
		{store.ErrMoved, store.NoSession},
		{store.ErrGone, store.NoSession},
	} {
		if errors.Is(err, c.err) {
			return c.why
		}
	}
	if err != nil {
		return store.NoStore
	}
	return ""
}
