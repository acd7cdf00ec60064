package server

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"godwit/server/move"
	"godwit/server/session"
	"godwit/store"
	"godwit/wire"
)

// tries are those in vain of one session: there was no store, or no node yet.
type tries struct{ away, alone int }

// begin has one session moved, or told bye where that cannot be.
func (d *drainer) begin(ctx context.Context, s *session.Session) {
	if !d.n.mover.Possible() {
		d.sayBye(s)
		return
	}
	d.slots <- struct{}{} // there is one
	d.mu.Lock()
	d.offered[s] = true
	not := d.turned[s]
	d.mu.Unlock()
	d.work.Go(func() {
		defer func() { <-d.slots }()
		over := func(state store.OfferState, target, why string) { d.over(s, state, target, why) }
		err := d.n.mover.Offer(ctx, s, move.Why{Reason: wire.ForDrain, Final: true, Not: not, Over: over})
		if err == nil {
			return
		}
		held := errors.Is(err, move.ErrHeld)
		later := errors.Is(err, store.ErrBusy) || errors.Is(err, store.ErrMoved) || errors.Is(err, store.ErrGone)
		d.mu.Lock()
		delete(d.offered, s)
		vain := d.failed[s]
		switch {
		case held:
			d.held = true
			d.retryLocked(s, 0)
		case errors.Is(err, store.ErrUnavailable):
			vain.away++
			later = vain.away < drainTries
		case errors.Is(err, move.ErrNotYet):
			vain.alone++
			later = not == "" && vain.alone < drainHopes
		}
		d.failed[s] = vain
		if later {
			d.retryLocked(s, drainAgain*3/4+rand.N(drainAgain/2)) // not all of them at once
		}
		d.mu.Unlock()
		if !held && !later && ctx.Err() == nil {
			d.n.log.Debug("not moved", "session", s.ID(), "error", err)
			d.sayBye(s)
		}
	})
}

// retryLocked has a session tried again after a while.
func (d *drainer) retryLocked(s *session.Session, after time.Duration) {
	at := time.Now().Add(after)
	i, _ := slices.BinarySearchFunc(d.again, at, func(r retry, at time.Time) int { return r.at.Compare(at) })
	d.again = slices.Insert(d.again, i, retry{s, at})
}

// over counts what became of an offer, and goes on from there. A client that
// wanted to come, and was not taken or found nobody, is offered another node,
// once; any other that refuses has its reasons.
func (d *drainer) over(s *session.Session, state store.OfferState, target, why string) {
	d.mu.Lock()
	delete(d.offered, s)
	if state == "" { // its socket is gone, maybe because it has moved
		d.unsure = append(d.unsure, s)
	}
	again := state == store.OfferRefused && d.turned[s] == "" && untaken(why)
	if again {
		d.turned[s] = target
		d.retryLocked(s, 0)
	}
	d.mu.Unlock()
	switch {
	case state == "", again:
		return
	case state == store.OfferCommitted:
		d.moved.Add(1)
		return
	case state == store.OfferRefused:
		d.refused.Add(1)
	}
	d.sayBye(s)
}

// untaken says whether a client has refused an offer because of the node that it
// led to.
func untaken(why string) bool {
	return why == string(wire.Capacity) || why == wire.RefusedDial || why == wire.RefusedClosed
}

// resolve counts those as moved whose socket went with an offer that was
// claimed by then, this drain's or an earlier one.
func (d *drainer) resolve(ctx context.Context) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for ; len(d.unsure) > 0 && len(d.slots) < cap(d.slots); d.unsure = d.unsure[1:] {
		s := d.unsure[0]
		d.asking++
		d.slots <- struct{}{} // there is one
		d.work.Go(func() {
			defer func() { <-d.slots }()
			rec, _, err := d.n.store.Peek(ctx, s.ID())
			if err == nil && rec.Gen > s.Gen() && len(rec.Moves) > 0 && rec.Moves[0].From == d.n.cfg.Node {
				d.moved.Add(1)
			}
			d.mu.Lock()
			d.asking--
			d.mu.Unlock()
		})
	}
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
	skip := d.bye[s] || d.state == store.DrainStopped
	if !skip {
		d.bye[s] = true
	}
	p := d.pace
	d.mu.Unlock()
	if skip {
		return
	}
	d.told.Add(1)
	after := time.Since(p.since)
	spread := int64(drainSpread)
	if p.Bye(after) {
		spread = max(1, p.Spread(after).Milliseconds())
	}
	s.Send("bye", wire.Bye{Reason: "drain", RetryAfterMS: rand.Int64N(spread)}, wire.CloseRestart, "the node is going away")
}
