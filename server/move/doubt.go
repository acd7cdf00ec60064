package move

import (
	"slices"
	"time"

	"godwit/rules/drain"
	"godwit/store"
	"godwit/wire"
)

const (
	// silentFor is how long a target that said nothing is passed over: long beside
	// what an ask costs, short beside a lease, for it may only have been slow.
	silentFor = 5 * time.Second
	// astrayMost is how many clients in a row may not find a target before it is
	// passed over. Each astrayFor, more than a client dials for, another one tries.
	astrayMost = 8
	astrayFor  = 10 * time.Second
	// doubtFor is how long what speaks against a target is remembered.
	doubtFor = time.Minute
)

// doubt is what speaks against a target.
type doubt struct {
	at     time.Time // when something did last
	silent time.Time // until when it is passed over, for it did not answer when it was asked last
	astray int       // clients in a row that did not find it
	shut   time.Time // until when it is passed over for them
}

func (d doubt) passes(now time.Time) bool { return now.Before(d.silent) || now.Before(d.shut) }

// passOverLocked takes from the ready ones who are in doubt, while there is another.
// Who did not answer would be asked in vain for as long as its lease stands; who is
// not found would have each client lose the time that it dials for.
func (m *Mover) passOverLocked(seen []drain.Node) {
	now := time.Now()
	passed := func(n drain.Node) bool { return m.doubts[n.ID].passes(now) }
	another := func(n drain.Node) bool { return n.Ready && n.ID != m.cfg.Ref.String() && !passed(n) }
	if len(m.doubts) == 0 || !slices.ContainsFunc(seen, another) {
		return
	}
	for i, n := range seen {
		if passed(n) {
			seen[i].Ready = false
		}
	}
}

// doubtLocked changes what speaks against a target, and forgets what is long ago.
// change says whether it has added to it.
func (m *Mover) doubtLocked(target string, change func(d *doubt, now time.Time) (more bool)) {
	now := time.Now()
	for id, d := range m.doubts {
		if now.Sub(d.at) > doubtFor {
			delete(m.doubts, id)
		}
	}
	d := m.doubts[target]
	if change(&d, now) {
		d.at = now
	}
	if d == (doubt{at: d.at}) {
		delete(m.doubts, target)
	} else {
		m.doubts[target] = d
	}
}

// asks notes that a target is about to be asked: of one that was silent, one ask
// finds out whether it is back, and the others pass it over meanwhile.
func (m *Mover) asks(target string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.doubtLocked(target, func(d *doubt, now time.Time) bool {
		again := !d.silent.IsZero()
		if again {
			d.silent = now.Add(silentFor)
		}
		return again
	})
}

// asked notes whether a target has answered.
func (m *Mover) asked(target string, heard bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.doubtLocked(target, func(d *doubt, now time.Time) bool {
		d.silent = time.Time{}
		if !heard {
			d.silent = now.Add(silentFor)
		}
		return !heard
	})
}

// sendsLocked notes that a client is about to be sent to a target, if that keeps a
// place: where others did not find it, one finds out whether that is over. A client
// that asked to be sent may refuse as often as it likes: it says nothing of the target.
func (m *Mover) sendsLocked(target string, why Why) {
	if why.Reason == wire.ForRequest {
		return
	}
	m.doubtLocked(target, func(d *doubt, now time.Time) bool {
		full := d.astray >= astrayMost
		if full {
			d.shut = now.Add(astrayFor)
		}
		return full
	})
}

// found notes whether a client that was sent to a target has found it; as in
// sendsLocked, one that asked for it may only say that it has.
func (m *Mover) found(target string, why Why, state store.OfferState, refusal string) {
	astray := state == store.OfferRefused && why.Reason != wire.ForRequest && (refusal == wire.RefusedDial || refusal == wire.RefusedClosed)
	if state != store.OfferCommitted && !astray {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.doubtLocked(target, func(d *doubt, now time.Time) bool {
		if !astray {
			d.astray, d.shut = 0, time.Time{}
			return false
		}
		d.astray++
		if d.astray >= astrayMost {
			d.shut = now.Add(astrayFor)
		}
		if d.astray == astrayMost {
			m.log.Warn("clients do not reach a node; offering others while there are any", "node", target, "refused", refusal)
		}
		return true
	})
}
