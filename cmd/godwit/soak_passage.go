package main

import "time"

// passage finds, for one client, the deliveries that its moves concern: of the
// messages that were on their way at some time between the loss of its socket
// (or the start of a hand-over) and its new one. How late they came is what a
// move costs, without the quiet of the rooms. Time is an argument.
type passage struct {
	recent      [8]delivery // the last ones, for a move that is told when it is over
	next        int         // of recent
	from, until time.Time   // of the last move; from zero: none; until zero: it goes on
}

// delivery is one message's way to the client.
type delivery struct {
	sent, came time.Time
	counted    bool
}

func (d *delivery) late() time.Duration { return d.came.Sub(d.sent) }

// leaves begins a move, or goes on with one that has failed. It may have begun
// a while ago; then the deliveries since are told.
func (p *passage) leaves(at time.Time) (late []time.Duration) {
	if p.from.IsZero() || !p.until.IsZero() {
		p.from = at
	}
	p.until = time.Time{}
	for i := range p.recent {
		if d := &p.recent[i]; !d.counted && !d.came.Before(p.from) && !d.came.IsZero() {
			d.counted = true
			late = append(late, d.late())
		}
	}
	return late
}

// arrives ends a move.
func (p *passage) arrives(at time.Time) {
	if !p.from.IsZero() && p.until.IsZero() {
		p.until = at
	}
}

// hears takes a delivery, and says whether it was on its way during the last move.
func (p *passage) hears(d delivery) (concerned bool) {
	d.counted = !p.from.IsZero() && (p.until.IsZero() || !d.sent.After(p.until))
	p.recent[p.next] = d
	p.next = (p.next + 1) % len(p.recent)
	return d.counted
}
