package redirect

import (
	"fmt"
	"testing"
	"time"
)

// TestSource_EachStepOnceAndOnlyOfItsOwnOffer walks each path; a step that is no
// news is marked with -.
func TestSource_EachStepOnceAndOnlyOfItsOwnOffer(t *testing.T) {
	for name, c := range map[string]struct{ does, want string }{
		"taken":                 {"offer a, claimed a, done a", "offered fenced closed"},
		"refused":               {"offer a, ended a", "offered active"},
		"again":                 {"offer a, ended a, offer b, claimed b", "offered active offered fenced"},
		"two offers":            {"offer a, offer b, claimed b, claimed a", "offered -offered -offered fenced"},
		"claimed, then refused": {"offer a, claimed a, ended a, done a", "offered fenced -fenced closed"},
		"refused, then claimed": {"offer a, ended a, claimed a", "offered active -active"},
		"late news":             {"offer a, ended a, offer b, ended a, claimed a", "offered active offered -offered -offered"},
		"doubled news":          {"offer a, claimed a, claimed a, done a, done a", "offered fenced -fenced closed -closed"},
		"done before claimed":   {"offer a, done a, claimed a", "offered -offered fenced"},
		"never offered":         {"claimed a, ended a, done a", "-active -active -active"},
		"closed is the end":     {"offer a, claimed a, done a, offer b", "offered fenced closed -closed"},
	} {
		var s Source
		got := ""
		for rest := c.does; rest != ""; {
			var what, id string
			if _, err := fmt.Sscanf(rest, "%s %1s", &what, &id); err != nil {
				t.Fatalf("%q: %v", rest, err)
			}
			rest = rest[min(len(rest), len(what)+len(" a, ")):]
			step := map[string]func(string) bool{"offer": s.Offer, "ended": s.Ended, "claimed": s.Claimed, "done": s.Done}[what]
			if got != "" {
				got += " "
			}
			if !step(id) {
				got += "-"
			}
			got += [...]string{"active", "offered", "fenced", "closed"}[s.State()]
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestMayMove_ThreeTimesAMinuteAndNotBack(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	ago := func(d time.Duration, from string) Move { return Move{now.Add(-d), from} }
	for _, c := range []struct {
		name  string
		moves []Move
		want  bool
	}{
		{"never moved", nil, true},
		{"twice", []Move{ago(1*time.Second, "b"), ago(2*time.Second, "c")}, true},
		{"three times", []Move{ago(1*time.Second, "b"), ago(2*time.Second, "c"), ago(59*time.Second, "d")}, false},
		{"three times, one long ago", []Move{ago(1*time.Second, "b"), ago(2*time.Second, "c"), ago(60*time.Second, "d")}, true},
		{"back", []Move{ago(59*time.Second, "to")}, false},
		{"back after a minute", []Move{ago(60*time.Second, "to")}, true},
		{"the clock went back", []Move{ago(-5*time.Second, "to")}, false},
	} {
		if got := MayMove(c.moves, "to", now); got != c.want {
			t.Errorf("%s: %t, want %t", c.name, got, c.want)
		}
		rested := len(c.moves) == 0 || len(c.moves) == 1 && c.moves[0].At.Equal(now.Add(-Window))
		if got := Rested(c.moves, now); got != rested {
			t.Errorf("%s: rested %t, want %t", c.name, got, rested)
		}
	}
}
