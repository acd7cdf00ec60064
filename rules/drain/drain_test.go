package drain

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func at(s int) time.Time { return time.Unix(int64(s), 0) }

func TestTargets(t *testing.T) {
	for _, c := range []struct {
		name  string
		nodes []Node
		want  string
	}{
		{"alone", []Node{{ID: "self", Ready: true}}, ""},
		{"others", []Node{{ID: "self", Ready: true, Load: 9}, {ID: "a", Ready: true}, {ID: "b", Ready: true}}, "a b"},
		{"not one that drains or is dead", []Node{{ID: "self"}, {ID: "a"}, {ID: "b", Ready: true}}, "b"},
		{"not a crowded one", []Node{{ID: "self", Ready: true, Load: 10}, {ID: "a", Ready: true, Load: 31}, {ID: "b", Ready: true, Load: 10}}, "b"},
		{"at one and a half times the mean", []Node{{ID: "self", Ready: true, Load: 5}, {ID: "a", Ready: true, Load: 15}, {ID: "b", Ready: true, Load: 10}}, "b"},
		{"below it", []Node{{ID: "self", Ready: true, Load: 6}, {ID: "a", Ready: true, Load: 14}, {ID: "b", Ready: true, Load: 10}}, "a b"},
		{"an empty fleet", []Node{{ID: "self"}, {ID: "a", Ready: true}, {ID: "b", Ready: true}}, "a b"},
		{"a crowded one rather than none", []Node{{ID: "self", Ready: true, Load: 1}, {ID: "a", Ready: true, Load: 9}}, "a"},
		{"the newest revision", []Node{
			{ID: "self", Ready: true, Revision: "1", Started: at(1)},
			{ID: "a", Ready: true, Revision: "1", Started: at(90)}, // started late, of an old revision
			{ID: "b", Ready: true, Revision: "2", Started: at(50)},
		}, "b"},
		{"an older revision when the newest is crowded", []Node{
			{ID: "self", Ready: true, Revision: "1", Started: at(1), Load: 10},
			{ID: "a", Ready: true, Revision: "1", Started: at(2), Load: 10},
			{ID: "b", Ready: true, Revision: "2", Started: at(50), Load: 90},
		}, "a"},
		{"a revision is as old as its first node, though that one drains", []Node{
			{ID: "self", Live: true, Revision: "1", Started: at(1)},
			{ID: "a", Ready: true, Revision: "1", Started: at(90)}, // it has crashed since
			{ID: "b", Ready: true, Revision: "2", Started: at(50)},
		}, "b"},
		{"a dead node makes no revision older", []Node{
			{ID: "self", Live: true, Revision: "1", Started: at(60)},
			{ID: "a", Ready: true, Revision: "1", Started: at(90)},
			{ID: "b", Ready: true, Revision: "2", Started: at(50)},
			{ID: "gone", Revision: "1", Started: at(1)},
		}, "a"},
		{"a revision whose only node drains does not count", []Node{
			{ID: "self", Ready: true, Revision: "1", Started: at(1)},
			{ID: "a", Ready: true, Revision: "1", Started: at(2)},
			{ID: "b", Revision: "2", Started: at(50)},
		}, "a"},
	} {
		var got []string
		for _, n := range Targets(c.nodes, "self") {
			got = append(got, n.ID)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", c.name, got, c.want)
		}
	}
}

func TestPick_TheLessLoadedOfTwo(t *testing.T) {
	nodes := []Node{{ID: "a", Load: 3}, {ID: "b", Load: 1}, {ID: "c", Load: 2}}
	for _, c := range []struct {
		draws []int
		want  string
	}{{[]int{0, 0}, "b"}, {[]int{0, 1}, "c"}, {[]int{1, 0}, "b"}, {[]int{1, 1}, "b"}, {[]int{2, 0}, "c"}, {[]int{2, 1}, "b"}} {
		i := -1
		if got := Pick(nodes, func(int) int { i++; return c.draws[i] }); got.ID != c.want {
			t.Errorf("draws %v: %s, want %s", c.draws, got.ID, c.want)
		}
	}
	if got := Pick(nodes[:1], func(int) int { return 0 }); got.ID != "a" {
		t.Errorf("of one: %s", got.ID)
	}
}

// Whatever the size and the draws, all have begun to move before the bye, and
// who is told bye still has time.
func TestPlan_AllBeginBeforeTheBye(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 200_000).Draw(t, "sessions")
		budget := time.Duration(rapid.IntRange(1, 600_000).Draw(t, "ms")) * time.Millisecond
		p := NewPlan(n, budget, func() float64 { return rapid.Float64Range(0, 0.999).Draw(t, "draw") })
		last := time.Duration(offerShare * float64(budget))
		if p.Due(last) < n {
			t.Fatalf("%d of %d have begun after %s of %s", p.Due(last), n, last, budget)
		}
		if p.Bye(last) || !p.Bye(budget) {
			t.Fatalf("bye after %s: %t, after %s: %t", last, p.Bye(last), budget, p.Bye(budget))
		}
		if s := p.Spread(budget * 85 / 100); s < 0 || s > budget {
			t.Fatalf("spread %s of %s", s, budget)
		}
	})
	if got := fmt.Sprint(NewPlan(10_000, 10*time.Second, func() float64 { return 0 }).Due(time.Second)); got != "1429" {
		t.Errorf("10,000 in 10s: %s after a second", got)
	}
}

func TestMoving_LeavesTimeForTheStop(t *testing.T) {
	for _, c := range []struct{ budget, want time.Duration }{
		{0, 0},
		{time.Second, 800 * time.Millisecond},
		{10 * time.Second, 8 * time.Second},
		{time.Minute, 57 * time.Second},
	} {
		if got := Moving(c.budget); got != c.want {
			t.Errorf("of %s: %s, want %s", c.budget, got, c.want)
		}
	}
}
