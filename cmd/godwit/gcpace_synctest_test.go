package main

import (
	"context"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// phase is how much of a core collecting takes, when that gets known, and for how long.
type phase struct {
	of    float64
	every time.Duration
	lasts time.Duration
}

// start runs a pacer, and returns between two of its steps with what ends it.
func start(t *testing.T, p *gcPacer) (end func()) {
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { // waited for by end
		defer close(done)
		p.run(ctx)
	}()
	time.Sleep(gcStep / 2)
	return func() {
		stop()
		<-done
	}
}

// goals says which goals a node set in phases.
func goals(t *testing.T, phases ...phase) (set []int) {
	synctest.Test(t, func(t *testing.T) {
		var spent atomic.Int64 // ns
		p := &gcPacer{
			spent:  func() time.Duration { return time.Duration(spent.Load()) },
			cycles: func() uint64 { return 0 },
			set: func(percent int) int {
				set = append(set, percent)
				return 77
			},
		}
		end := start(t, p)
		for _, l := range phases {
			for range l.lasts / l.every {
				time.Sleep(l.every)
				spent.Add(int64(l.of * float64(l.every)))
			}
		}
		time.Sleep(gcStep) // once more
		end()
	})
	return set
}

const long = 100 * gcWindow

func TestGCPacer_AQuietNodeCollectsSoonerAndABusyOneAsGoDoes(t *testing.T) {
	quiet, some := phase{0, gcStep, long}, phase{0.01, gcStep, long}
	for name, c := range map[string]struct {
		phases []phase
		goals  []int
	}{
		"quiet":                    {[]phase{quiet}, []int{50, 25}},
		"quiet for a moment":       {[]phase{{0, gcStep, 3 * gcWindow / 2}}, []int{50}},
		"neither":                  {[]phase{some}, nil},
		"busy":                     {[]phase{{0.5, gcStep, long}}, nil},
		"busy, seldom known":       {[]phase{{0.05, 5 * gcStep, long}}, nil},
		"quiet, then neither":      {[]phase{quiet, some}, []int{50, 25}},
		"quiet, then some more":    {[]phase{quiet, {0.021, gcStep, 2 * gcWindow}, quiet}, []int{50, 25, 100, 50, 25}},
		"quiet, then busy":         {[]phase{quiet, {0.5, gcStep, long}}, []int{50, 25, 100}},
		"quiet, busy, quiet again": {[]phase{quiet, {0.5, gcStep, long}, quiet}, []int{50, 25, 100, 50, 25}},
	} {
		t.Run(name, func(t *testing.T) {
			want := append(append([]int{100}, c.goals...), 77) // at the end it is as it was
			if set := goals(t, c.phases...); !slices.Equal(set, want) {
				t.Errorf("goals %v, want %v", set, want)
			}
		})
	}
}

func TestGCPacer_IsSoonOutOfTheWayOfALoad(t *testing.T) {
	set := goals(t, phase{0, gcStep, long}, phase{1, gcStep, gcStep})
	if want := []int{100, 50, 25, 100, 77}; !slices.Equal(set, want) {
		t.Errorf("a second into a load the goals were %v, want %v", set, want)
	}
}

// What it gives back it has collected first, which is no reason to do it again.
func TestGCPacer_GivesBackWhatALoadHasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cycles, released atomic.Uint64
		p := &gcPacer{
			spent:  func() time.Duration { return 0 },
			cycles: cycles.Load,
			set:    func(int) int { return 0 },
			release: func() {
				released.Add(1)
				cycles.Add(1)
			},
		}
		end := start(t, p)
		for i, phase := range []struct {
			every time.Duration // 0: nothing is collected
			lasts time.Duration
			want  uint64
		}{
			{gcWindow / 2, long, 0},
			{0, 2 * gcWindow, 1},
			{0, long, 1},
			{gcWindow / 2, long, 1},
			{0, long, 2},
			{3 * gcWindow, 9 * gcWindow, 5}, // rarely: once after each
		} {
			if phase.every == 0 {
				time.Sleep(phase.lasts)
			} else {
				for range phase.lasts / phase.every {
					cycles.Add(1)
					time.Sleep(phase.every)
				}
			}
			if n := released.Load(); n != phase.want {
				t.Errorf("after phase %d it gave back %d times, want %d", i, n, phase.want)
			}
		}
		end()
	})
}

func TestGCPacer_KnowsHowManyCollectionsThereWere(t *testing.T) {
	before := collections()
	runtime.GC()
	if after := collections(); after <= before {
		t.Errorf("%d collections, and %d before one more", after, before)
	}
}

func TestGCPacer_KnowsWhatCollectingTakes(t *testing.T) {
	before := collecting()
	for range 10 {
		runtime.GC()
	}
	if after := collecting(); after <= before {
		t.Errorf("ten collections took no CPU: %s, and before %s", after, before)
	}
}
