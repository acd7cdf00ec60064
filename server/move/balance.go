package move

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"godwit/rules/drain"
	"godwit/server/hub"
	"godwit/server/session"
	"godwit/store"
	"godwit/wire"
)

// balanceEvery is how often a node compares its load with the fleet's.
const balanceEvery = time.Second

// Balance moves sessions of a node that has more than its share to others, as
// after a node has joined.
type Balance struct {
	Mover *Mover
	Hub   *hub.Registry[*session.Session]
	// Settled says that the store has been good for a while: what it tells of
	// the fleet can be believed.
	Settled func() bool
}

// Run works until ctx ends.
func (b *Balance) Run(ctx context.Context) error {
	t := time.NewTicker(balanceEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if b.Mover.leaving() || !b.Mover.Possible() || !b.Settled() {
			continue
		}
		if err := b.round(ctx); err != nil {
			b.Mover.log.Debug("fleet not balanced", "error", err)
		}
	}
}

// round moves what may move within a second.
func (b *Balance) round(ctx context.Context) error {
	m := b.Mover
	nodes, _, err := m.look(ctx, time.Now().Add(-fleetFor))
	if err != nil {
		return err
	}
	load, self := b.Hub.Len(), m.cfg.Ref.String()
	m.mu.Lock()
	seen := m.seenLocked(nodes, nil)
	m.passOverLocked(seen)
	m.mu.Unlock()
	for i := range seen {
		if seen[i].ID == self {
			seen[i].Load = load - m.Sent() // what the store has is older, and counts those that leave
		}
	}
	n := drain.BalanceNow(drain.Surplus(seen, self), load)
	if n == 0 {
		return nil
	}
	all := b.Hub.All()
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for tries := 4 * n; n > 0 && tries > 0 && len(all) > 0; tries-- {
		s := all[0]
		all = all[1:]
		err := m.Offer(ctx, s, Why{Reason: wire.ForBalance})
		switch {
		case err == nil:
			n--
		case errors.Is(err, store.ErrUnavailable), errors.Is(err, ErrHeld):
			return err
		}
	}
	return nil
}
