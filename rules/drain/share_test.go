package drain

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func names(nodes []Node) string {
	var ids []string
	for _, n := range nodes {
		ids = append(ids, n.ID)
	}
	return strings.Join(ids, " ")
}

func TestPeers_AreTheReadyOnesOfTheTargetsRevision(t *testing.T) {
	nodes := []Node{
		{ID: "self", Ready: true, Revision: "2"},
		{ID: "a", Ready: true, Revision: "2"},
		{ID: "b", Ready: true, Revision: "2", Load: 1000}, // crowded
		{ID: "c", Ready: true, Revision: "1"},
		{ID: "d", Live: true, Revision: "2"}, // drains
	}
	for _, c := range []struct {
		targets []Node
		want    string
	}{
		{nodes[1:2], "a b"},
		{nodes[3:4], "c"},
		{nodes[2:4], "a b c"},
		{nil, ""},
	} {
		if got := names(Peers(nodes, "self", c.targets)); got != c.want {
			t.Errorf("of %s: %q, want %q", names(c.targets), got, c.want)
		}
	}
}

func TestFree_IsWhoHoldsLessThanItsShare(t *testing.T) {
	holds := func(of ...[2]int) (nodes []Node) {
		for i, n := range of {
			nodes = append(nodes, Node{ID: string(rune('a' + i)), Offers: n[0], Asks: n[1]})
		}
		return nodes
	}
	for _, c := range []struct {
		name          string
		nodes         []Node
		peers, offers int
		want          string
	}{
		{"nothing is under way", holds([2]int{}, [2]int{}), 2, 512, "a b"},
		{"one has its half of the offers", holds([2]int{256, 0}, [2]int{255, 0}), 2, 512, "b"},
		{"and more", holds([2]int{400, 0}, [2]int{}), 2, 512, "b"},
		{"one has its half of the asks", holds([2]int{32, 32}, [2]int{31, 31}), 2, 512, "b"},
		{"both have theirs", holds([2]int{256, 0}, [2]int{32, 32}), 2, 512, ""},
		{"alone it has all", holds([2]int{511, 63}), 1, 512, "a"},
		{"but not more", holds([2]int{512, 0}), 1, 512, ""},
		{"nor more asks", holds([2]int{64, 64}), 1, 512, ""},
		{"a third", holds([2]int{170, 0}, [2]int{169, 0}, [2]int{21, 21}), 3, 512, "b"},
		{"of more peers than can be asked at once each may be asked", holds([2]int{1, 1}, [2]int{}), 100, 512, "b"},
		{"of more peers than may be offered too", holds([2]int{1, 0}, [2]int{}), 1000, 512, "b"},
		{"of no peers, as of one", holds([2]int{511, 0}, [2]int{512, 0}), 0, 512, "a"},
		{"few offers", holds([2]int{1, 1}, [2]int{1, 0}, [2]int{2, 0}), 2, 4, "b"},
	} {
		if got := names(Free(c.nodes, c.peers, c.offers)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// Whichever peers never answer, or never end an offer, as long as one is well all
// move that are not under way to those.
func TestFree_WhoIsWellGetsAllTheRest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		offers := rapid.IntRange(8, 64).Draw(t, "offers")
		how := rapid.SliceOfN(rapid.SampledFrom([]string{"well", "silent", "unreachable"}), 0, Asks(offers)-1).Draw(t, "peers")
		nodes := loads(make([]int, len(how)+1)...)
		how = append(how, "well")
		rest, moved := rapid.IntRange(0, 300).Draw(t, "sessions"), 0
		under, asking := 0, 0
		for {
			var ends []int
			for i := range nodes {
				if how[i] == "well" && nodes[i].Offers > 0 {
					ends = append(ends, i)
				}
			}
			free := Free(nodes, len(nodes), offers)
			if begins := rest > 0 && under < offers && asking < Asks(offers) && len(free) > 0; begins && (len(ends) == 0 || rapid.Bool().Draw(t, "begins")) {
				to := Pick(free, func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "draw") })
				i := slices.IndexFunc(nodes, func(n Node) bool { return n.ID == to.ID })
				nodes[i].Offers, nodes[i].Load = nodes[i].Offers+1, nodes[i].Load+1
				if how[i] == "silent" {
					nodes[i].Asks++
					asking++
				}
				rest, under = rest-1, under+1
				continue
			}
			if len(ends) == 0 {
				break
			}
			i := rapid.SampledFrom(ends).Draw(t, "ends")
			nodes[i].Offers--
			moved, under = moved+1, under-1
		}
		if rest > 0 {
			t.Fatalf("%d wait, %d have moved; peers %v hold %s", rest, moved, how, fmt.Sprint(nodes))
		}
	})
}
