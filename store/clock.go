package store

import "time"

// Now is the time by Redis's clock, as far as this node knows it: the one clock
// that all nodes have in common, but in a Cluster, where it is that of one primary.
// Until the first renewal of the lease it is the node's own.
func (s *Store) Now() time.Time { return time.Now().Add(s.Ahead()) }

// Ahead is by how much Redis's clock was ahead of this node's when the lease was
// renewed last. In a Cluster it is that of the primary that has the lease.
func (s *Store) Ahead() time.Duration { return time.Duration(s.ahead.Load()) }

// clocked notes what Redis's clock has said, in us, within a call that began then: in
// the middle of it, or half of it off. Of one that took long it says too little, and
// of parts of a millisecond nothing.
func (s *Store) clocked(began time.Time, us uint64) {
	took := time.Since(began)
	if took > s.cfg.Timeout {
		return
	}
	middle := began.Add(took / 2).Round(0) // as the wall clock has it
	s.ahead.Store(int64(time.UnixMicro(int64(us)).Sub(middle).Round(time.Millisecond)))
}
