package measure

import (
	"maps"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestHistogram_EveryDurationIsInEachBucketThatHoldsIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h Histogram
		var want Reading
		for range rapid.IntRange(0, 50).Draw(t, "n") {
			d := time.Duration(rapid.Int64Range(0, int64(10*time.Second)).Draw(t, "d"))
			if rapid.Bool().Draw(t, "at a bound") {
				d = rapid.SampledFrom(Bounds[:]).Draw(t, "bound")
			}
			h.Observe(d)
			want.Count++
			want.Sum += d
			for i, bound := range Bounds {
				if d <= bound {
					want.Within[i]++
				}
			}
		}
		if got := h.Read(); got != want {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	})
}

func TestHistogram_BoundsRise(t *testing.T) {
	for i, b := range Bounds {
		if i > 0 && b <= Bounds[i-1] {
			t.Errorf("%s after %s", b, Bounds[i-1])
		}
	}
}

func TestSet_CountsWhatItWasMadeForAndTheRestAsOther(t *testing.T) {
	s := NewSet("ok", "bad")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 100 {
				s.Add("ok")
				s.Add("anything a client says")
			}
		})
	}
	all.Wait()
	got := map[string]uint64{}
	var order []string
	s.Read(func(word string, n uint64) {
		got[word] = n
		order = append(order, word)
	})
	if want := map[string]uint64{"ok": 400, "bad": 0, Other: 400}; !maps.Equal(got, want) || order[0] != "ok" || order[2] != Other {
		t.Errorf("got %v in the order %v, want %v", got, order, want)
	}
}

func TestMeasure_TakesNoMemory(t *testing.T) {
	var h Histogram
	s := NewSet("ok")
	word := string([]byte("ok"))
	if n := testing.AllocsPerRun(100, func() {
		h.Observe(time.Second)
		s.Add(word)
		s.Add("no such")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
