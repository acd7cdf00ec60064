package drain

import "slices"

const (
	// spread is the largest load that is left alone, in percent of the fleet's mean.
	spread = 115
	// slack is how many sessions above the mean are nothing to move anybody for.
	slack = 2
	// BalanceShare of its sessions a node moves away a second, at most.
	BalanceShare = 0.01
)

// Surplus is how many sessions `self` should move to others now, over time: as
// many as it has above the mean, if that is more than the fleet need bear. Of a
// fleet with one ready node it is none.
func Surplus(nodes []Node, self string) int {
	total, ready := carried(nodes)
	i := slices.IndexFunc(nodes, func(n Node) bool { return n.Ready && n.ID == self })
	if i < 0 || ready < 2 {
		return 0
	}
	own := nodes[i].Load
	mean := float64(total) / float64(ready)
	if over := float64(own) - mean; 100*own*ready > spread*total && over > slack {
		return int(over)
	}
	return 0
}

// BalanceNow is how many of a surplus may move within a second, of a node with
// so many sessions: one at least.
func BalanceNow(surplus, load int) int {
	return min(surplus, max(1, int(BalanceShare*float64(load))))
}

// Takers are the nodes that a surplus may go to: of those that may be offered,
// who has less than the mean. What moved to another would only have to move on.
func Takers(nodes []Node, self string) []Node {
	total, ready := carried(nodes)
	return slices.DeleteFunc(Targets(nodes, self), func(n Node) bool { return n.Load*ready >= total })
}
