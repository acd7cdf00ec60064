package drain

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func loads(of ...int) []Node {
	var nodes []Node
	for i, n := range of {
		nodes = append(nodes, Node{ID: fmt.Sprint(i), Load: n, Ready: true})
	}
	return nodes
}

func TestSurplus(t *testing.T) {
	for _, c := range []struct {
		name  string
		nodes []Node
		want  int
	}{
		{"alone", loads(1000), 0},
		{"even", loads(100, 100, 100), 0},
		{"a node has joined", loads(150, 150, 0), 50},
		{"within the spread", loads(115, 100, 85), 0},
		{"past the spread", loads(116, 100, 84), 16},
		{"below the mean", loads(10, 100, 100), 0},
		{"a handful", loads(3, 0, 0), 0},
		{"hardly more", loads(15, 15, 0), 5},
		{"empty", loads(0, 0), 0},
		{"the others drain", []Node{{ID: "0", Load: 100, Ready: true}, {ID: "1"}}, 0},
		{"it drains itself", []Node{{ID: "0", Load: 100}, {ID: "1", Ready: true}, {ID: "2", Ready: true}}, 0},
	} {
		if got := Surplus(c.nodes, "0"); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	for _, c := range [][3]int{{50, 10_000, 50}, {5000, 10_000, 100}, {5, 20, 1}, {0, 20, 0}} {
		if got := BalanceNow(c[0], c[1]); got != c[2] {
			t.Errorf("of a surplus of %d at %d: %d at once, want %d", c[0], c[1], got, c[2])
		}
	}
}

func TestTakers_AreThoseBelowTheMean(t *testing.T) {
	named := func(nodes []Node, revisions ...string) []Node {
		for i, r := range revisions {
			nodes[i].Revision, nodes[i].Started = r, at(i)
		}
		return nodes
	}
	for _, c := range []struct {
		name  string
		nodes []Node
		want  string
	}{
		{"a node has joined", loads(125, 125, 125, 125, 0), "4"},
		{"not one at the mean", loads(130, 100, 90, 80), "2 3"},
		{"even", loads(100, 100), ""},
		{"not one that drains", []Node{{ID: "0", Load: 100, Ready: true}, {ID: "1", Load: 50, Ready: true}, {ID: "2"}}, "1"},
		{"not one of an older revision, though it has less", named(loads(100, 60, 90), "a", "a", "b"), ""},
	} {
		var got []string
		for _, n := range Takers(c.nodes, "0") {
			got = append(got, n.ID)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", c.name, got, c.want)
		}
	}
}

// Whatever the fleet, moving what the rules say comes to an end, with every
// node within the spread or within the slack of the mean, and no session moves
// to a node that had the mean.
func TestSurplus_MovingItBalances(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		of := rapid.SliceOfN(rapid.IntRange(0, 3000), 2, 8).Draw(t, "loads")
		nodes := loads(of...)
		total := 0
		for _, n := range of {
			total += n
		}
		for round := 0; ; round++ {
			if round > 10_000 {
				t.Fatalf("not balanced: %v", nodes)
			}
			moved := false
			for i := range nodes {
				for range BalanceNow(Surplus(nodes, nodes[i].ID), nodes[i].Load) {
					targets := Takers(nodes, nodes[i].ID)
					if len(targets) == 0 {
						t.Fatalf("nobody takes what %s has too many: %v", nodes[i].ID, nodes)
					}
					to := Pick(targets, func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "draw") })
					for j := range nodes {
						if nodes[j].ID == to.ID {
							if nodes[j].Load*len(nodes) >= total {
								t.Fatalf("%s gets more, of %v", to.ID, nodes)
							}
							nodes[j].Load++
						}
					}
					nodes[i].Load--
					moved = true
				}
			}
			if !moved {
				break
			}
		}
		mean := float64(total) / float64(len(nodes))
		for _, n := range nodes {
			if 100*float64(n.Load) > spread*mean && float64(n.Load) > mean+slack {
				t.Errorf("%v: %s has %d, the mean is %.1f", nodes, n.ID, n.Load, mean)
			}
		}
	})
}
