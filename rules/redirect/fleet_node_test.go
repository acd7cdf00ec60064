package redirect_test

import (
	"slices"
	"time"

	"godwit/rules/drain"
	"godwit/rules/redirect"
)

// node is one life of a node: it holds sockets and nothing else.
type node struct {
	f        *fleet
	slot     int
	name     string
	revision int
	started  time.Duration
	skew     time.Duration // of its clock

	dead   bool
	frozen bool
	parted bool // from the store
	held   []func()

	joined   bool
	draining bool
	until    time.Duration // writes are allowed before it
	good     time.Duration // since when every renewal succeeded; 0: the last failed
	renewed  time.Duration // when it was tried last
	heardAt  time.Duration // of the subscription, whose messages keep their order
	compared time.Duration

	// As the store has it.
	leaseEnd time.Duration
	ready    bool
	load     int

	hub        map[*client]*session
	seats      []*session // the same, in order
	sockets    []*socket
	socketless []orphan
	rooms      []*room

	kept map[string]*redirect.Target
	sent map[*node]int
	asks map[string]func(prepared bool)
	// silent are who did not answer when they were asked last, passed over until then.
	silent map[*node]time.Duration
}

// orphan is a session that the store holds to be here, and that has no socket.
type orphan struct {
	c   *client
	gen int
}

// do is how anything reaches a node.
func (n *node) do(what func()) {
	switch {
	case n.dead:
	case n.frozen:
		n.held = append(n.held, what)
	default:
		what()
	}
}

func (n *node) later(d time.Duration, what func()) { n.f.after(d, func() { n.do(what) }) }

func (n *node) thaw() {
	n.frozen = false
	held := n.held
	n.held = nil
	for i, what := range held {
		if n.frozen || n.dead { // by what it has just done
			n.held = append(n.held, held[i:]...)
			return
		}
		what()
	}
}

func (n *node) well() bool { return n.joined && !n.dead && !n.frozen && !n.parted }

// lane keeps the order of what goes over it, to and fro.
type lane struct{ out, back time.Duration }

// call has the store do something, and tells whether an answer came in time.
// What came over the same line before is done before.
func (n *node) call(l *lane, what func(), then func(ok bool)) {
	f := n.f
	if l == nil {
		l = new(lane)
	}
	lost := func() { f.after(storeWithin, func() { n.do(func() { then(false) }) }) }
	f.in(f.delay(), &l.out, func() {
		if f.store.away || n.parted {
			lost()
			return
		}
		what()
		f.in(f.delay(), &l.back, func() {
			if f.store.away || n.parted {
				lost()
				return
			}
			n.do(func() { then(true) })
		})
	})
}

// tell says a word to another node. It may be lost.
func (n *node) tell(to *node, word func()) {
	if to == n {
		n.later(0, word)
		return
	}
	f := n.f
	f.after(f.delay(), func() {
		if f.store.away || n.parted || to.parted || f.lost() {
			return
		}
		to.do(word)
	})
}

func (n *node) fenced() bool { return n.f.now >= n.until }

// settled says that the store has been good for a whole lease.
func (n *node) settled() bool { return n.good != 0 && n.f.now-n.good >= lease }

// suspect compares all rooms, as after the subscription was renewed.
func (n *node) suspect() {
	n.do(func() {
		n.compare()
		for _, s := range slices.Clone(n.seats) {
			s.look()
		}
	})
}

// tick is what time does at a node.
func (n *node) tick() {
	f := n.f
	n.later(500*time.Millisecond, n.tick)
	if f.now-n.renewed >= lease/3 || n.good == 0 {
		n.renew()
	}
	if f.now-n.compared >= time.Second {
		n.compare()
	}
	if n.settled() {
		n.sweep()
	}
	if f.chance(0.03) {
		n.custody()
	}
}

func (n *node) renew() {
	f := n.f
	start := f.now
	n.renewed = start
	load, ready := len(n.seats)+n.pending(), !n.draining
	n.call(nil, func() { n.leaseEnd, n.load, n.ready = f.now+lease, load, ready }, func(ok bool) {
		if !ok {
			n.good = 0
			return
		}
		if n.good == 0 {
			n.good = start + 1
		}
		over := n.joined && start >= n.until
		if !over {
			n.until = max(n.until, start+lease-lease/10)
			n.joined = true
			return
		}
		// Before it writes again it looks at each of its sessions.
		left := 1
		done := func() {
			if left--; left == 0 {
				n.until = max(n.until, start+lease-lease/10)
			}
		}
		for _, s := range slices.Clone(n.seats) {
			left++
			s.lookThen(done)
		}
		done()
		n.compare()
	})
}

// compare holds the heads of all rooms against their logs.
func (n *node) compare() {
	n.compared = n.f.now
	heads := make([]uint64, rooms)
	n.call(nil, func() {
		for i := range heads {
			heads[i] = n.f.store.rooms[i].head()
		}
	}, func(ok bool) {
		for i, r := range n.rooms {
			if ok && r != nil {
				r.announced(n.f.store.rooms[i].epoch, heads[i])
			}
		}
	})
}

// sweep ends the sessions whose grace is over, and detaches those of the dead.
func (n *node) sweep() {
	f, st := n.f, n.f.store
	var due []*client
	n.call(nil, func() {
		for _, r := range st.records {
			o := r.owner
			if r.state == "live" && o != n && o.leaseEnd != 0 && o.leaseEnd < f.now {
				st.detach(r.c, o, 0)
			}
			if r.state == "ending" || r.state == "detached" && r.until <= f.now {
				due = append(due, r.c)
			}
		}
	}, func(ok bool) {
		for _, c := range due {
			if ok {
				n.end(c, nil, 0, "lost")
			}
		}
	})
}

// end walks the one path of a session's end; who finds it begun goes on with it.
func (n *node) end(c *client, owner *node, gen int, reason string) {
	st := n.f.store
	var in []int
	var goes bool
	n.call(nil, func() { in, goes = st.ending(c, owner, gen, reason) }, func(ok bool) {
		var next func()
		next = func() {
			if len(in) == 0 {
				n.call(nil, func() { st.remove(c) }, func(bool) {})
				return
			}
			room := in[0]
			in = in[1:]
			n.call(nil, func() { st.leave(c, room) }, func(ok bool) {
				if ok {
					next()
				}
			})
		}
		switch {
		case ok && goes:
			next()
		case !ok && owner != nil: // what a node has to tell of its own it tells until it can
			n.later(200*time.Millisecond, func() { n.end(c, owner, gen, reason) })
		}
	})
}

// custody detaches what the store holds to be attached here and is not, if it
// was so at the last look too: an answer was lost.
func (n *node) custody() {
	st := n.f.store
	var now []orphan
	n.call(nil, func() {
		for _, r := range st.of(n) {
			now = append(now, orphan{r.c, r.gen})
		}
	}, func(ok bool) {
		if !ok {
			return
		}
		now = slices.DeleteFunc(now, func(o orphan) bool { return n.hub[o.c] != nil })
		for _, o := range now {
			if slices.Contains(n.socketless, o) {
				n.detach(o.c, o.gen)
			}
		}
		n.socketless = now
	})
}

// detach sees to it that the store hears that a socket is gone.
func (n *node) detach(c *client, gen int) {
	n.call(nil, func() { n.f.store.detach(c, n, gen) }, func(ok bool) {
		if !ok {
			n.later(200*time.Millisecond, func() { n.detach(c, gen) })
		}
	})
}

// pending is how many places are kept for who is still to come.
func (n *node) pending() int {
	k := 0
	for id, t := range n.kept {
		if t.Holds(n.f.clock()) {
			k++
		} else {
			delete(n.kept, id)
		}
	}
	return k
}

// keep keeps a place for an offer, if there is one.
func (n *node) keep(id string) bool {
	if n.draining || len(n.seats)+n.pending() >= 2*people {
		return false
	}
	t := new(redirect.Target)
	n.kept[id] = t
	return t.Prepare(id, n.f.clock().Add(offerFor))
}

// taken hands the place of an offer that was claimed over to its session.
func (n *node) taken(id string) *redirect.Target {
	t := n.kept[id]
	if t == nil {
		t = new(redirect.Target)
	}
	delete(n.kept, id)
	t.Claimed(id)
	return t
}

// look is the fleet in the eyes of a node that offers.
func (n *node) look(then func(nodes []*node, ok bool)) {
	f := n.f
	var all []*node
	n.call(nil, func() { all = append(slices.Clone(f.nodes), f.dead...) }, func(ok bool) { then(all, ok) })
}

// targets are who may be offered.
func (n *node) targets(all []*node, denied []*node) []drain.Node {
	open := func(o *node) bool { return o.ready && o.leaseEnd > n.f.now && !slices.Contains(denied, o) }
	silent := func(o *node) bool { return n.f.now < n.silent[o] }
	passOver := slices.ContainsFunc(all, func(o *node) bool { return o != n && open(o) && !silent(o) })
	var seen []drain.Node
	for _, o := range all {
		seen = append(seen, drain.Node{
			ID: o.name, Revision: string(rune('0' + o.revision)), Started: time.Unix(0, 0).Add(o.started), Load: o.load + n.sent[o],
			Ready: open(o) && !(passOver && silent(o)), Live: o.leaseEnd > n.f.now,
		})
	}
	return drain.Targets(seen, n.name)
}

// drain moves everybody away within a budget, and ends the process.
func (n *node) drain(budget time.Duration) {
	f := n.f
	n.draining = true
	n.renew()
	began := f.now
	plan := f.plan(len(n.seats), budget)
	seen := make(map[*session]bool)
	begun := 0
	var round func()
	round = func() {
		after := f.now - began
		if len(n.seats) == 0 || after >= budget {
			n.stop()
			return
		}
		n.later(20*time.Millisecond, round)
		for _, s := range slices.Clone(n.seats) {
			switch {
			case plan.Bye(after):
				if s.source.State() == redirect.Active {
					s.sayBye(plan.Spread(after))
				} else {
					s.cancel()
				}
			case !seen[s] && begun < plan.Due(after):
				seen[s] = true
				begun++
				bye := func() { s.sayBye(250 * time.Millisecond) }
				n.offer(s, why{reason: "drain", over: func(state string) {
					if state != "committed" && state != "" {
						bye()
					}
				}, none: func(busy bool) {
					if busy {
						n.later(time.Second, func() { delete(seen, s) })
						return
					}
					bye()
				}})
			}
		}
	}
	round()
}

// stop ends the process: what is left is detached, as far as there is time.
func (n *node) stop() {
	for _, k := range slices.Clone(n.sockets) {
		k.closeByNode(closeAway)
	}
	n.f.after(300*time.Millisecond, func() {
		if !n.dead {
			n.f.kill(n)
			n.f.restart(n)
		}
	})
}
