package ledger

import (
	"cmp"
	"maps"
	"slices"

	"godwit/wire"
)

// place is where an entry stands in a room.
type place struct {
	epoch string
	seq   uint64
}

// book is all that is known of a room: its log, and what anybody saw of it.
type book struct {
	room   string
	final  *Log // nil: not known
	epochs map[string]map[uint64]*wire.RoomEvent
	places map[string][]place // message id -> where it stands, by anybody's word
}

// where lists the places of a message; a nil book knows none.
func (b *book) where(id string) []place {
	if b == nil {
		return nil
	}
	return b.places[id]
}

// file takes the room's log for the truth about its epoch.
func (b *book) file(log Log) {
	b.final = &log
	for _, e := range log.Entries {
		b.add(log.Epoch, e)
	}
}

// add files an entry; the first word about a place is the one that later ones
// are compared with.
func (b *book) add(epoch string, e *wire.RoomEvent) {
	page := b.epochs[epoch]
	if page == nil {
		page = map[uint64]*wire.RoomEvent{}
		b.epochs[epoch] = page
	}
	if page[e.Seq] == nil {
		page[e.Seq] = e
	}
	if e.Kind != wire.KindMessage {
		return
	}
	if id, p := idOf(e), (place{epoch, e.Seq}); id != "" && !slices.Contains(b.places[id], p) {
		b.places[id] = append(b.places[id], p)
	}
}

// trimmed says whether the log has forgotten the entry at seq.
func (b *book) trimmed(seq uint64) bool {
	return len(b.final.Entries) == 0 || seq < b.final.Entries[0].Seq
}

// settle holds each answered message against the book. One that stands in no
// known place, but in an epoch that is gone, is put there, so that whoever saw
// past it must have seen it.
func (c *check) settle(o *owner) {
	for _, s := range o.sends {
		if !s.answered || s.ephemeral {
			continue
		}
		b := c.book(s.room)
		places := b.where(s.id)
		if len(places) > 0 {
			if s.seq != 0 && !slices.ContainsFunc(places, func(p place) bool { return p.seq == s.seq }) {
				c.find(Differs, o.who, s.room, places[0].epoch, places[0].seq, s.id, "answered with seq %d, and stands elsewhere", s.seq)
			}
			continue
		}
		var old []string
		for _, e := range s.epochs {
			if b.final == nil || e != b.final.Epoch {
				old = append(old, e)
			}
		}
		switch {
		case len(old) == 0 && b.final != nil && (s.seq == 0 || !b.trimmed(s.seq)):
			c.find(LostMessage, o.who, s.room, b.final.Epoch, s.seq, s.id, "answered, and not in the log")
		case len(old) == 1 && s.seq != 0:
			if there := b.epochs[old[0]][s.seq]; there != nil {
				c.find(LostMessage, o.who, s.room, old[0], s.seq, s.id, "answered, and its place shows %q", idOf(there))
				continue
			}
			page := b.epochs[old[0]]
			if page == nil {
				page = map[uint64]*wire.RoomEvent{}
				b.epochs[old[0]] = page
			}
			page[s.seq] = &wire.RoomEvent{Room: s.room, Seq: s.seq, Kind: wire.KindMessage, From: s.from, To: s.to}
			b.places[s.id] = append(b.places[s.id], place{old[0], s.seq})
		}
	}
}

// origin finds what is wrong with an entry in itself, whoever shows it.
func (c *check) origin(who, epoch string, e *wire.RoomEvent) {
	if e.Kind != wire.KindMessage {
		return
	}
	id := idOf(e)
	s := c.sends[id]
	switch {
	case s == nil:
		c.find(Forged, who, e.Room, epoch, e.Seq, id, "a message that nobody sent, from %s", member(e.From))
	case c.clients[e.From.Client] != s.by || !s.by.was(e.From):
		c.find(Forged, who, e.Room, epoch, e.Seq, id, "sent by %s, shown from %s", s.by.who, member(e.From))
	case s.room != e.Room:
		c.find(Misaddressed, who, e.Room, epoch, e.Seq, id, "sent to room %s", s.room)
	case address(s.to) != address(e.To):
		c.find(Misaddressed, who, e.Room, epoch, e.Seq, id, "sent to %s, shown to %s", address(s.to), address(e.To))
	case s.ephemeral != e.Ephemeral || e.Ephemeral != (e.Seq == 0):
		c.find(Differs, who, e.Room, epoch, e.Seq, id, "sent with ephemeral %t, shown with %t", s.ephemeral, e.Ephemeral)
	}
}

// was says whether the owner has ever been this user's device.
func (o *owner) was(m wire.Member) bool {
	return slices.ContainsFunc(o.lines, func(e line) bool {
		return (e.what == attached || e.what == known) && e.user == m.User && e.client == m.Client
	})
}

// entries holds the logs to being whole, and every known join and leave to
// somebody having made it.
func (c *check) entries(logs map[string]Log) {
	for _, room := range slices.Sorted(maps.Keys(logs)) {
		log := logs[room]
		for i, e := range log.Entries {
			if i > 0 && e.Seq != log.Entries[i-1].Seq+1 {
				c.find(Torn, "log", room, log.Epoch, e.Seq, "", "follows %d", log.Entries[i-1].Seq)
			}
			c.origin("log", log.Epoch, e)
		}
		if n := len(log.Entries); n > 0 && log.Entries[n-1].Seq != log.Head {
			c.find(Torn, "log", room, log.Epoch, log.Head, "", "the last entry is %d", log.Entries[n-1].Seq)
		}
	}
	for _, room := range slices.Sorted(maps.Keys(c.books)) {
		b := c.books[room]
		leaves := map[uint32]int{}
		for _, epoch := range slices.Sorted(maps.Keys(b.epochs)) {
			page := b.epochs[epoch]
			joins := map[uint32]int{}
			for _, seq := range slices.Sorted(maps.Keys(page)) {
				e := page[seq]
				o := c.clients[e.From.Client]
				switch e.Kind {
				case wire.KindJoin:
					joins[e.From.Client]++
					if o == nil || joins[e.From.Client] > o.joins(room, epoch, e.From.Client) {
						c.find(Noise, "log", room, epoch, seq, "", "a join of %s that it did not make", member(e.From))
					}
				case wire.KindLeave:
					leaves[e.From.Client]++
					if o == nil || leaves[e.From.Client] > o.leaves(room, e.From.Client) {
						c.find(Noise, "log", room, epoch, seq, "", "a leave (%s) of %s that it did not make", e.Reason, member(e.From))
					}
				}
			}
		}
	}
}

// joins is how many entries of its joining a device may have in an epoch: its
// own joins, and one where the store rebuilt the room.
func (o *owner) joins(room, epoch string, client uint32) int {
	n := 0
	if st := o.rooms[room]; st != nil {
		for _, sp := range st.spans {
			if sp.client == client && sp.epoch == epoch && sp.renew {
				n++
			}
		}
	}
	if n == 0 && o.losses[client] > 0 {
		n = 1 // rebuilt, and then lost before it was told
	}
	return n
}

func (o *owner) leaves(room string, client uint32) int {
	n := o.losses[client]
	if st := o.rooms[room]; st != nil {
		n += st.lefts[client]
	}
	return n
}

// doubles finds messages that stand in two places. Around a break of the
// sender's session or of the room's epoch an unanswered one may.
func (c *check) doubles() {
	for _, room := range slices.Sorted(maps.Keys(c.books)) {
		b := c.books[room]
		for _, id := range slices.Sorted(maps.Keys(b.places)) {
			places := b.places[id]
			s := c.sends[id]
			if len(places) < 2 || s == nil {
				continue
			}
			slices.SortStableFunc(places, func(x, y place) int {
				if x.epoch == y.epoch {
					return cmp.Compare(x.seq, y.seq)
				}
				return cmp.Compare(s.rank(x.epoch), s.rank(y.epoch))
			})
			again := places[len(places)-1]
			apart := true
			for i, p := range places[1:] {
				one, two := b.epochs[places[i].epoch][places[i].seq], b.epochs[p.epoch][p.seq]
				apart = apart && (places[i].epoch != p.epoch || one.From.Client != two.From.Client)
			}
			if !apart || !s.broken || s.answered && s.seq != 0 && s.seq != again.seq {
				c.find(Doubled, s.by.who, room, again.epoch, again.seq, id, "stands at %v", places)
			}
		}
	}
}

// rank orders the epochs as the sender knew them.
func (s *sending) rank(epoch string) int {
	if i := slices.Index(s.epochs, epoch); i >= 0 {
		return i
	}
	return len(s.epochs)
}
