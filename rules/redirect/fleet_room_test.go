package redirect_test

import (
	"slices"
	"time"

	"godwit/rules/address"
	"godwit/rules/order"
)

// room is one that a node follows: what it hears of it, in order, and who
// listens here.
type room struct {
	n         *node
	log       *log
	refs      int
	ready     bool
	waiting   []func()
	track     order.Track[*entry]
	seats     []*seat
	resetting bool
	sends     lane
}

// seat is a session's place in a room.
type seat struct {
	s      *session
	r      *room
	epoch  string
	after  uint64 // what comes next is delivered
	head   uint64
	joined uint64
	live   bool
	gone   bool
}

// open follows a room; then runs once the node hears it.
func (n *node) open(i int, then func()) *room {
	r := n.rooms[i]
	if r == nil {
		r = &room{n: n, log: n.f.store.rooms[i]}
		n.rooms[i] = r
		r.subscribe()
	}
	r.refs++
	if r.ready {
		then()
	} else {
		r.waiting = append(r.waiting, then)
	}
	return r
}

func (r *room) subscribe() {
	n := r.n
	n.call(nil, func() { n.f.store.subscribe(n, r.log.room) }, func(ok bool) {
		switch {
		case n.rooms[r.log.room] != r:
		case !ok:
			n.later(100*time.Millisecond, r.subscribe)
		default:
			r.ready = true
			waiting := r.waiting
			r.waiting = nil
			for _, then := range waiting {
				then()
			}
		}
	})
}

// close gives a room up; nobody is left that listens.
func (r *room) close() {
	n := r.n
	if r.refs--; r.refs > 0 || n.rooms[r.log.room] != r {
		return
	}
	n.rooms[r.log.room] = nil
	n.f.after(n.f.delay(), func() {
		if n.rooms[r.log.room] == nil {
			n.f.store.unsubscribe(n, r.log.room)
		}
	})
}

func (r *room) heard(epoch string, e *entry) { r.apply(r.track.Heard(epoch, e.Seq, e)) }

func (r *room) announced(epoch string, head uint64) {
	if r.track.State() != order.Starting {
		r.apply(r.track.Announced(epoch, head))
	}
}

func (r *room) apply(step order.Step[*entry]) {
	for _, e := range step.Deliver {
		for _, at := range slices.Clone(r.seats) {
			if e.Seq > at.after {
				at.deliver(e)
			}
		}
	}
	if step.Fill {
		r.fill(step.From, step.To)
	}
	if step.Reset {
		r.reset()
	}
}

func (r *room) fill(from, to uint64) {
	var found []*entry
	r.n.call(nil, func() { found = r.log.read(from, int(to-from+1)) }, func(ok bool) {
		if !ok {
			if r.n.rooms[r.log.room] == r {
				r.n.later(100*time.Millisecond, func() { r.fill(from, to) })
			}
			return
		}
		seqs := make([]uint64, len(found))
		for i, e := range found {
			seqs[i] = e.Seq
		}
		r.apply(r.track.Filled(seqs, found))
	})
}

// reset asks every seat to make itself known again: the order that was known is
// over.
func (r *room) reset() {
	if r.resetting {
		return
	}
	r.resetting = true
	r.n.f.count("room reset")
	r.track.Stop()
	r.rejoin()
}

func (r *room) rejoin() {
	seats := slices.Clone(r.seats)
	views := make([]view, len(seats))
	left, failed := 1, false
	done := func() {
		if left--; left > 0 {
			return
		}
		if failed {
			r.n.later(100*time.Millisecond, r.rejoin)
			return
		}
		r.restart(seats, views)
	}
	for i, at := range seats {
		left++
		at.s.attach(at.r.log.room, func(v view, ok bool) {
			views[i] = v
			failed = failed || !ok
			if ok && v.how != "ok" {
				r.stand(at)
				if v.how == "moved" {
					at.s.suspect()
				}
			}
			done()
		})
	}
	done()
}

func (r *room) restart(seats []*seat, views []view) {
	told := make(map[*seat]view)
	for i, at := range seats {
		if views[i].how == "ok" && slices.Contains(r.seats, at) {
			told[at] = views[i]
			at.epoch, at.after = views[i].epoch, views[i].seq
		}
	}
	epoch, start := "", uint64(0)
	for _, at := range r.seats {
		if epoch == "" {
			epoch, start = at.epoch, at.after
		}
		start = min(start, at.after)
	}
	r.resetting = false
	if epoch == "" {
		return
	}
	for _, at := range r.seats {
		if v, ok := told[at]; ok {
			at.s.tellReset(at, v)
		}
	}
	r.apply(r.track.Start(epoch, start))
}

// sit seats a member that has everything up to after. It says false when the
// node is further: what lies between is to be read from the log first.
func (r *room) sit(at *seat, after, head uint64) bool {
	if r.track.State() == order.Starting && !r.resetting {
		r.apply(r.track.Start(at.epoch, max(after, head)))
	}
	at.after = after
	if _, now := r.track.Position(); !r.resetting && after < now {
		return false
	}
	r.seats = append(r.seats, at)
	at.live = true
	return true
}

func (r *room) stand(at *seat) {
	r.seats = slices.DeleteFunc(r.seats, func(o *seat) bool { return o == at })
}

// deliver hands one entry to the socket, if it is for the session.
func (at *seat) deliver(e *entry) {
	at.after = e.Seq
	c := at.s.c
	if address.Receives(e.Entry, address.Reader{User: c.user, Client: c.number, Since: at.joined}) {
		k, epoch := at.s.k, at.epoch
		k.toClient(func() { c.event(k, e, epoch) })
	}
}

// replay reads the log from the seat's position until it is live.
func (at *seat) replay() {
	var page []*entry
	var head uint64
	at.r.n.call(nil, func() { page, head = at.r.log.read(at.after+1, 64), at.r.log.head() }, func(ok bool) {
		switch {
		case at.gone:
		case !ok:
			at.r.n.later(100*time.Millisecond, at.replay)
		case len(page) == 0 && head > at.after || len(page) > 0 && page[0].Seq != at.after+1:
			at.startOver() // the log no longer has what comes next
		default:
			for _, e := range page {
				at.deliver(e)
			}
			if !at.r.sit(at, at.after, at.head) {
				at.replay()
			}
		}
	})
}

func (at *seat) startOver() {
	at.s.attach(at.r.log.room, func(v view, ok bool) {
		switch {
		case at.gone:
		case !ok:
			at.r.n.later(100*time.Millisecond, at.startOver)
		case v.how != "ok":
			at.s.suspect()
		default:
			at.s.tellReset(at, v)
			at.head = v.seq
			if at.epoch = v.epoch; !at.r.sit(at, v.seq, v.seq) {
				at.replay()
			}
		}
	})
}
