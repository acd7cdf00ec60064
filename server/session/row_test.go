package session

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
)

type thing struct {
	name string
	n    int
}

func (t *thing) Name() string { return t.name }

// A row is as a map by name is, and in the names' order.
func TestRow_IsAsAMapIs(t *testing.T) {
	var r row[*thing]
	want := make(map[string]*thing)
	for i := range 20_000 {
		name := strconv.Itoa(rand.IntN(30))
		if growing := i/500%2 == 0; rand.IntN(20) > 0 == growing {
			one := &thing{name, i}
			r.put(one)
			want[name] = one
		} else {
			r.drop(name)
			delete(want, name)
		}
		if len(r) != len(want) || !slices.IsSortedFunc(r, func(a, b *thing) int { return strings.Compare(a.name, b.name) }) {
			t.Fatalf("%d of %d things, or not in order: %v", len(r), len(want), r)
		}
		for n := range 30 {
			if name := strconv.Itoa(n); r.of(name) != want[name] {
				t.Fatalf("%s is %v, want %v", name, r.of(name), want[name])
			}
		}
	}
}
