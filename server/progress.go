package server

import (
	"time"

	"godwit/store"
)

// rateOver is how many looks back, a second each, a drain's rate is measured.
const rateOver = 5

// gauge measures how fast sessions go.
type gauge struct {
	looks []look // the oldest first, rateOver at most
}

type look struct {
	at   time.Time
	gone int
}

// rate is how many go a second, by what was seen lately.
func (g *gauge) rate(now time.Time, gone int) float64 {
	if len(g.looks) > rateOver {
		g.looks = g.looks[1:]
	}
	g.looks = append(g.looks, look{now, gone})
	first := g.looks[0]
	if took := now.Sub(first.at).Seconds(); took > 0 {
		return float64(gone-first.gone) / took
	}
	return 0
}

// progress tells how a drain goes. The rate of one that is over is its mean.
func (d *drainer) progress(g *gauge) store.Drain {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	p := store.Drain{
		Order: d.order, By: store.ByOperator, State: d.state, Budget: d.pace.budget, Elapsed: d.took,
		Moved: int(d.moved.Load()), Left: d.n.hub.Len(), Refused: int(d.refused.Load()), Resumed: int(d.told.Load()),
	}
	if d.final {
		p.By = store.BySignal
	}
	gone := p.Moved + p.Resumed
	if d.state != store.DrainRunning {
		if took := d.took.Seconds(); took > 0 {
			p.Rate = float64(gone) / took
		}
		return p
	}
	p.Elapsed = now.Sub(d.began)
	p.Rate = g.rate(now, gone)
	p.ETA = d.pace.budget - now.Sub(d.pace.since) // nobody stays longer
	if p.Rate > 0 {
		p.ETA = min(p.ETA, time.Duration(float64(p.Left)/p.Rate*float64(time.Second)))
	}
	if p.ETA < 0 || p.Left == 0 {
		p.ETA = 0
	}
	return p
}
