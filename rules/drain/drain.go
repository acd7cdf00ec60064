// Package drain decides how a whole node's sessions move: in which order, who is
// in a call last, how fast, to which nodes, and how many at once to each.
//
// It offers nothing itself and knows no clock: what the fleet looks like, and
// how far the drain is, are arguments.
package drain

import (
	"slices"
	"time"
)

// Node is a node as the one that offers sees it.
type Node struct {
	ID       string // of one life of a node
	Revision string
	Started  time.Time // by the store's clock
	Load     int       // sessions attached, and offered to it
	Offers   int       // under way to it, asks included
	Asks     int       // for a place there, not answered yet
	Ready    bool      // live, and takes sessions
	Live     bool      // its lease stands, though it may drain; who is ready need not say so
}

// crowded is how many times the fleet's mean load a node has that has no room; of
// a fleet without any load none is crowded.
const crowded = 1.5

// carried is the load of the ready nodes together, and how many they are.
func carried(nodes []Node) (total, ready int) {
	for _, n := range nodes {
		if n.Ready {
			total += n.Load
			ready++
		}
	}
	return total, ready
}

// Targets are the nodes that sessions of `self` may be offered: ready ones that
// are not crowded, of the newest revision that has such a node. A revision is
// as old as the first of the live nodes that carry it. Where all are crowded
// the least loaded is better than none.
func Targets(nodes []Node, self string) []Node {
	first := make(map[string]time.Time)
	for _, n := range nodes {
		if at, ok := first[n.Revision]; (n.Ready || n.Live) && (!ok || n.Started.Before(at)) {
			first[n.Revision] = n.Started
		}
	}
	total, ready := carried(nodes)
	mean := float64(total) / float64(max(1, ready))
	var room, full []Node
	for _, n := range nodes {
		switch {
		case !n.Ready || n.ID == self:
		case total == 0 || float64(n.Load) < crowded*mean:
			room = append(room, n)
		default:
			full = append(full, n)
		}
	}
	if len(room) == 0 && len(full) > 0 {
		return []Node{slices.MinFunc(full, func(a, b Node) int { return a.Load - b.Load })}
	}
	var newest time.Time
	for _, n := range room {
		if at := first[n.Revision]; at.After(newest) {
			newest = at
		}
	}
	return slices.DeleteFunc(room, func(n Node) bool { return first[n.Revision].Before(newest) })
}

// Pick takes the less loaded of two targets drawn at random: enough to spread a
// fleet evenly, and no herd runs to the one that was emptiest a moment ago. draw
// gives a random number below n.
func Pick(targets []Node, draw func(n int) int) Node {
	i := draw(len(targets))
	if len(targets) == 1 {
		return targets[i]
	}
	j := draw(len(targets) - 1)
	if j >= i {
		j++
	}
	if targets[j].Load < targets[i].Load {
		return targets[j]
	}
	return targets[i]
}

// Shares of the budget.
const (
	// offerShare of it is spent on beginning moves.
	offerShare = 0.7
	// byeAt is when whoever is still there is told to resume.
	byeAt = 0.85
	// slowest is the slowest pace, in sessions a second: a small node need not
	// take its whole budget.
	slowest = 200
	// jitter of the pace.
	jitter = 0.3
	// stopShare of it, and stopMost at most, is kept for the stop of a process
	// that ends.
	stopShare = 0.2
	stopMost  = 3 * time.Second
)

// Moving is the part of the budget in which a process that ends moves its
// sessions. The rest is for its stop: closing sockets, and telling the store.
func Moving(budget time.Duration) time.Duration {
	return budget - min(stopMost, time.Duration(stopShare*float64(budget)))
}

// Plan is the pace of a drain.
type Plan struct {
	budget time.Duration
	rate   float64 // sessions a second
}

// NewPlan makes the plan for a number of sessions; draw gives a random number
// in [0,1).
func NewPlan(sessions int, budget time.Duration, draw func() float64) Plan {
	rate := max(slowest, float64(sessions)/(offerShare*budget.Seconds()))
	return Plan{budget, rate * (1 + jitter*draw())}
}

// Due is how many sessions should have begun to move after a time.
func (p Plan) Due(after time.Duration) int { return 1 + int(p.rate*after.Seconds()) }

// Bye says whether whoever is still there is to be told to resume by itself.
func (p Plan) Bye(after time.Duration) bool {
	return after >= time.Duration(byeAt*float64(p.budget))
}

// Spread is the time over which those who are told bye resume: what is left of
// the budget then, and a second at most.
func (p Plan) Spread(after time.Duration) time.Duration {
	return max(0, min(time.Second, (p.budget-after)/2))
}
