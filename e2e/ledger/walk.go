package ledger

import (
	"maps"
	"slices"

	"godwit/wire"
)

// walk goes through one owner's ledger as it happened and holds each event, and
// then each span, against the book.
func (c *check) walk(o *owner) {
	whispers := map[string]bool{} // ids of ephemeral messages seen
	for i, e := range o.lines {
		if e.what != saw {
			continue
		}
		st := o.rooms[e.room]
		var sp *span
		if st != nil {
			sp = st.at(i)
			if n := len(st.spans); sp == nil && n > 0 {
				if last := st.before(i); last != nil && last.left {
					sp = last
				}
			}
		}
		if sp == nil {
			c.find(Misaddressed, o.who, e.room, "", e.event.Seq, idOf(e.event), "shown to one who is not in the room")
			continue
		}
		c.event(o, st, sp, e.event, whispers)
	}
	for _, room := range slices.Sorted(maps.Keys(o.rooms)) {
		for _, sp := range o.rooms[room].spans {
			c.span(o, room, sp)
		}
	}
}

// before is the latest span that began before line i.
func (s *stay) before(i int) *span {
	var last *span
	for _, sp := range s.spans {
		if sp.line < i {
			last = sp
		}
	}
	return last
}

// event judges one event that the owner saw in a span.
func (c *check) event(o *owner, st *stay, sp *span, e *wire.RoomEvent, whispers map[string]bool) {
	find := func(f Fault, note string, args ...any) {
		c.find(f, o.who, e.Room, sp.epoch, e.Seq, idOf(e), note, args...)
	}
	c.origin(o.who, sp.epoch, e)
	own := e.From.Client == sp.client
	switch {
	case own && e.Kind == wire.KindMessage, own && e.Kind == wire.KindJoin:
		find(Echoed, "its own %s", e.Kind)
	case own && e.Kind == wire.KindLeave && (e.Reason == wire.LeftByChoice || e.Reason == wire.LeftLost):
		find(Echoed, "its own leave (%s)", e.Reason)
	case !reaches(e.To, sp.user, sp.client):
		find(Misaddressed, "addressed to %s", address(e.To))
	}
	if e.Seq == 0 {
		id := idOf(e)
		if whispers[id] {
			find(Doubled, "an ephemeral message twice")
		}
		whispers[id] = true
		return
	}
	if there := c.books[e.Room].epochs[sp.epoch][e.Seq]; there != nil && fingerprint(there) != fingerprint(e) {
		find(Differs, "seen as %s; others have %s", fingerprint(e), fingerprint(there))
	}
	switch {
	case sp.seen[e.Seq]:
		find(Doubled, "seen twice")
	case e.Seq <= sp.start && st.saw(sp.epoch, e.Seq):
		find(Doubled, "seen again after a break at %d", sp.start)
	case e.Seq <= sp.start:
		find(Swapped, "before the position %d from which it was to start", sp.start)
	case e.Seq < sp.last:
		find(Swapped, "after %d", sp.last)
	}
	sp.seen[e.Seq] = true
	sp.last = max(sp.last, e.Seq)
}

// saw says whether any span of the stay has seen the entry.
func (s *stay) saw(epoch string, seq uint64) bool {
	return slices.ContainsFunc(s.spans, func(sp *span) bool { return sp.epoch == epoch && sp.seen[seq] })
}

// span demands everything between its start and its end that was for its
// owner. A broken span ends with the last event seen; one that is open at the
// end reaches to the room's head.
func (c *check) span(o *owner, room string, sp *span) {
	b := c.book(room)
	end := sp.last
	if sp.closed < 0 && b.final != nil {
		if sp.epoch != b.final.Epoch {
			c.find(Behind, o.who, room, sp.epoch, sp.last, "", "the room is in epoch %s", b.final.Epoch)
		} else {
			end = max(end, b.final.Head)
		}
	}
	page := b.epochs[sp.epoch]
	for _, seq := range slices.Sorted(maps.Keys(page)) {
		e := page[seq]
		if seq <= sp.start || seq > end || sp.seen[seq] || e.From.Client == sp.client || !reaches(e.To, sp.user, sp.client) {
			continue
		}
		c.find(LostMessage, o.who, room, sp.epoch, seq, idOf(e), "a %s from %s, never seen (span from %d to %d)", e.Kind, member(e.From), sp.start, end)
	}
}
