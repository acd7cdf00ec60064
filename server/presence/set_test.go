package presence

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// A set is as a map of the same keys is, at whatever size.
func TestSet_IsAsAMapIs(t *testing.T) {
	var s set[int]
	want := make(map[int]struct{})
	sizes := make(map[int]bool)
	for i := range 20_000 {
		k := rand.IntN(3 * setFew)
		if growing := i/500%2 == 0; rand.IntN(20) > 0 == growing {
			s.add(k)
			want[k] = struct{}{}
		} else {
			s.remove(k)
			delete(want, k)
		}
		got := slices.Sorted(s.all())
		if s.len() != len(want) || !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
			t.Fatalf("has %v, want %v", got, want)
		}
		for k := range 3 * setFew {
			if _, in := want[k]; s.has(k) != in {
				t.Fatalf("%d in %v: %t", k, want, s.has(k))
			}
		}
		sizes[s.len()] = true
	}
	for size := range 2 * setFew {
		if !sizes[size] {
			t.Errorf("it never had %d", size)
		}
	}
}

func TestSet_MayLoseEachInItsTurn(t *testing.T) {
	for _, size := range []int{1, 2, setFew, setFew + 1, 3 * setFew} {
		var s set[int]
		for k := range size {
			s.add(k)
		}
		seen := make(map[int]bool)
		for k := range s.all() {
			seen[k] = true
			if k%2 == 0 {
				s.remove(k)
			}
		}
		if len(seen) != size || s.len() != size/2 {
			t.Errorf("of %d saw %d, and %d are left", size, len(seen), s.len())
		}
		for range s.all() {
			break // it can be left
		}
	}
}

// What waits must cost little: most users here have one session and are in few rooms.
func TestSet_OfOneIsSmall(t *testing.T) {
	k := new(int)
	if n := testing.AllocsPerRun(100, func() {
		var s set[*int]
		s.add(k)
		s.remove(k)
	}); n != 1 {
		t.Errorf("%.0f allocations for a set of one, want 1", n)
	}
}
