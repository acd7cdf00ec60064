package redirect_test

import (
	"slices"

	"godwit/rules/address"
	"godwit/rules/redirect"
)

// truth is what an onlooker knows who sees everything. It holds what must be
// so against each step, and at the end against how everybody has come to rest.
type truth struct {
	f       *fleet
	seen    map[place]*seen
	fence   map[place]int // the highest gen that a room was told
	writers map[writer]*session
	sends   map[int]*meant
	over    map[string]bool // offers that their source has called over
}

// place is a client in a room.
type place struct {
	c    *client
	room int
}

// writer is who may write: one attachment for each gen.
type writer struct {
	c   *client
	gen int
}

// seen is how far an application has got in a room.
type seen struct {
	after uint64 // it has everything up to here, or was told that it has not
	own   int    // the last of its own sends that was stored
	joins int
	left  int
}

// meant is a send, and where it was stored.
type meant struct {
	seq     uint64
	settled bool
}

func newTruth(f *fleet) truth {
	return truth{
		f: f, seen: make(map[place]*seen), fence: make(map[place]int), writers: make(map[writer]*session),
		sends: make(map[int]*meant), over: make(map[string]bool),
	}
}

func (t *truth) at(c *client, room int) *seen {
	k := place{c, room}
	if t.seen[k] == nil {
		t.seen[k] = new(seen)
	}
	return t.seen[k]
}

func reader(c *client) address.Reader { return address.Reader{User: c.user, Client: c.number} }

// attached is a room that was told a gen: from here on no lower one writes.
func (t *truth) attached(c *client, room, gen int) {
	k := place{c, room}
	t.fence[k] = max(t.fence[k], gen)
}

// wrote is a write that a room takes.
func (t *truth) wrote(s *session, gen, room int) {
	if fence := t.fence[place{s.c, room}]; gen < fence {
		t.f.wrong(s.c, "two writers: gen %d writes to room %d, which was told %d", gen, room, fence)
	}
	k := writer{s.c, gen}
	if t.writers[k] == nil {
		t.writers[k] = s
	}
	if t.writers[k] != s {
		t.f.wrong(s.c, "two writers: %s and %s have gen %d", t.writers[k].n.name, s.n.name, gen)
	}
}

// appended is an entry of a log.
func (t *truth) appended(e *entry, c *client) {
	at := t.at(c, e.room)
	switch e.kind {
	case "join":
		if at.joins++; at.joins > 1 {
			t.f.wrong(c, "joins room %d a second time", e.room)
		}
	case "leave":
		if at.left++; at.left > 1 {
			t.f.wrong(c, "leaves room %d twice", e.room)
		}
		if !c.gone && !c.closing {
			t.f.wrong(c, "leaves room %d (%s), and has only moved, or been away for a moment", e.room, e.Leave)
		}
	default:
		m := t.sends[e.id]
		if m.seq != 0 {
			t.f.wrong(c, "send %d is stored twice in room %d: at %d and at %d", e.id, e.room, m.seq, e.Seq)
		}
		if m.seq = e.Seq; e.id < at.own {
			t.f.wrong(c, "send %d is stored in room %d after send %d", e.id, e.room, at.own)
		}
		at.own = e.id
	}
}

// committed is an offer that moves its session.
func (t *truth) committed(c *client, id string) {
	if t.over[id] {
		t.f.wrong(c, "moves by offer %s, which its source had called over", id)
	}
}

// dead is an offer that its source calls over.
func (t *truth) dead(id string) { t.over[id] = true }

// entered is a client that was told where a room begins for it.
func (t *truth) entered(c *client, room int, after uint64) { t.at(c, room).after = after }

// broken is a client that was told that something is missing. reset says that
// it was told with everybody at its node.
func (t *truth) broken(c *client, room int, has, next uint64, reset bool) {
	t.f.count("told of a gap")
	first := t.f.store.rooms[room].first
	if first <= has+1 && !(reset && first > 1) {
		t.f.wrong(c, "is told that room %d goes on at %d, though the log has what follows %d", room, next, has)
	}
	at := t.at(c, room)
	if next < at.after {
		t.f.wrong(c, "is told that room %d goes on at %d, and had %d", room, next, at.after)
	}
	at.after = next
}

// took is an event that an application gets.
func (t *truth) took(c *client, e *entry) {
	at := t.at(c, e.room)
	if e.Seq <= at.after {
		t.f.wrong(c, "gets %d of room %d, and had %d", e.Seq, e.room, at.after)
		return
	}
	if !address.Receives(e.Entry, reader(c)) {
		t.f.wrong(c, "gets %d of room %d, which is not for it", e.Seq, e.room)
	}
	t.missing(c, e.room, at.after+1, e.Seq)
	at.after = e.Seq
}

// missing complains of what is for a client in a part of a log.
func (t *truth) missing(c *client, room int, from, to uint64) {
	for _, e := range t.f.store.rooms[room].all[from-1 : to-1] {
		if address.Receives(e.Entry, reader(c)) {
			t.f.wrong(c, "has not got %d of room %d, and nobody told it", e.Seq, room)
		}
	}
}

// meant is a send that an application makes.
func (t *truth) meant(id int) { t.sends[id] = new(meant) }

// acknowledged is a send that was answered well.
func (t *truth) acknowledged(c *client, id int, o outcome) {
	m := t.sends[id]
	m.settled = true
	if m.seq == 0 || o.seq != 0 && o.seq != m.seq {
		t.f.wrong(c, "send %d is said to be stored at %d, and is at %d", id, o.seq, m.seq)
	}
	t.f.count("sends")
}

// declined is a send that was refused.
func (t *truth) declined(c *client, id int) {
	m := t.sends[id]
	m.settled = true
	if m.seq != 0 {
		t.f.wrong(c, "send %d is said to be refused, and is stored at %d", id, m.seq)
	}
}

// rest is how everybody is when nothing has happened for a while.
func (t *truth) rest() {
	f := t.f
	for _, c := range f.all {
		r := f.store.find(c)
		if c.gone {
			t.restGone(c, r)
			continue
		}
		state := c.at.State()
		switch {
		case c.k == nil || c.old != nil || state != redirect.Connected && state != redirect.Switched:
			f.wrong(c, "has come to rest in state %d, and not on one socket", state)
		case r == nil || r.state != "live" || r.owner != c.k.n || c.k.s.gen != r.gen || c.k.n.hub[c] != c.k.s:
			f.wrong(c, "is not where the store has it: %+v", r)
		}
		for _, n := range f.nodes {
			if n.hub[c] != nil && c.k != nil && n != c.k.n {
				f.wrong(c, "is at %s, too", n.name)
			}
		}
		for _, in := range c.rooms {
			if !in.member || len(in.line.queue) > 0 {
				f.wrong(c, "in room %d: member %t, %d sends not answered", in.room, in.member, len(in.line.queue))
				continue
			}
			t.missing(c, in.room, t.at(c, in.room).after+1, f.store.rooms[in.room].head()+1)
		}
	}
	for _, l := range f.store.rooms {
		for c := range l.members {
			if r := f.store.find(c); r == nil || !slices.Contains(r.rooms, l.room) {
				f.wrong(c, "is in room %d, and its session does not know", l.room)
			}
		}
	}
	for _, n := range f.nodes {
		if n.pending() > 0 || len(n.sent) > 0 {
			f.wrong(f.all[0], "%s keeps %d places, and has %d offers under way", n.name, n.pending(), len(n.sent))
		}
	}
}

func (t *truth) restGone(c *client, r *record) {
	if r != nil {
		t.f.wrong(c, "has gone, and its session has not: %+v", r)
	}
	for _, in := range c.rooms {
		if at := t.at(c, in.room); at.joins != at.left {
			t.f.wrong(c, "has gone, and room %d has %d joins and %d leaves of it", in.room, at.joins, at.left)
		}
	}
}
