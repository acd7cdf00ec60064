package redirect_test

import (
	"fmt"
	"slices"
	"time"

	"godwit/rules/address"
	"godwit/rules/redirect"
)

// store is Redis and its scripts: each method is one atomic step, at the moment
// at which a node's message reaches it.
type store struct {
	f       *fleet
	away    bool
	rooms   []*log
	records []*record // of sessions that have not ended
}

// record is a session's.
type record struct {
	c       *client
	owner   *node
	gen     int
	state   string // live, detached, ending
	reason  string // ending
	until   time.Duration
	retaken int
	rooms   []int
	moves   []redirect.Move
	offer   offerRecord
}

// offerRecord is the one commit point of a redirect.
type offerRecord struct {
	id     string
	gen    int
	source *node
	target *node // nil: any but the source
	until  time.Duration
	state  string
}

// entry is one of a room's log.
type entry struct {
	address.Entry
	room int
	id   int // of a send
	kind string
}

// log is a room.
type log struct {
	room    int
	epoch   string
	all     []*entry // what truly happened; seq i+1
	first   uint64   // the oldest that is kept
	members map[*client]*member
	subs    []*node
}

type member struct {
	gen    int
	cseq   uint64
	joined uint64
	done   map[uint64]uint64 // the answers to its last numbers
}

func newStore(f *fleet) *store {
	s := &store{f: f}
	for room := range rooms {
		s.rooms = append(s.rooms, &log{room: room, epoch: fmt.Sprint("e", room), first: 1, members: make(map[*client]*member)})
	}
	return s
}

func (l *log) head() uint64 { return uint64(len(l.all)) }

// read is what the log holds from a seq on, at most n.
func (l *log) read(from uint64, n int) []*entry {
	from = max(from, l.first)
	if from > l.head() {
		return nil
	}
	return l.all[from-1 : min(from-1+uint64(n), l.head())]
}

func (s *store) find(c *client) *record {
	for _, r := range s.records {
		if r.c == c {
			return r
		}
	}
	return nil
}

// create writes a session's record. A client whose hello was not answered says
// another, which makes another session; here the later one stands in its place,
// for the first is in no room.
func (s *store) create(c *client, owner *node, gen int) {
	if r := s.find(c); r != nil && r.gen > gen {
		return
	}
	s.records = slices.DeleteFunc(s.records, func(r *record) bool { return r.c == c })
	s.records = append(s.records, &record{c: c, owner: owner, gen: gen, state: "live"})
}

// enter notes that a session is about to join.
func (s *store) enter(c *client, gen, room int) string {
	r := s.find(c)
	switch {
	case r == nil || r.state == "ending":
		return "gone"
	case r.gen > gen || r.state != "live":
		return "moved"
	}
	if !slices.Contains(r.rooms, room) {
		r.rooms = append(r.rooms, room)
	}
	return "ok"
}

// exit takes a room off a session's record.
func (s *store) exit(c *client, room int) {
	if r := s.find(c); r != nil {
		r.rooms = slices.DeleteFunc(r.rooms, func(i int) bool { return i == room })
	}
}

// view is how a room stands for a member.
type view struct {
	how    string // joined, again, ok, moved, gone, not_member
	epoch  string
	seq    uint64
	cseq   uint64
	joined uint64
}

func (s *store) join(c *client, gen, room int) view {
	l := s.rooms[room]
	if c.entombed {
		return view{how: "gone"}
	}
	how, m := "again", l.members[c]
	if m != nil {
		if m.gen > gen {
			return view{how: "moved"}
		}
		m.gen = gen
	} else {
		how = "joined"
		m = &member{gen: gen, joined: l.head() + 1, done: make(map[uint64]uint64)}
		l.members[c] = m
		s.append(l, &entry{Entry: address.Entry{Client: c.number, User: c.user}, kind: "join"}, c)
	}
	return view{how, l.epoch, l.head(), m.cseq, m.joined}
}

func (s *store) attach(c *client, gen, room int) view {
	l := s.rooms[room]
	m := l.members[c]
	switch {
	case m == nil:
		return view{how: "not_member"}
	case m.gen > gen:
		return view{how: "moved"}
	}
	m.gen = gen
	s.f.truth.attached(c, room, gen)
	return view{"ok", l.epoch, l.head(), m.cseq, m.joined}
}

// outcome is what a send comes to.
type outcome struct {
	how    string // ok, dup, gap, moved, not_member, no_recipient; unavailable
	seq    uint64
	expect uint64
}

func (s *store) send(w *session, gen, room int, m said) outcome {
	l, c := s.rooms[room], w.c
	row := l.members[c]
	if row == nil {
		return outcome{how: "not_member"}
	}
	if !s.f.bugs.noFence {
		switch {
		case row.gen > gen:
			return outcome{how: "moved"}
		case m.cseq <= row.cseq:
			return outcome{how: "dup", seq: row.done[m.cseq]}
		case m.cseq > row.cseq+1:
			return outcome{how: "gap", expect: row.cseq + 1}
		}
	}
	if !l.reaches(m, c) {
		return outcome{how: "no_recipient"}
	}
	s.f.truth.wrote(w, gen, room)
	e := &entry{Entry: address.Entry{Message: true, Client: c.number, User: c.user, ToUser: m.toUser, ToClient: m.toClient}, id: m.id, kind: "message"}
	s.append(l, e, c)
	row.cseq = max(row.cseq, m.cseq)
	row.done[m.cseq] = e.Seq
	delete(row.done, m.cseq-64)
	return outcome{how: "ok", seq: e.Seq}
}

// reaches says whether anybody is there to whom a send is addressed.
func (l *log) reaches(m said, from *client) bool {
	if m.toUser == nil && m.toClient == nil {
		return true
	}
	for c := range l.members { // any of them will do
		if c != from && (m.toUser == nil || *m.toUser == c.user) && (m.toClient == nil || *m.toClient == c.number) {
			return true
		}
	}
	return false
}

// append is the one way in which a log grows.
func (s *store) append(l *log, e *entry, by *client) {
	e.room, e.Seq = l.room, l.head()+1
	l.all = append(l.all, e)
	if keep := uint64(s.f.keeps); l.head() > keep && l.head()%16 == 0 {
		l.first = l.head() - keep + 1
	}
	s.f.truth.appended(e, by)
	for _, n := range l.subs {
		s.publish(n, l.epoch, e)
	}
}

// publish has a node hear of an entry, if nothing comes between.
func (s *store) publish(n *node, epoch string, e *entry) {
	f := s.f
	if n.parted || f.lost() {
		return
	}
	hear := func() {
		if r := n.rooms[e.room]; r != nil {
			r.heard(epoch, e)
		}
	}
	f.in(f.delay(), &n.heardAt, func() { n.do(hear) })
	if f.lost() { // and once more, late
		n.later(f.between(0, 300*time.Millisecond), hear)
	}
}

func (s *store) subscribe(n *node, room int) {
	if l := s.rooms[room]; !slices.Contains(l.subs, n) && !n.dead {
		l.subs = append(l.subs, n)
	}
}

func (s *store) unsubscribe(n *node, room int) {
	l := s.rooms[room]
	l.subs = slices.DeleteFunc(l.subs, func(o *node) bool { return o == n })
}

// writeOffer is offer.lua.
func (s *store) writeOffer(c *client, o offerRecord, life time.Duration) string {
	r := s.find(c)
	switch {
	case r == nil || r.state == "ending":
		return "gone"
	case r.owner != o.source || r.gen != o.gen || r.state != "live":
		return "moved"
	case r.offer.state == "offered" && r.offer.id != o.id && r.offer.until > s.f.now:
		return "busy"
	}
	o.until, o.state = s.f.now+life, "offered"
	r.offer = o
	return "ok"
}

// claimed is what a session that was taken over brings.
type claimed struct {
	how  string
	gen  int
	prev *node
	live bool
	room []int
}

// handover is the one commit of a redirect.
func (s *store) handover(c *client, id string, gen int, n *node) claimed {
	r := s.find(c)
	if r == nil || r.state == "ending" {
		return claimed{how: "no_session"}
	}
	o := &r.offer
	switch {
	case o.id != id:
		return claimed{how: "cancelled"}
	case o.state == "committed":
		return claimed{how: "used"}
	case o.state == "expired":
		return claimed{how: "expired"}
	case o.state != "offered":
		return claimed{how: "cancelled"}
	case o.until <= s.f.now:
		return claimed{how: "expired"}
	case o.source == n:
		return claimed{how: "same_node"}
	case o.target != nil && o.target != n:
		return claimed{how: "wrong_audience"}
	case r.gen != gen || o.gen != gen:
		return claimed{how: "gen_mismatch"}
	}
	o.state = "committed"
	s.f.truth.committed(c, id)
	r.moves = append([]redirect.Move{{At: s.f.clock(), From: r.owner.name}}, r.moves[:min(len(r.moves), 3)]...)
	return s.take(r, n)
}

// claim is a resume's.
func (s *store) claim(c *client, n *node) claimed {
	r := s.find(c)
	if r == nil || r.state == "ending" {
		return claimed{how: "no_session"}
	}
	return s.take(r, n)
}

func (s *store) take(r *record, n *node) claimed {
	out := claimed{"ok", r.gen + 1, r.owner, r.state == "live", slices.Clone(r.rooms)}
	r.gen++
	r.owner, r.state, r.retaken = n, "live", 0
	return out
}

// withdraw ends an offer that stands, and tells what has become of it; as
// "offered" it only looks.
func (s *store) withdraw(c *client, id, become string) string {
	r := s.find(c)
	if r == nil || r.offer.id != id {
		return "expired"
	}
	if r.offer.state == "offered" {
		r.offer.state = become
	}
	return r.offer.state
}

// detach notes that a socket is gone; gen 0 is any.
func (s *store) detach(c *client, owner *node, gen int) {
	r := s.find(c)
	if r == nil || r.state != "live" || r.owner != owner || gen != 0 && r.gen != gen {
		return
	}
	r.state, r.until = "detached", s.f.now+grace
}

// retake is a node's look at a session that it holds.
func (s *store) retake(c *client, owner *node, gen int) (string, int) {
	r := s.find(c)
	switch {
	case r == nil || r.state == "ending":
		return "gone", 0
	case r.owner != owner:
		return "moved", 0
	case r.state == "live" && r.retaken != 0 && r.retaken == gen:
		return "taken", r.gen
	case r.gen != gen:
		return "moved", 0
	case r.state == "live":
		return "kept", gen
	}
	r.gen++
	r.state, r.retaken = "live", gen
	return "taken", r.gen
}

// ending begins the end of a session, or finds it begun; by its owner, or
// because its grace is over (owner nil). It names the rooms to leave.
func (s *store) ending(c *client, owner *node, gen int, reason string) ([]int, bool) {
	r := s.find(c)
	if r == nil {
		return nil, false
	}
	if r.state != "ending" {
		if owner == nil && (r.state == "live" || r.until > s.f.now) || owner != nil && (r.owner != owner || r.gen != gen) {
			return nil, false
		}
		r.state, r.reason = "ending", reason
	}
	return slices.Clone(r.rooms), true
}

// leave takes a client out of a room, with one entry if it was in.
func (s *store) leave(c *client, room int) {
	l := s.rooms[room]
	c.entombed = true
	if l.members[c] == nil {
		return
	}
	delete(l.members, c)
	s.append(l, &entry{Entry: address.Entry{Client: c.number, User: c.user, Leave: s.find(c).reason}, kind: "leave"}, c)
}

func (s *store) remove(c *client) {
	s.records = slices.DeleteFunc(s.records, func(r *record) bool { return r.c == c && r.state == "ending" })
}

// of are the sessions that a node owns and that are live.
func (s *store) of(n *node) []*record {
	var out []*record
	for _, r := range s.records {
		if r.owner == n && r.state == "live" {
			out = append(out, r)
		}
	}
	return out
}
