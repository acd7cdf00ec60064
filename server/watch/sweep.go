package watch

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"godwit/store"
	"godwit/wire"
)

const (
	sweepEvery = 500 * time.Millisecond
	// sweepBatch is how many sessions one look takes from each shard, and how
	// many of a dead node's at once; sweepLimit how many are worked on at once.
	sweepBatch = 64
	sweepLimit = 8
)

// Sweep ends the sessions whose grace is over, and detaches those whose node
// is dead. Every node sweeps; the store sees to it that each session ends once.
type Sweep struct {
	Store *store.Store
	Ref   store.Ref
	Lease *Lease
	Log   *slog.Logger

	Ended    atomic.Uint64 // sessions ended by this node's sweeps
	Orphaned atomic.Uint64 // sessions of dead nodes detached by this node

	// namesakes are the other nodes of this one's name that were there at the last
	// look; owned by Run.
	namesakes map[store.Ref]bool
}

// Run works until ctx ends.
func (w *Sweep) Run(ctx context.Context) error {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	nodes := w.Lease.TTL() / 2
	var looked time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		// Clients could not resume while the store was away: give them a
		// whole lease before anything is taken from them.
		now := time.Now()
		if !w.Lease.Settled(now) {
			continue
		}
		if err := w.due(ctx); err != nil {
			w.Log.Debug("sweep of detached sessions", "error", err)
		}
		if now.Sub(looked) >= nodes {
			looked = now
			if err := w.dead(ctx); err != nil {
				w.Log.Debug("sweep of dead nodes", "error", err)
			}
		}
	}
}

// due ends the detached sessions whose time has come.
func (w *Sweep) due(ctx context.Context) error {
	for {
		found, err := w.Store.DueSessions(ctx, sweepBatch)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return nil
		}
		var group errgroup.Group
		group.SetLimit(sweepLimit)
		for _, d := range found {
			for _, sid := range d.Sessions {
				group.Go(func() error { return w.end(ctx, d, sid) })
			}
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
}

func (w *Sweep) end(ctx context.Context, d store.Due, sid string) error {
	err := w.Store.End(ctx, sid, store.IfDue, wire.LeftLost)
	switch {
	case err == nil:
		w.Ended.Add(1)
		w.Log.Info("session ended", "session", sid, "reason", wire.LeftLost)
		return nil
	case errors.Is(err, store.ErrUnavailable):
		return err // it comes up again
	case errors.Is(err, store.ErrNotDue), errors.Is(err, store.ErrGone):
		// Live again, gone already, or put back for later with another score.
		return w.Store.Settle(ctx, d, sid)
	}
	w.Log.Error("session not ended", "session", sid, "error", err)
	return nil
}

// dead detaches the sessions of nodes whose lease is over.
func (w *Sweep) dead(ctx context.Context) error {
	nodes, err := w.Store.Nodes(ctx)
	if err != nil {
		return err
	}
	w.meet(nodes)
	for _, n := range nodes {
		if n.Alive || n.Ref == w.Ref {
			continue
		}
		if err := w.orphans(ctx, n.Ref); err != nil {
			return err
		}
	}
	return nil
}

// meet says who has this node's name. An earlier life of it is no more by the time
// of the first look, which is a whole lease after the start.
func (w *Sweep) meet(nodes []store.Node) {
	met := make(map[store.Ref]bool)
	for _, n := range nodes {
		if !n.Alive || n.Node != w.Ref.Node || n.Ref == w.Ref {
			continue
		}
		met[n.Ref] = true
		if !w.namesakes[n.Ref] {
			w.Log.Error("another node has this one's name, and what is asked of a node by name reaches the younger alone:"+
				" give each a GODWIT_NODE_ID of its own, or none", "url", n.URL, "boot", n.Boot)
		}
	}
	w.namesakes = met
}

func (w *Sweep) orphans(ctx context.Context, dead store.Ref) error {
	total := 0
	for {
		// It may have come back meanwhile, and looks at its sessions itself.
		if alive, err := w.Store.Alive(ctx, dead); err != nil || alive {
			return err
		}
		sids, err := w.Store.Owned(ctx, dead, sweepBatch)
		if err != nil {
			return err
		}
		if len(sids) == 0 {
			break
		}
		var group errgroup.Group
		group.SetLimit(sweepLimit)
		for _, sid := range sids {
			group.Go(func() error {
				err := w.Store.Detach(ctx, dead, sid, 0)
				switch {
				case errors.Is(err, store.ErrUnavailable):
					return err
				case err == nil:
					w.Orphaned.Add(1)
				}
				return nil // moved or gone: taken off the dead node's list all the same
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		total += len(sids)
	}
	w.Log.Info("dead node swept", "dead", dead.Node, "boot", dead.Boot, "sessions", total)
	return w.Store.Expel(ctx, dead)
}
