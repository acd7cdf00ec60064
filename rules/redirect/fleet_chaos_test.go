package redirect_test

import (
	"flag"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	seed  = flag.Uint64("seed", 0, "repeat the choices of a run; 0 takes new ones")
	moves = flag.Int("moves", 2000, "how many moves of the simulated fleet are to be completed")
)

// span is how long faults happen in a run.
const span = time.Minute

// TestChaos_MovesLoseNothing has a fleet move its sessions, while everything
// happens to it, until so many moves are completed. `make chaos` does 100,000.
func TestChaos_MovesLoseNothing(t *testing.T) {
	first := *seed
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	began := time.Now()
	var next, done, runs atomic.Int64
	var mu sync.Mutex
	counts := make(map[string]int)
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for done.Load() < int64(*moves) && !t.Failed() {
				f := newFleet(first+uint64(next.Add(1)-1), bugs{})
				f.run(span)
				done.Add(int64(f.moved))
				runs.Add(1)
				if f.fault != "" {
					t.Errorf("%s\nagain by: go test ./rules/redirect -run TestChaos -seed=%d -moves=1\n%s", f.fault, f.seed, f.retell(span))
				}
				mu.Lock()
				for what, n := range f.counts {
					counts[what] += n
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	t.Logf("%d moves in %d runs, from seed %d on, in %s", done.Load(), runs.Load(), first, time.Since(began).Round(time.Millisecond))
	var told []string
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		told = append(told, fmt.Sprintf("%s %d", what, counts[what]))
	}
	t.Log(strings.Join(told, ", "))
}

// TestChaos_FindsWhatIsPlanted plants what a redirect could get wrong, and
// counts the runs that the onlooker finds spoilt: some of each, and none where
// nothing is planted.
func TestChaos_FindsWhatIsPlanted(t *testing.T) {
	const runs, short = 12, 20 * time.Second
	for _, c := range []struct {
		what string
		bugs bugs
		word string // of a complaint
		some bool
	}{
		{"nothing", bugs{}, "", false},
		{"the client takes what it has seen", bugs{noFilter: true}, "and had", true},
		{"the target delivers from now on", bugs{fromNow: true}, "has not got", true},
		{"rooms look neither at gen nor at cseq", bugs{noFence: true}, "", true},
		{"the source ends offers in its own memory", bugs{inMemory: true}, "called over", true},
	} {
		spoilt := 0
		for s := range uint64(runs) {
			f := newFleet(s+1, c.bugs)
			if f.run(short); f.fault == "" {
				continue
			}
			spoilt++
			if !c.some || spoilt == 1 && !strings.Contains(f.fault, c.word) {
				t.Errorf("%s: seed %d: %s\n%s", c.what, f.seed, f.fault, f.retell(short))
			}
		}
		t.Logf("planted: %s; spoilt: %d of %d", c.what, spoilt, runs)
		if c.some != (spoilt > 0) {
			t.Errorf("%s: %d of %d runs spoilt", c.what, spoilt, runs)
		}
	}
}
