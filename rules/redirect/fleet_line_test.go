package redirect_test

import (
	"slices"
	"time"
)

// inRoom is a client's membership: how far it has come, and what it sends.
type inRoom struct {
	room   int
	member bool
	pos    position
	line   sends
}

func newInRoom(room int) *inRoom { return &inRoom{room: room} }

func (c *client) room(i int) *inRoom {
	for _, r := range c.rooms {
		if r.room == i {
			return r
		}
	}
	return nil
}

func (c *client) positions() []position {
	var out []position
	for _, r := range c.rooms {
		if r.member {
			out = append(out, r.pos)
		}
	}
	return out
}

// joinRest joins the rooms that the client is not in yet.
func (c *client) joinRest() {
	k := c.k
	for _, r := range c.rooms {
		if r.member {
			continue
		}
		k.toNode(func() {
			k.s.join(r.room, func(v view, err string) {
				k.toClient(func() {
					switch {
					case k != c.k || r.member:
					case err == "moved":
						c.fencedAt(k)
					case err != "":
						c.f.after(200*time.Millisecond, func() {
							if k == c.k {
								c.joinRest()
							}
						})
					default:
						c.enter(r, v)
						c.joinRest()
						c.pump()
					}
				})
			})
		})
		return
	}
	c.ready = true
}

func (c *client) enter(r *inRoom, v view) {
	r.member = true
	r.pos = position{r.room, v.epoch, v.seq}
	r.line.restart(v.cseq + 1)
	c.f.truth.entered(c, r.room, v.seq)
	c.tell("enters room %d at %d", r.room, v.seq)
}

// resumed compares what a node says of the session's rooms with what the client
// knows. old is the socket that went on meanwhile, if one did.
func (c *client) resumed(got login, old *socket) {
	for _, v := range got.rooms {
		r := c.room(v.room)
		if !r.member {
			c.enter(r, v.view)
			continue
		}
		passed := old != nil && r.pos.epoch == v.epoch && r.pos.seq >= v.seq
		if !v.recovered && !passed {
			c.tell("room %d is not recovered, and goes on at %d", r.room, v.seq)
			c.f.truth.broken(c, r.room, c.lastTold(r.room), v.seq, false)
			r.pos = position{r.room, v.epoch, v.seq}
			if old != nil {
				old.silence(r.room)
			}
		}
		r.line.countFrom(v.cseq + 1)
	}
}

// lastTold is the position in a room that the client told last.
func (c *client) lastTold(room int) uint64 {
	for _, p := range c.told {
		if p.room == room {
			return p.seq
		}
	}
	return 0
}

// silence has what a socket still tells of a room not heard.
func (k *socket) silence(room int) {
	if k.silent == nil {
		k.silent = make(map[int]bool)
	}
	k.silent[room] = true
}

// event takes one event of a room.
func (c *client) event(k *socket, e *entry, epoch string) {
	r := c.room(e.room)
	if c.gone || r == nil || !r.member || k != c.k && k != c.old || k.silent[e.room] || epoch != r.pos.epoch {
		return
	}
	if e.Seq <= r.pos.seq && !c.f.bugs.noFilter {
		return
	}
	c.tell("room %d: %d (%s), by %s", e.room, e.Seq, e.kind, k.n.name)
	r.pos.seq = max(r.pos.seq, e.Seq)
	c.f.truth.took(c, e)
}

// reset is a room that goes on elsewhere.
func (c *client) reset(k *socket, room int, v view) {
	r := c.room(room)
	if k != c.k {
		k.silence(room)
		return
	}
	if c.gone || !r.member {
		return
	}
	r.line.countFrom(v.cseq + 1)
	defer c.pump()
	if v.epoch == r.pos.epoch && v.seq <= r.pos.seq {
		return
	}
	c.tell("room %d is reset to %d", room, v.seq)
	c.f.truth.broken(c, room, r.pos.seq, v.seq, true)
	r.pos = position{room, v.epoch, v.seq}
	if c.old != nil {
		c.old.silence(room)
	}
}

// said is one send.
type said struct {
	id       int
	cseq     uint64
	toUser   *string
	toClient *uint32
}

type send struct {
	said
	try      int
	inflight bool
	settled  bool
}

// sends are those of one membership, go-back-N as client/line.go has it.
type sends struct {
	queue     []*send
	numbered  int
	inflight  int
	next      uint64
	expect    uint64
	notBefore time.Duration
}

const window = 8

func (l *sends) restart(next uint64) { l.numbered, l.next, l.expect = 0, next, 0 }

func (l *sends) countFrom(next uint64) { l.expect, l.notBefore = next, 0 }

func (l *sends) take(now time.Duration) []*send {
	repeat := l.numbered > l.inflight || l.expect != 0
	if len(l.queue) == 0 && l.expect == 0 || now < l.notBefore || repeat && l.inflight > 0 {
		return nil
	}
	if repeat && l.expect != 0 {
		n := l.expect
		for _, s := range l.queue[:l.numbered] {
			if s.cseq >= l.expect {
				s.cseq = n
				n++
			}
		}
		l.next, l.expect = n, 0
	}
	from, to := l.inflight, min(window, len(l.queue))
	if from >= to {
		return nil
	}
	for ; l.numbered < to; l.numbered++ {
		l.queue[l.numbered].cseq = l.next
		l.next++
	}
	return slices.Clone(l.queue[from:to])
}

func (l *sends) back(s *send) {
	if s.inflight {
		s.inflight = false
		l.inflight--
	}
}

// recall gives up waiting on a socket that another one has replaced.
func (l *sends) recall() {
	for _, s := range l.queue {
		if s.inflight {
			l.back(s)
			s.try++
		}
	}
}

func (l *sends) settle(s *send) {
	s.settled = true
	if i := slices.Index(l.queue, s); i >= 0 {
		l.queue = slices.Delete(l.queue, i, i+1)
		if i < l.numbered {
			l.numbered--
		}
	}
}

// talk sends something now and then.
func (c *client) talk() {
	f := c.f
	if f.calm || c.gone || c.closing {
		return
	}
	f.after(f.between(100*time.Millisecond, 2*time.Second), c.talk)
	r := c.rooms[f.dice.IntN(len(c.rooms))]
	for range 1 + f.dice.IntN(3) {
		c.say(r)
	}
}

// say puts one send on its way, to everybody or to somebody.
func (c *client) say(r *inRoom) {
	f := c.f
	if !r.member || len(r.line.queue) >= 100 {
		return
	}
	f.ids++
	m := said{id: f.ids}
	other := f.all[f.dice.IntN(len(f.all))]
	switch f.dice.IntN(6) {
	case 0:
		m.toUser = &other.user
	case 1:
		m.toClient = &other.number
	case 2:
		m.toUser, m.toClient = &other.user, &other.number
	}
	r.line.queue = append(r.line.queue, &send{said: m})
	f.truth.meant(m.id)
	c.pump()
}

// pump writes what may go out now.
func (c *client) pump() {
	f := c.f
	if c.k == nil || c.k.ended || c.gone {
		return
	}
	for _, r := range c.rooms {
		if !r.member {
			continue
		}
		l, k := &r.line, c.k
		for _, s := range l.take(f.now) {
			s.try++
			s.inflight = true
			l.inflight++
			try, m := s.try, s.said
			c.tell("sends %d to room %d as %d at %s", m.id, r.room, m.cseq, k.n.name)
			answered := false
			answer := func(o outcome, lost bool) {
				if !answered {
					answered = true
					c.answered(k, r, s, try, m, o, lost)
				}
			}
			k.asks = append(k.asks, answer)
			k.toNode(func() {
				k.s.send(r.room, m, func(o outcome) { k.toClient(func() { answer(o, false) }) })
			})
		}
		if len(l.queue) > 0 && f.now < l.notBefore {
			f.after(l.notBefore-f.now, c.pump)
		}
	}
	if len(c.k.asks) > 1000 {
		c.k.asks = slices.Delete(c.k.asks, 0, 500) // answered long ago
	}
}

// answered takes the outcome of one try.
func (c *client) answered(k *socket, r *inRoom, s *send, try int, m said, o outcome, lost bool) {
	l := &r.line
	late := try != s.try
	c.tell("send %d as %d: %s at %d, expect %d; lost %t, late %t", m.id, m.cseq, o.how, o.seq, o.expect, lost, late)
	if !late {
		l.back(s)
	}
	switch {
	case s.settled || c.gone:
		return
	case !lost && (o.how == "ok" || o.how == "dup"):
		l.back(s)
		s.try++
		if l.expect != 0 {
			l.expect = max(l.expect, m.cseq+1)
		}
		c.f.truth.acknowledged(c, m.id, o)
		l.settle(s)
	case late:
	case lost:
	case o.how == "gap":
		l.expect = o.expect
	case o.how == "moved":
		l.notBefore = c.f.now + 5*time.Second
		c.fencedAt(k)
	case o.how == "unavailable":
		l.notBefore = c.f.now + c.f.between(50*time.Millisecond, 500*time.Millisecond)
	case o.how == "no_recipient":
		if l.numbered > 0 && l.queue[l.numbered-1] == s {
			l.next = s.cseq
		}
		c.f.truth.declined(c, m.id)
		l.settle(s)
	default:
		c.f.wrong(c, "a send to room %d answers %s", r.room, o.how)
	}
	c.pump()
}
