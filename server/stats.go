package server

import (
	"time"

	"godwit/measure"
	"godwit/server/presence"
	"godwit/server/relay"
	"godwit/server/session"
	"godwit/server/watch"
	"godwit/store"
)

func newRefused() *measure.Set { return measure.NewSet("draining", "joining", "store", "full") }

func newDrains() *measure.Set { return measure.NewSet("done", "over_budget", "undone", "cut") }

// Stats is what a node has counted since its start, where it still counts, and
// how it stands now.
type Stats struct {
	Sessions *session.Stats
	Relay    *relay.Stats
	Presence *presence.Stats
	Ear      *store.EarStats
	Sweep    *watch.Sweep
	Calls    *watch.Calls
	Moves    map[string]*measure.Set // offers, by what for and what became of them
	Refused  *measure.Set            // sockets, by why
	Drains   *measure.Set            // by how they ended

	Attached int           // sessions
	Rooms    int           // that they are in
	Offers   int           // that stand
	Places   int           // kept for sessions of others
	Leaving  int           // sessions of which the store is not told yet that their socket is gone
	Deaf     time.Duration // since when the node has not been sure to hear; 0: it is
	DeafFor  time.Duration // all such times together
	Drain    store.Drain   // the one under way, or the last; State is empty if there was none
}

// Stats tells what there is to know of how the node fares.
func (n *Node) Stats() Stats {
	now := time.Now()
	s := Stats{
		Sessions: n.door.Stats, Relay: &n.relay.Stats, Presence: &n.board.Stats, Ear: &n.sub.Stats,
		Sweep: n.sweep, Calls: n.calls, Moves: n.mover.Stats, Refused: n.refused, Drains: n.drains,
		Attached: n.hub.Len(), Rooms: n.relay.Len(), Offers: n.mover.Standing(), Places: n.mover.Pending(),
		Leaving: n.leaving.Len(), Deaf: n.sub.Deaf(now), DeafFor: n.sub.DeafFor(now),
	}
	if d := n.lastDrain(); d != nil {
		s.Drain = d.progress(new(gauge))
	}
	return s
}
