package redirect_test

import (
	"slices"
	"time"

	"godwit/rules/redirect"
)

// socket is a websocket: what is said on it comes in order, or not at all.
type socket struct {
	f        *fleet
	c        *client
	n        *node
	s        *session // once logged in
	up, down time.Duration
	gone     bool // at the node's end: nothing more is taken from it
	ended    bool // at the client's
	broken   bool // nothing gets through any more
	silent   map[int]bool
	over     func(code int)               // told to the client once
	take     func(s *session, got login)  // the answer to the first request
	asks     []func(o outcome, lost bool) // sends under way
}

func (k *socket) toNode(what func()) {
	k.f.in(k.f.delay(), &k.up, func() {
		if !k.broken {
			k.n.do(func() {
				if !k.gone {
					what()
				}
			})
		}
	})
}

func (k *socket) toClient(what func()) {
	if k.gone {
		return
	}
	k.f.in(k.f.delay(), &k.down, func() {
		if !k.broken && !k.ended {
			what()
		}
	})
}

// cut is the network's doing: both ends learn it by themselves.
func (k *socket) cut() {
	if k.broken {
		return
	}
	k.broken = true
	k.f.after(k.f.delay(), func() { k.end(closeLost) })
	k.n.later(k.f.delay(), k.left)
}

// closeByNode ends it after what was said.
func (k *socket) closeByNode(code int) {
	k.toClient(func() { k.end(code) })
	k.left()
}

// drop is the client's end of it, without a word.
func (k *socket) drop() {
	if k.ended {
		return
	}
	k.ended = true
	k.f.after(k.f.delay(), func() { k.n.do(k.left) })
	k.tellAsks()
}

// end is how the client learns of it.
func (k *socket) end(code int) {
	if !k.ended {
		k.ended = true
		k.over(code)
		k.tellAsks()
	}
}

func (k *socket) tellAsks() {
	asks := k.asks
	k.asks = nil
	for _, ask := range asks {
		ask(outcome{}, true)
	}
}

// left is what follows at the node.
func (k *socket) left() {
	k.gone = true
	k.n.sockets = slices.DeleteFunc(k.n.sockets, func(o *socket) bool { return o == k })
	if k.s != nil {
		k.s.drop()
	}
}

func (k *socket) welcome(s *session, got login) {
	k.s = s
	if k.gone {
		s.drop()
		return
	}
	k.toClient(func() { k.take(s, got) })
}

func (k *socket) refuseLogin(why string) {
	k.toClient(func() { k.take(nil, login{err: why}) })
	k.closeByNode(closeMoved)
}

// client is one session in its client's hands.
type client struct {
	f        *fleet
	id       int
	number   uint32
	user     string
	follows  bool // redirects
	ready    bool // it is in its rooms
	gone     bool // the process has ended
	closing  bool // it says bye
	entombed bool // it may join nothing more
	lastSeen time.Duration
	hellos   int

	at    redirect.Client
	gen   int
	k     *socket // where writes go; nil: none
	old   *socket // the one before, still read
	asked *socket // where an answer to handover is awaited
	entry *socket // where a login is under way
	offer *ticket // to begin with
	try   *ticket // followed
	dials int
	told  []position // in handover
	pause time.Duration
	rooms []*inRoom
	tries int // to resume, in a row
	next  int // the next address
}

func (f *fleet) newClient() {
	c := &client{f: f, id: len(f.all), follows: true}
	c.number = uint32(c.id + 1)
	c.user = string(rune('a'+c.id/2%26)) + string(rune('a'+c.id/52%26))
	c.follows = !f.chance(0.05)
	f.all = append(f.all, c)
	for len(c.rooms) < 1+c.id%2 {
		if room := f.dice.IntN(rooms); c.room(room) == nil {
			c.rooms = append(c.rooms, newInRoom(room))
		}
	}
	c.lastSeen, c.next = f.now, f.dice.IntN(nodes)
	f.after(f.between(0, 200*time.Millisecond), c.reattach)
	f.after(f.between(time.Second, 2*time.Second), c.talk)
}

func (c *client) tell(format string, args ...any) {
	if c.f.told(c) {
		c.f.tell(format, args...)
	}
}

// dial opens a socket to a node; nil when it cannot be had, which may take long.
func (c *client) dial(n *node, then func(k *socket)) {
	f := c.f
	f.after(f.delay()+f.delay(), func() {
		c.tell("dials %s: gone %t, draining %t, joined %t, frozen %t, fenced %t", n.name, n.dead, n.draining, n.joined, n.frozen, n.fenced())
		switch {
		case n.dead, n.draining, !n.joined:
			then(nil)
		case n.frozen:
			f.after(redirect.DialWithin, func() { then(nil) })
		case n.fenced() || n.good == 0:
			then(nil)
		default:
			k := &socket{f: f, c: c, n: n}
			n.sockets = append(n.sockets, k)
			then(k)
		}
	})
}

// reattach gets the session a socket, however long it takes.
func (c *client) reattach() {
	f := c.f
	c.tries++
	wait := c.pause + f.between(0, min(5*time.Second, 100*time.Millisecond<<min(c.tries, 8)))
	c.pause = 0
	f.after(wait, func() {
		if c.gone || c.closing {
			return
		}
		c.next++
		c.dial(f.nodes[c.next%nodes], func(k *socket) {
			switch {
			case c.gone || c.closing:
				if k != nil {
					k.over = func(int) {}
					k.drop()
				}
			case k == nil:
				c.reattach()
			default:
				c.login(k)
			}
		})
	})
}

func (c *client) login(k *socket) {
	c.entry = k
	over := false
	again := func() {
		if !over {
			over, c.entry = true, nil
			k.drop()
			c.reattach()
		}
	}
	k.over = func(int) { again() }
	k.take = func(s *session, got login) {
		switch {
		case over:
		case got.err == "no_session":
			c.f.wrong(c, "its session is gone, though it was away for %s only", c.f.now-c.lastSeen)
		case got.err != "" || got.gen < c.gen:
			c.tell("login at %s: %s, gen %d", k.n.name, got.err, got.gen)
			again()
		default:
			over, c.entry = true, nil
			c.attached(k, got)
		}
	}
	c.f.after(10*time.Second, func() {
		if c.entry == k {
			again()
		}
	})
	if c.gen == 0 {
		c.tell("hello at %s", k.n.name)
		if c.f.chance(0.3) { // a network that begins badly, while rooms are joined
			c.f.after(c.f.between(0, 30*time.Millisecond), k.cut)
		}
		k.toNode(func() { k.n.hello(k) })
		return
	}
	since := c.positions()
	c.told = since
	c.tell("resume at %s from %v", k.n.name, since)
	k.toNode(func() { k.n.resume(k, since) })
}

func (c *client) attached(k *socket, got login) {
	c.tries = 0
	c.k, c.gen = k, got.gen
	c.at.Resumed()
	k.over = func(code int) { c.lost(k, code) }
	c.tell("attached at %s, gen %d", k.n.name, got.gen)
	c.seen()
	c.resumed(got, nil)
	c.joinRest()
	c.pump()
}

func (c *client) seen() { c.lastSeen = c.f.now }

// offered takes an offer that came on k.
func (c *client) offered(k *socket, t ticket) {
	f := c.f
	if k != c.k || c.closing || !c.ready || f.chance(0.02) {
		return // not of the node that has the session, or not cared for
	}
	if f.chance(0.03) {
		c.tell("declines %s", t.id)
		c.refuse(k, t.id)
		return
	}
	switch c.at.Offer(t.id, f.clock().Add(offerFor)) {
	case redirect.Take:
		c.tell("takes %s", t.id)
		c.offer = &t
		c.step()
	case redirect.Busy:
		c.refuse(k, t.id)
	}
}

func (c *client) refuse(k *socket, id string) {
	k.toNode(func() { k.s.refuse(id, func(string) { k.toClient(func() { c.fencedAt(k) }) }) })
}

func (c *client) withdrawn(id string) {
	if c.at.Withdrawn(id) {
		c.tell("%s is withdrawn", id)
		c.step()
	}
}

// fencedAt is k's word that the session is elsewhere.
func (c *client) fencedAt(k *socket) {
	if k == c.k {
		c.tell("moved, says %s", k.n.name)
		c.at.Fenced()
		c.step()
	}
}

// lost is the end of a socket that the session was on, or is.
func (c *client) lost(k *socket, code int) {
	c.tell("socket at %s ends with %d", k.n.name, code)
	switch k {
	case c.old:
		c.old = nil
		c.at.OldLost()
	case c.k:
		c.k = nil
		c.seen()
		c.at.Lost(code == closeBye || code == closeGone || code == closeReplaced)
		if code == closeBye {
			c.die()
			return
		}
	default:
		return
	}
	c.step()
}

// step acts by the state.
func (c *client) step() {
	switch {
	case c.gone:
	case c.at.State() == redirect.Resuming:
		c.giveUp()
		for _, k := range []*socket{c.k, c.old} {
			if k != nil {
				k.drop()
			}
		}
		c.seen()
		if c.k, c.old = nil, nil; c.closing {
			c.die()
			return
		}
		c.at.Resumed() // nothing can be offered without a socket
		c.reattach()
	case !c.at.Follows() && c.at.State() != redirect.Dual && c.try != nil:
		c.giveUp()
		c.step()
	case c.offer != nil && c.try == nil && c.k != nil && c.at.Begin(c.offer.id):
		c.try, c.offer, c.dials = c.offer, nil, 0
		c.follow(c.try)
	}
	if c.closing && c.k != nil && !c.at.Follows() {
		k := c.k
		k.toNode(func() { k.s.leave() })
	}
}

// giveUp stops what is not followed any more.
func (c *client) giveUp() {
	c.try = nil
	if c.asked != nil {
		c.asked.drop()
		c.asked = nil
	}
}

// follow dials an offer's node, and says handover there.
func (c *client) follow(t *ticket) {
	f := c.f
	c.dials++
	n := t.target
	if n == nil {
		n = f.nodes[f.dice.IntN(nodes)]
	}
	fail := func(again bool) {
		if c.try != t {
			return
		}
		again = c.at.Unanswered(t.id) && again && c.dials < 6
		if again {
			f.after(f.between(0, 300*time.Millisecond), func() {
				if c.try == t {
					c.follow(t)
				}
			})
			return
		}
		if c.at.Failed(t.id, f.clock()) && c.k != nil {
			c.refuse(c.k, t.id)
		}
		c.try = nil
		c.step()
	}
	c.dial(n, func(k *socket) {
		switch {
		case c.try != t:
			if k != nil {
				k.over = func(int) {}
				k.drop()
			}
			return
		case k == nil:
			fail(t.target == nil)
			return
		case !c.at.Ask(t.id, f.clock()):
			k.over = func(int) {}
			k.drop()
			fail(false)
			return
		}
		over := false
		end := func(again bool) {
			if !over {
				over = true
				k.drop()
				c.asked = nil
				fail(again)
			}
		}
		c.asked, c.told = k, c.positions()
		k.over = func(int) { end(false) }
		k.take = func(_ *session, got login) {
			switch {
			case over || c.try != t:
			case got.err != "":
				c.tell("%s is refused at %s: %s", t.id, k.n.name, got.err)
				end(got.err == "same_node")
			case got.gen < c.gen || !c.at.Answered(t.id):
				end(false)
			default:
				over = true
				c.switched(k, t, got)
			}
		}
		f.after(redirect.AnswerWithin, func() { end(false) })
		since := c.told
		c.tell("handover %s at %s from %v", t.id, k.n.name, since)
		k.toNode(func() { k.n.handover(k, *t, since) })
	})
}

// switched is the answer to handover: k has the session, and the old socket is
// read until it ends.
func (c *client) switched(k *socket, t *ticket, got login) {
	f := c.f
	f.moved++
	c.tell("moved to %s, gen %d", k.n.name, got.gen)
	c.asked, c.try = nil, nil
	c.old, c.k, c.gen = c.k, k, got.gen
	k.over = func(code int) { c.lost(k, code) }
	for _, r := range c.rooms {
		r.line.recall()
	}
	c.resumed(got, c.old)
	c.pump()
	k.toNode(func() { k.s.done(t.id) })
	if old := c.old; old != nil {
		f.after(10*time.Second, func() {
			if c.old == old {
				old.drop()
				c.lost(old, closeLost)
			}
		})
	} else {
		c.at.OldLost()
	}
	c.step()
}

// die is the end of the process.
func (c *client) die() {
	c.tell("dies")
	c.gone = true
	c.giveUp()
	for _, k := range []*socket{c.k, c.old, c.entry} {
		if k != nil {
			k.drop()
		}
	}
	c.k, c.old, c.entry = nil, nil, nil
}

// bye ends the session where it is.
func (c *client) bye() {
	c.closing = true
	c.at.Close()
	if c.k == nil && !c.at.Follows() {
		c.die()
		return
	}
	c.step()
}
