package redirect_test

import (
	"slices"
	"time"

	"godwit/rules/drain"
	"godwit/rules/redirect"
)

// offer is one that stands, at its source.
type offer struct {
	s       *session
	id      string
	target  *node // nil: any
	over    func(state string)
	end     string // what it is to become; "offered": only look
	asking  bool
	again   bool
	done    bool // the client needs the old socket no more
	settled bool
}

// why says what an offer is for.
type why struct {
	reason string
	over   func(state string)
	none   func(busy bool) // there is no offer, or not yet
}

// offer offers a session another node.
func (n *node) offer(s *session, w why) {
	none := func(busy bool) {
		if w.none != nil {
			w.none(busy)
		}
	}
	if n.dead || n.hub[s.c] != s || !s.c.follows {
		none(false)
		return
	}
	if s.source.State() != redirect.Active {
		none(true)
		return
	}
	n.look(func(all []*node, ok bool) {
		if !ok {
			none(true)
			return
		}
		o := &offer{s: s, id: n.f.id(), end: "offered", over: w.over}
		gen := s.gen
		n.allowed(s, all, w.reason, func(all []*node, ok bool) {
			switch {
			case !ok || len(n.targets(all, nil)) == 0:
				none(!ok || n.another(all))
			case !n.f.directed:
				n.write(o, gen, none)
			default:
				n.place(o, all, nil, 0, func(found bool) {
					if !found {
						none(n.another(all))
						return
					}
					n.write(o, gen, none)
				})
			}
		})
	})
}

// another says whether some other node may take sessions, if not now.
func (n *node) another(all []*node) bool {
	return slices.ContainsFunc(all, func(o *node) bool { return o != n && o.ready && o.leaseEnd > n.f.now })
}

// allowed are the nodes that a session may move to without being in need of it.
func (n *node) allowed(s *session, all []*node, reason string, then func(all []*node, ok bool)) {
	if reason == "drain" || reason == "admin" {
		then(all, true)
		return
	}
	var moves []redirect.Move
	n.call(nil, func() {
		if r := n.f.store.find(s.c); r != nil {
			moves = append(moves, r.moves...)
		}
	}, func(ok bool) {
		var out []*node
		if reason != "balance" || redirect.Rested(moves, n.f.clock()) {
			for _, o := range all {
				if o == n || redirect.MayMove(moves, o.name, n.f.clock()) {
					out = append(out, o)
				}
			}
		}
		then(out, ok)
	})
}

// place finds a target that keeps a place; so many have said nothing.
func (n *node) place(o *offer, all, denied []*node, silent int, then func(found bool)) {
	candidates := n.targets(all, denied)
	if len(candidates) == 0 || silent == 3 {
		then(false)
		return
	}
	id := drain.Pick(candidates, n.f.dice.IntN).ID
	var to *node
	for _, c := range all {
		if c.name == id {
			to = c
		}
	}
	if _, was := n.silent[to]; was {
		n.silent[to] = n.f.now + silentFor // one ask finds out
	}
	answered := false
	answer := func(heard, prepared bool) {
		if answered {
			return
		}
		answered = true
		delete(n.asks, o.id)
		if heard {
			delete(n.silent, to)
		} else {
			n.f.count("target silent")
			n.silent[to] = n.f.now + silentFor
			silent++
		}
		if prepared {
			o.target = to
			then(true)
			return
		}
		n.place(o, all, append(denied, to), silent, then)
	}
	n.asks[o.id] = func(prepared bool) { answer(true, prepared) }
	n.later(1500*time.Millisecond, func() { answer(false, false) })
	n.tell(to, func() {
		kept := to.keep(o.id)
		to.tell(n, func() {
			if ask := n.asks[o.id]; ask != nil {
				ask(kept)
			}
		})
	})
}

// write writes the offer, tells the client, and stays with it.
func (n *node) write(o *offer, gen int, none func(busy bool)) {
	s, f := o.s, n.f
	if s.over || !s.source.Offer(o.id) {
		o.release()
		none(true)
		return
	}
	s.offer = o
	o.underWay(1)
	rec := offerRecord{id: o.id, gen: gen, source: n, target: o.target}
	t := ticket{id: o.id, gen: gen, source: n, target: o.target, expires: f.now + n.skew + offerFor}
	o.asking = true // whoever doubts it waits until it is written
	how := ""
	n.call(nil, func() { how = f.store.writeOffer(s.c, rec, offerFor) }, func(ok bool) {
		if !ok || how != "ok" || s.dropped {
			s.source.Ended(o.id)
			if !o.settled {
				o.settled = true
				o.underWay(-1)
				o.release()
				none(how == "busy")
			}
			return
		}
		f.count("offers")
		k := s.k
		k.toClient(func() { s.c.offered(k, t) })
		n.later(offerFor+100*time.Millisecond, func() { o.become("expired") })
		if o.asking = false; o.again {
			o.become("offered")
		}
	})
}

// underWay counts what is under way to a target.
func (o *offer) underWay(by int) {
	n := o.s.n
	if n.sent[o.target] += by; n.sent[o.target] == 0 {
		delete(n.sent, o.target)
	}
}

// release tells a target that nobody comes.
func (o *offer) release() {
	if to, id := o.target, o.id; to != nil {
		o.s.n.tell(to, func() {
			if t := to.kept[id]; t != nil && t.Cancelled(id) {
				delete(to.kept, id)
			}
		})
	}
}

// become asks the record, or changes it, until it is known what became of it.
func (o *offer) become(end string) {
	if end != "offered" {
		o.end = end
	}
	if o.settled {
		return
	}
	if o.asking {
		o.again = true
		return
	}
	n, s := o.s.n, o.s
	if o.end != "offered" && n.f.bugs.inMemory {
		o.settle(o.end)
		return
	}
	o.asking, o.again = true, false
	state, want := "", o.end
	n.call(nil, func() { state = n.f.store.withdraw(s.c, o.id, want) }, func(ok bool) {
		o.asking = false
		switch {
		case o.settled:
		case !ok:
			n.later(100*time.Millisecond, func() { o.become("offered") })
		case state != "offered":
			o.settle(state)
		case o.again:
			o.become("offered")
		}
	})
}

// settle is what follows from what has become of an offer; "" when the socket
// went first.
func (o *offer) settle(state string) {
	if o.settled {
		return
	}
	o.settled = true
	s, n := o.s, o.s.n
	n.f.count("offer " + state)
	o.underWay(-1)
	if n.f.told(s.c) {
		n.f.tell("%s: offer %s is %s", n.name, o.id, state)
	}
	switch state {
	case "":
	case "committed":
		s.source.Claimed(o.id)
		s.over = true
		n.later(redirect.FencedFor, o.finish)
		if o.done {
			o.finish()
		}
	default:
		s.source.Ended(o.id)
		n.f.truth.dead(o.id)
		if state == "cancelled" {
			k, id := s.k, o.id
			k.toClient(func() { s.c.withdrawn(id) })
		}
		o.release()
		s.look()
	}
	if o.over != nil {
		o.over(state)
	}
}

// finish closes the old socket.
func (o *offer) finish() {
	if o.s.source.Done(o.id) {
		o.s.quit(closeMoved)
	}
}

// hear takes a target's word: claimed, or done.
func (s *session) hear(id string, done bool) {
	o := s.offer
	if o == nil || o.id != id {
		return
	}
	switch s.source.State() {
	case redirect.Offered:
		o.done = o.done || done
		o.become("offered")
	case redirect.Fenced:
		if done {
			o.finish()
		}
	}
}

// cancel withdraws the offer that stands, if any.
func (s *session) cancel() {
	if s.source.State() == redirect.Offered {
		s.offer.become("cancelled")
	}
}

// doubt says that the session was found elsewhere, and whether that is an
// offer's affair.
func (s *session) doubt() bool {
	s.cancel()
	return s.source.State() != redirect.Active
}

// refuse is redirect.refuse.
func (s *session) refuse(id string, answer func(err string)) {
	o := s.offer
	if s.source.State() != redirect.Offered || o.id != id {
		if s.over {
			answer("moved")
		}
		return
	}
	n, state := s.n, ""
	if n.f.bugs.inMemory {
		o.settle("refused")
		return
	}
	n.call(nil, func() { state = n.f.store.withdraw(s.c, id, "refused") }, func(ok bool) {
		if !ok {
			return
		}
		if state == "committed" {
			answer("moved")
		}
		o.settle(state)
	})
}

// done is handover.done, at the target.
func (s *session) done(id string) {
	if s.came == nil || !s.came.Done(id) {
		return
	}
	from, c := s.from, s.c
	s.n.tell(from, func() {
		if old := from.hub[c]; old != nil {
			old.hear(id, true)
		}
	})
}
