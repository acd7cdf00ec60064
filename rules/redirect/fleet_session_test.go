package redirect_test

import (
	"slices"
	"time"

	"godwit/rules/redirect"
)

// session is one attachment of a session to a socket at a node.
type session struct {
	n       *node
	k       *socket
	c       *client // who it is; not what its client knows
	gen     int
	seats   []*seat
	over    bool // another socket has the session, or it has ended: every request answers moved
	dropped bool

	source redirect.Source
	offer  *offer
	came   *redirect.Target
	from   *node // where came is from
}

// Why a socket ends.
const (
	closeBye      = 1000
	closeLost     = 1006
	closeAway     = 1012
	closeMoved    = 4100
	closeReplaced = 4101
	closeGone     = 4301
)

// position is how far a client has come in a room.
type position struct {
	room  int
	epoch string
	seq   uint64
}

// roomView is a room in a session object.
type roomView struct {
	view
	room      int
	recovered bool
	start     uint64
}

// login is the answer to a first request.
type login struct {
	err   string // "" is none
	gen   int
	n     *node
	rooms []roomView
}

// hello is a new session.
func (n *node) hello(k *socket) {
	if n.fenced() {
		k.refuseLogin("unavailable")
		return
	}
	st, c := n.f.store, k.c
	c.hellos++
	gen := c.hellos
	n.call(nil, func() { st.create(c, n, gen) }, func(ok bool) {
		if !ok {
			k.refuseLogin("unavailable")
			return
		}
		s := &session{n: n, k: k, c: c, gen: gen}
		n.put(s)
		k.welcome(s, login{gen: gen, n: n})
	})
}

// resume and handover take a session over.
func (n *node) resume(k *socket, since []position) {
	if n.fenced() {
		k.refuseLogin("unavailable")
		return
	}
	n.take(k, since, "", nil, func() claimed { return n.f.store.claim(k.c, n) })
}

// ticket is an offer in a client's hands.
type ticket struct {
	id      string
	gen     int
	source  *node
	target  *node // nil: any
	expires time.Duration
}

func (n *node) handover(k *socket, t ticket, since []position) {
	switch {
	case t.target != nil && t.target != n:
		k.refuseLogin("wrong_audience")
	case n.f.now+n.skew >= t.expires:
		k.refuseLogin("expired")
	case t.source == n:
		k.refuseLogin("same_node")
	case n.draining || n.fenced():
		k.refuseLogin("capacity")
	default:
		n.take(k, since, t.id, t.source, func() claimed { return n.f.store.handover(k.c, t.id, t.gen, n) })
	}
}

// take hears the rooms, then claims, makes the gen known, and only then answers.
func (n *node) take(k *socket, since []position, offer string, source *node, claim func() claimed) {
	st, c := n.f.store, k.c
	s := &session{n: n, k: k, c: c}
	fail := func(why string) {
		s.over = true
		s.drop()
		k.refuseLogin(why)
	}
	lost := func() {
		n.detach(c, s.gen)
		fail("unavailable")
	}
	var in []int
	there := false
	attach := func() { // after the claim
		left := len(s.seats) + 1
		views := make([]roomView, len(s.seats))
		failed := false
		done := func() {
			if left--; left > 0 {
				return
			}
			if failed {
				lost()
				return
			}
			views = slices.DeleteFunc(views, func(v roomView) bool { return v.how != "ok" })
			n.span(s, views, since, offer != "", lost)
		}
		for i, at := range slices.Clone(s.seats) {
			room := at.r.log.room
			s.attach(room, func(v view, ok bool) {
				views[i] = roomView{view: v, room: room}
				switch {
				case !ok || v.how == "moved":
					failed = true
				case v.how == "not_member": // a join that did not come so far
					s.stand(at)
					n.call(nil, func() { st.exit(c, room) }, func(ok bool) {
						failed = failed || !ok
						done()
					})
					return
				}
				done()
			})
		}
		done()
	}
	took := func(got claimed) {
		s.gen = got.gen
		if offer != "" {
			s.came, s.from = n.taken(offer), source
		}
		if old := n.hub[c]; old != nil {
			if old.gen >= s.gen {
				fail("moved")
				return
			}
			old.quit(closeReplaced)
		}
		n.put(s)
		if got.prev != n && got.live {
			prev := got.prev
			n.tell(prev, func() {
				if old := prev.hub[c]; old != nil {
					if offer != "" {
						old.hear(offer, false)
					} else {
						old.look()
					}
				}
			})
		}
		n.follow(s, got.room, attach)
	}
	n.call(nil, func() {
		if r := st.find(c); r != nil && r.state != "ending" {
			there, in = true, slices.Clone(r.rooms)
		}
	}, func(ok bool) {
		switch {
		case !ok:
			fail("unavailable")
		case !there:
			fail("no_session")
		default:
			n.follow(s, in, func() {
				var got claimed
				n.call(nil, func() { got = claim() }, func(ok bool) {
					switch {
					case !ok:
						fail("unavailable")
					case got.how != "ok":
						fail(got.how)
					default:
						took(got)
					}
				})
			})
		}
	})
}

// follow gives a session its seats, and waits until the node hears the rooms.
func (n *node) follow(s *session, in []int, then func()) {
	left := 1
	done := func() {
		if left--; left == 0 && !n.dead {
			then()
		}
	}
	for _, i := range in {
		if s.seat(i) != nil {
			continue
		}
		left++
		s.seats = append(s.seats, nil)
		at := &seat{s: s}
		s.seats[len(s.seats)-1] = at
		at.r = &room{log: n.f.store.rooms[i]} // until it is known
		at.r = n.open(i, done)
	}
	done()
}

// span decides from where each room goes on, and answers.
func (n *node) span(s *session, views []roomView, since []position, moved bool, lost func()) {
	st := n.f.store
	n.call(nil, func() {
		for i := range views {
			v := &views[i]
			v.start = v.seq
			at := slices.IndexFunc(since, func(p position) bool { return p.room == v.room })
			if at < 0 || since[at].epoch != v.epoch || since[at].seq > v.seq {
				continue
			}
			from := max(since[at].seq, v.joined)
			if l := st.rooms[v.room]; from == v.seq || l.first <= from+1 {
				v.recovered, v.start = true, from
			}
		}
	}, func(ok bool) {
		if !ok {
			lost()
			return
		}
		if n.hub[s.c] != s || s.dropped {
			return // replaced, or its socket has gone
		}
		if s.k.welcome(s, login{gen: s.gen, n: n, rooms: views}); s.dropped {
			return
		}
		for i, v := range views {
			at := s.seats[i]
			if moved && n.f.bugs.fromNow {
				v.start = v.seq
			}
			at.epoch, at.after, at.head, at.joined = v.epoch, v.start, v.seq, v.joined
			if !at.r.sit(at, v.start, v.seq) {
				at.replay()
			}
		}
	})
}

func (n *node) put(s *session) {
	n.remove(n.hub[s.c])
	n.hub[s.c] = s
	n.seats = append(n.seats, s)
	s.k.s = s
}

// remove takes exactly this session out of the hub.
func (n *node) remove(s *session) {
	if s != nil && n.hub[s.c] == s {
		delete(n.hub, s.c)
		n.seats = slices.DeleteFunc(n.seats, func(o *session) bool { return o == s })
	}
}

func (s *session) seat(room int) *seat {
	for _, at := range s.seats {
		if at.r.log.room == room {
			return at
		}
	}
	return nil
}

// attach makes the session's gen known to a room.
func (s *session) attach(room int, then func(v view, ok bool)) {
	var v view
	gen := s.gen
	s.n.call(nil, func() { v = s.n.f.store.attach(s.c, gen, room) }, func(ok bool) { then(v, ok) })
}

// join is room.join.
func (s *session) join(i int, answer func(v view, err string)) {
	n := s.n
	switch {
	case s.over:
		answer(view{}, "moved")
		return
	case n.fenced():
		answer(view{}, "unavailable")
		return
	}
	gen, st := s.gen, n.f.store
	n.follow(s, []int{i}, func() { // which may take a while
		var how string
		n.call(nil, func() { how = st.enter(s.c, gen, i) }, func(ok bool) {
			if !ok || how != "ok" {
				answer(view{}, map[bool]string{true: "moved", false: "unavailable"}[ok])
				return
			}
			var v view
			n.call(nil, func() { v = st.join(s.c, gen, i) }, func(ok bool) {
				at := s.seat(i)
				switch {
				case !ok:
					answer(view{}, "unavailable")
				case v.how == "moved" || v.how == "gone" || at == nil || s.dropped:
					answer(view{}, "moved") // the record is another's
				default:
					answer(v, "")
					if at.live || at.epoch != "" {
						return // joined again
					}
					at.epoch, at.after, at.head, at.joined = v.epoch, v.seq, v.seq, v.joined
					if !at.r.sit(at, v.seq, v.seq) {
						at.replay()
					}
				}
			})
		})
	})
}

// send is room.send.
func (s *session) send(i int, m said, answer func(outcome)) {
	n := s.n
	at := s.seat(i)
	switch {
	case s.over:
		answer(outcome{how: "moved"})
		return
	case n.fenced():
		answer(outcome{how: "unavailable"})
		return
	case at == nil:
		answer(outcome{how: "not_member"})
		return
	}
	gen := s.gen
	var out outcome
	n.call(&at.r.sends, func() { out = n.f.store.send(s, gen, i, m) }, func(ok bool) {
		if !ok {
			out = outcome{how: "unavailable"}
		}
		if out.how == "moved" {
			s.suspect()
		}
		answer(out)
	})
}

func (s *session) tellReset(at *seat, v view) {
	k, i := s.k, at.r.log.room
	k.toClient(func() { s.c.reset(k, i, v) })
}

// drop gives up what the attachment holds; the session goes on, detached,
// unless it is over.
func (s *session) drop() {
	if s.dropped {
		return
	}
	s.dropped = true
	for len(s.seats) > 0 {
		s.stand(s.seats[0])
	}
	s.n.remove(s)
	if s.offer != nil {
		s.offer.settle("")
	}
	if !s.over {
		s.over = true
		s.n.detach(s.c, s.gen)
	}
}

// stand gives a seat up.
func (s *session) stand(at *seat) {
	if i := slices.Index(s.seats, at); i >= 0 {
		s.seats = slices.Delete(s.seats, i, i+1)
		at.gone = true
		at.r.stand(at)
		at.r.close()
	}
}

// quit closes the socket of a session that is over.
func (s *session) quit(code int) {
	s.over = true
	s.n.remove(s)
	s.k.closeByNode(code)
}

func (s *session) sayBye(spread time.Duration) {
	k, after := s.k, s.n.f.between(0, max(spread, 1))
	k.toClient(func() { s.c.pause = after })
	k.closeByNode(closeAway)
}

// leave is the client's bye.
func (s *session) leave() {
	if s.over {
		k := s.k
		k.toClient(func() { s.c.fencedAt(k) })
		return
	}
	s.n.end(s.c, s.n, s.gen, "left")
	s.quit(closeBye)
}

// suspect has it looked at whether the session still lives here, if that is
// not an offer's affair.
func (s *session) suspect() {
	if !s.doubt() {
		s.look()
	}
}

func (s *session) look() { s.lookThen(func() {}) }

func (s *session) lookThen(then func()) {
	n := s.n
	if n.hub[s.c] != s {
		then()
		return
	}
	how, gen, before := "", 0, s.gen
	n.call(nil, func() { how, gen = n.f.store.retake(s.c, n, before) }, func(ok bool) {
		defer then()
		switch {
		case !ok:
			n.later(200*time.Millisecond, s.look)
		case how == "taken":
			s.taken(gen)
		case how == "moved" && s.doubt():
		case n.hub[s.c] != s:
		case how == "moved":
			s.quit(closeReplaced)
		case how == "gone":
			s.quit(closeGone)
		}
	})
}

// taken makes the gen known that the session was taken back with.
func (s *session) taken(gen int) {
	s.gen = gen
	s.n.f.count("session taken back")
	if s.n.hub[s.c] != s { // its socket dropped meanwhile
		s.n.detach(s.c, gen)
		return
	}
	for _, at := range s.seats {
		s.attach(at.r.log.room, func(_ view, ok bool) {
			if !ok {
				s.n.later(200*time.Millisecond, s.look)
			}
		})
	}
}
