package server

import (
	"context"
	"math/rand/v2"
	"time"

	"godwit/server/session"
	"godwit/wire"
)

const (
	// drainShare of the budget is spent on telling the sessions, the rest is
	// for them to go.
	drainShare = 0.7
	// drainRate is the slowest pace, in sessions a second: a small node need
	// not take its whole budget.
	drainRate = 200
	drainLook = 10 * time.Millisecond
	// drainSpread is the longest delay before a resume that a client is told,
	// in ms; the pace spreads the rest.
	drainSpread = 250
)

// Drain takes no more sockets, says bye to every session at a pace that
// spreads their resumes, and returns when they are gone or the budget is over.
// The sessions stay, detached, and go on at other nodes.
func (n *Node) Drain(ctx context.Context) error {
	n.draining.Store(true)
	n.lease.Kick()
	ctx, cancel := context.WithTimeoutCause(ctx, n.cfg.DrainBudget, errDrained)
	defer cancel()
	began := time.Now()
	n.log.Info("draining", "sessions", n.hub.Len(), "budget", n.cfg.DrainBudget.String())
	seen := make(map[*session.Session]bool)
	var queue []*session.Session
	tick := time.NewTicker(drainLook)
	defer tick.Stop()
	for told := 0; ; {
		for _, s := range n.hub.All() { // also whoever logs in meanwhile
			if !seen[s] {
				seen[s] = true
				queue = append(queue, s)
			}
		}
		if n.hub.Len() == 0 {
			n.log.Info("drained", "sessions", told, "took", time.Since(began).Round(time.Millisecond).String())
			return nil
		}
		rand.Shuffle(len(queue), func(i, j int) { queue[i], queue[j] = queue[j], queue[i] })
		rate := max(drainRate, float64(len(seen))/(drainShare*n.cfg.DrainBudget.Seconds()))
		for due := 1 + int(rate*time.Since(began).Seconds()); told < due && len(queue) > 0; told++ {
			queue[0].Send("bye", wire.Bye{Reason: "drain", RetryAfterMS: rand.Int64N(drainSpread)},
				wire.CloseRestart, "the node is going away")
			queue = queue[1:]
		}
		select {
		case <-ctx.Done():
			n.log.Warn("drain ends with sessions left", "sessions", n.hub.Len())
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
