package ledger

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"godwit/wire"
)

// Check lays the ledgers beside each other and beside the rooms' logs. A room
// that logs does not name is judged by what its members saw alone.
func Check(ledgers []*Ledger, logs map[string]Log) Report {
	c := &check{
		clients: map[uint32]*owner{},
		sends:   map[string]*sending{},
		books:   map[string]*book{},
	}
	for room, log := range logs {
		c.book(room).file(log)
	}
	for _, l := range ledgers {
		c.read(l)
	}
	for _, o := range c.owners {
		c.settle(o)
	}
	for _, o := range c.owners {
		c.walk(o)
	}
	c.entries(logs)
	c.doubles()
	for _, o := range c.owners {
		c.order(o)
		c.denials(o)
	}
	slices.SortFunc(c.report.Findings, compareFindings)
	return c.report
}

func compareFindings(a, b Finding) int {
	return cmp.Or(cmp.Compare(a.Room, b.Room), cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Seq, b.Seq),
		cmp.Compare(a.Who, b.Who), cmp.Compare(a.Fault, b.Fault))
}

// check is the state of one Check.
type check struct {
	owners  []*owner
	clients map[uint32]*owner
	sends   map[string]*sending
	books   map[string]*book
	report  Report
}

// owner is one ledger, read.
type owner struct {
	who    string
	lines  []line
	rooms  map[string]*stay
	sends  []*sending
	losses map[uint32]int // client -> times it was told that its session is gone, or ended it
}

// stay is an owner's life in one room: its spans, in order.
type stay struct {
	spans []*span
	lefts map[uint32]int // client -> times it left this room, or was told that it is out
}

// at is the stay's span that holds line i, or nil.
func (s *stay) at(i int) *span {
	var in *span
	for _, sp := range s.spans {
		if sp.line <= i && (sp.closed < 0 || i <= sp.closed) {
			in = sp
		}
	}
	return in
}

// span is an unbroken part of a stay.
type span struct {
	epoch  string
	start  uint64
	user   string
	client uint32
	line   int  // where it begins in the ledger
	closed int  // the line that ended it; -1: open at the end
	left   bool // ended by choice: late events still belong to it
	lost   bool // ended by the loss of the session or the membership
	renew  bool // an epoch that the client did not join by itself: the store holds a join of it
	last   uint64
	seen   map[uint64]bool
}

// sending is one message from its sender's view.
type sending struct {
	by        *owner
	id        string
	room      string
	to        *wire.To
	ephemeral bool
	line      int
	end       int // the line of its answer or refusal; -1: none
	answered  bool
	seq       uint64
	refused   wire.Reason
	from      wire.Member
	epochs    []string // where it may stand: the sender's epochs from the sending on
	broken    bool     // a reset, gap or loss befell the sender in this room after the sending
}

// read turns a ledger into spans and sendings, and files what it saw.
func (c *check) read(l *Ledger) {
	o := &owner{who: l.Who, lines: l.copyLines(), rooms: map[string]*stay{}, losses: map[uint32]int{}}
	c.owners = append(c.owners, o)
	var me wire.Member
	open := map[string]*span{} // the latest span of each room; closed >= 0 once it ended
	enter := func(i int, e line) {
		prev := open[e.room]
		live := prev != nil && prev.closed < 0
		if live && e.what == joined && prev.epoch == e.epoch {
			return // joined again: no entry, nothing changes
		}
		if live {
			prev.closed = i
		}
		sp := &span{epoch: e.epoch, start: e.seq, last: e.seq, user: me.User, client: me.Client, line: i, closed: -1, seen: map[uint64]bool{}}
		sp.renew = e.what == joined || prev == nil || prev.epoch != e.epoch
		st := o.room(e.room)
		st.spans = append(st.spans, sp)
		open[e.room] = sp
	}
	leave := func(i int, room string, loss bool) {
		if sp := open[room]; sp != nil && sp.closed < 0 {
			sp.closed, sp.lost = i, loss
		}
	}
	for i, e := range o.lines {
		switch e.what {
		case attached:
			me = wire.Member{User: e.user, Client: e.client}
			c.clients[e.client] = o
		case known:
			if c.clients[e.client] == nil {
				c.clients[e.client] = o
			}
		case joined:
			enter(i, e)
		case reset, gap:
			c.report.Excused++
			enter(i, e)
		case left:
			leave(i, e.room, false)
			if sp := open[e.room]; sp != nil {
				sp.left = true
			}
			o.room(e.room).lefts[me.Client]++
		case lost:
			c.report.Excused++
			if e.room != "" {
				leave(i, e.room, true)
				o.room(e.room).lefts[me.Client]++
				break
			}
			o.losses[me.Client]++
			for room := range open {
				leave(i, room, true)
			}
		case sent:
			s := &sending{by: o, id: e.id, room: e.room, to: e.to, ephemeral: e.ephemeral, line: i, end: -1, from: me}
			o.sends = append(o.sends, s)
			c.sends[e.id] = s
			c.report.Messages++
		case answered:
			if s := c.sends[e.id]; s != nil {
				s.end, s.answered, s.seq = i, true, e.seq
				c.report.Answered++
			}
		case refused:
			if s := c.sends[e.id]; s != nil {
				s.end, s.refused = i, e.reason
			}
		case saw:
			c.report.Seen++
			sp := open[e.room]
			if sp != nil && e.event.Seq != 0 {
				c.book(e.room).add(sp.epoch, e.event)
			}
		}
	}
	for _, s := range o.sends {
		s.locate()
	}
	for _, e := range o.lines {
		if e.what == known && !o.led(e.client) {
			o.losses[e.client] = 1
		}
	}
}

// led says whether the stream of events was ever this device's.
func (o *owner) led(client uint32) bool {
	return slices.ContainsFunc(o.lines, func(e line) bool { return e.what == attached && e.client == client })
}

func (o *owner) room(room string) *stay {
	st := o.rooms[room]
	if st == nil {
		st = &stay{lefts: map[uint32]int{}}
		o.rooms[room] = st
	}
	return st
}

// locate finds where the message may stand.
func (s *sending) locate() {
	st := s.by.rooms[s.room]
	if st == nil {
		return
	}
	for _, sp := range st.spans {
		if sp.closed >= 0 && sp.closed < s.line {
			continue
		}
		if !slices.Contains(s.epochs, sp.epoch) {
			s.epochs = append(s.epochs, sp.epoch)
		}
		if sp.closed >= s.line && !sp.left {
			s.broken = true
		}
	}
}

func (c *check) book(room string) *book {
	b := c.books[room]
	if b == nil {
		b = &book{room: room, epochs: map[string]map[uint64]*wire.RoomEvent{}, places: map[string][]place{}}
		c.books[room] = b
	}
	return b
}

func (c *check) find(f Fault, who, room, epoch string, seq uint64, id, note string, args ...any) {
	c.report.Findings = append(c.report.Findings, Finding{
		Fault: f, Who: who, Room: room, Epoch: epoch, Seq: seq, ID: id, Note: fmt.Sprintf(note, args...),
	})
}

// denials finds refusals that had to be acceptances.
func (c *check) denials(o *owner) {
	for _, s := range o.sends {
		if s.refused == "" {
			continue
		}
		if places := c.books[s.room].where(s.id); len(places) > 0 && !s.broken {
			c.find(Undead, o.who, s.room, places[0].epoch, places[0].seq, s.id, "refused with %s, and stored", s.refused)
		}
		st := o.rooms[s.room]
		if st == nil {
			continue
		}
		from := st.at(s.line)
		if from == nil || st.at(s.end) != from || from.lost {
			continue // an answer may overtake the notice of the loss
		}
		switch s.refused {
		case wire.NotMember, wire.NoSession, wire.Moved, wire.Forbidden, wire.Unauthorized:
			c.find(Denied, o.who, s.room, from.epoch, 0, s.id, "a member was refused with %s", s.refused)
		case wire.NoRecipient:
			if who := c.present(s, from); who != "" {
				c.find(Denied, o.who, s.room, from.epoch, 0, s.id, "no_recipient, but %s was there all the time", who)
			}
		}
	}
}

// present names a device that the message is addressed to, whose join the
// sender had seen when it sent and that never left, or is "".
func (c *check) present(s *sending, from *span) string {
	known := from.start
	for i := from.line; i < s.line; i++ {
		if e := s.by.lines[i]; e.what == saw && e.room == s.room {
			known = max(known, e.event.Seq)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.clients)) {
		st := c.clients[id].rooms[s.room]
		if st == nil || len(st.spans) != 1 || id == from.client {
			continue
		}
		sp := st.spans[0]
		if sp.client == id && sp.closed < 0 && sp.epoch == from.epoch && sp.start <= known && reaches(s.to, sp.user, id) {
			return c.clients[id].who
		}
	}
	return ""
}

// order finds messages of one sender that stand in another order than sent.
func (c *check) order(o *owner) {
	type flow struct{ room, epoch string }
	last := map[flow]*sending{}
	at := map[flow]uint64{}
	for _, s := range o.sends {
		if !s.answered || s.ephemeral {
			continue
		}
		for _, p := range c.books[s.room].where(s.id) {
			f := flow{s.room, p.epoch}
			if p.seq < at[f] {
				c.find(Swapped, o.who, s.room, p.epoch, p.seq, s.id, "sent after %q, and stands before it", last[f].id)
				continue
			}
			at[f], last[f] = p.seq, s
		}
	}
}
