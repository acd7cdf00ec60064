package main

import (
	"context"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"time"
)

const (
	// gcStep is how often the goal of the garbage collector is thought about.
	gcStep = time.Second
	// gcWindow is what it is judged by: what a collection takes is known when it is
	// over, so that most steps seem to be free, and one dear.
	gcWindow = 10 * gcStep
	// gcLeast and gcMost are the goals, as of GOGC: how much garbage piles up before
	// it is collected, in percent of what is in use.
	gcLeast = 25
	gcMost  = 100
	// The goal is gcMost again as soon as collecting has taken what is more than gcMuch
	// of a core for a window, and halved after a window in which it took less than
	// gcLittle: half the goal is twice the work.
	gcMuch   = 0.02
	gcLittle = 0.005
)

// gcPacer has a node hold less memory that has little to do. By Go's own goal, as
// much garbage piles up as is in use; to collect it sooner costs nothing worth saving
// where there is little of it, and much where there is much. What a load has left
// behind goes back to the system once nothing was collected for a window: then
// nobody is waiting for what giving it back takes.
type gcPacer struct {
	spent   func() time.Duration        // CPU of all collections that are over
	cycles  func() uint64               // how many
	set     func(percent int) (was int) // sets the goal
	release func()                      // collects, and gives back what is free

	percent  int
	began    time.Time     // the window
	before   time.Duration // spent, then
	at       uint64        // cycles, then
	released uint64        // cycles, when it was last given back
}

func newGCPacer() *gcPacer {
	return &gcPacer{spent: collecting, cycles: collections, set: debug.SetGCPercent, release: debug.FreeOSMemory}
}

// run sets the goal until ctx ends; then it is as it was.
func (p *gcPacer) run(ctx context.Context) {
	p.percent = gcMost
	was := p.set(p.percent)
	defer p.set(was)
	p.open(time.Now())
	t := time.NewTicker(gcStep)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			p.step(time.Now())
		}
	}
}

// open begins a window.
func (p *gcPacer) open(now time.Time) {
	p.began, p.before, p.at = now, p.spent(), p.cycles()
}

// step sets the goal by what the window took, or gives back what it can spare.
func (p *gcPacer) step(now time.Time) {
	took := (p.spent() - p.before).Seconds() / gcWindow.Seconds()
	switch {
	case took > gcMuch:
		if p.percent < gcMost {
			p.percent = gcMost
			p.set(p.percent)
		}
	case now.Sub(p.began) < gcWindow:
		return
	case took > gcLittle:
	case p.percent > gcLeast:
		p.percent /= 2
		p.set(p.percent)
	default:
		p.spare()
	}
	p.open(now)
}

// spare gives memory back after a window without a collection, once until there was
// another: that of giving back is none.
func (p *gcPacer) spare() {
	if n := p.cycles(); n != p.at || n == p.released {
		return
	}
	p.release()
	p.released = p.cycles()
}

// collecting is the CPU that the garbage collector took so far, without what nobody
// else wanted.
func collecting() time.Duration {
	s := []runtimemetrics.Sample{{Name: "/cpu/classes/gc/mark/assist:cpu-seconds"}, {Name: "/cpu/classes/gc/mark/dedicated:cpu-seconds"}}
	runtimemetrics.Read(s)
	return time.Duration((s[0].Value.Float64() + s[1].Value.Float64()) * float64(time.Second))
}

// collections is how many there were so far.
func collections() uint64 {
	s := []runtimemetrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}}
	runtimemetrics.Read(s)
	return s[0].Value.Uint64()
}
