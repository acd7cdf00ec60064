package store

import (
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"godwit/measure"
)

// ScriptStats is how one script fared since the store was opened.
type ScriptStats struct {
	// Took is from when a call was handed in, its wait for a lane included, to
	// its answer. All calls of one pipeline take as long.
	Took measure.Histogram
	// Failed counts the calls whose outcome is not known, or that were not tried.
	Failed atomic.Uint64
}

// newStats makes room for every script there is.
func newStats() map[*script]*ScriptStats {
	all := make(map[*script]*ScriptStats, len(scripts))
	for _, sc := range scripts {
		all[sc] = new(ScriptStats)
	}
	return all
}

// Scripts calls f with every script's name, in order, and how it fared.
func (s *Store) Scripts(f func(name string, stats *ScriptStats)) {
	all := slices.Clone(scripts)
	slices.SortFunc(all, func(a, b *script) int { return strings.Compare(a.name, b.name) })
	for _, sc := range all {
		f(sc.name, s.stats[sc])
	}
}

// Pool is the connections to Redis, the subscription's aside.
type Pool struct {
	Idle, Busy uint32
	Timeouts   uint32 // waits for a connection that were given up, since the start
}

// Pool tells how many connections there are now.
func (s *Store) Pool() Pool {
	p := s.rdb.PoolStats()
	if s.direct != nil {
		p = s.direct.PoolStats()
	}
	return Pool{Idle: p.IdleConns, Busy: p.TotalConns - p.IdleConns, Timeouts: p.Timeouts}
}

// EarStats is how a node's ear fared since it was made.
type EarStats struct {
	Probe  measure.Histogram // from publishing to oneself until that was heard
	Lost   atomic.Uint64     // connections that failed, broke, or did not hear their probe
	Resets atomic.Uint64     // times that all was heard again, and something may have been missed
	deaf   time.Duration     // guarded by mu: of the times that are over in which it was not sure to hear
}

// DeafFor is how long the node was not sure to hear since it began, the time
// that lasts included.
func (s *Subscriber) DeafFor(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Stats.deaf + s.deafLocked(now)
}
