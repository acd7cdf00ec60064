package drain

// Offers is how many offers of one node may be under way at once, if it is told
// nothing else: each is a place kept at a target, and a client about to dial.
const Offers = 512

// Asks is how many of so many may be questions for a place without an answer yet.
func Asks(offers int) int { return max(1, offers/8) }

// Peers are the nodes that share what may be under way to targets: the ready ones
// of their revisions, crowded or not.
func Peers(nodes []Node, self string, targets []Node) []Node {
	revisions := make(map[string]bool)
	for _, n := range targets {
		revisions[n.Revision] = true
	}
	var peers []Node
	for _, n := range nodes {
		if n.Ready && n.ID != self && revisions[n.Revision] {
			peers = append(peers, n)
		}
	}
	return peers
}

// Free are those of the nodes that hold less than the share of one of so many
// peers, of the offers that may be under way and of the asks among them. What one
// of them does not answer, or does not end, is not more than that.
func Free(nodes []Node, peers, offers int) []Node {
	peers = max(1, peers)
	most, asks := max(1, offers/peers), max(1, Asks(offers)/peers)
	var free []Node
	for _, n := range nodes {
		if n.Offers < most && n.Asks < asks {
			free = append(free, n)
		}
	}
	return free
}
