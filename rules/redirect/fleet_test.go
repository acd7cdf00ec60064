package redirect_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"godwit/rules/drain"
	"godwit/rules/redirect"
)

// The simulated fleet is a model of what is around the three machines of a
// move: the store with its scripts, nodes that hold sockets, and clients. It
// has no goroutine and no socket; its time is virtual, and everything that
// happens is drawn from one seed. Each party is written as the real one works
// (store/*.lua, server/session, server/move, server/relay, client), and what is
// pure there is the real thing here: redirect.Source, Target and Client,
// rules/drain, rules/order and rules/address.
//
//	fleet_test.go          time, chance, faults, and the story of a run
//	fleet_store_test.go    the store: one commit point, rooms, leases
//	fleet_node_test.go     a node: words, lease, sweep, drain
//	fleet_room_test.go     what a node follows of a room, and hands out
//	fleet_session_test.go  one session's attachment: login, replay, writes
//	fleet_offer_test.go    an offer at its source
//	fleet_client_test.go   a client: its sockets
//	fleet_line_test.go     its rooms, and its sends
//	fleet_truth_test.go    what must hold, looked at with each step
//	fleet_chaos_test.go    the runs, and the bugs that they find
type fleet struct {
	seed  uint64
	bugs  bugs
	dice  *rand.Rand
	now   time.Duration
	queue events
	store *store
	nodes []*node // the present life of each
	dead  []*node // lives that the store still knows
	all   []*client
	truth truth

	// How this run is.
	directed bool    // nodes have URLs of their own
	keeps    int     // entries that a room's log keeps
	lossy    float64 // of fan-out messages and words between nodes
	slow     float64 // of messages that take long

	calm   bool // faults are over
	ids    int
	boots  int
	moved  int
	counts map[string]int
	loud   int // the client whose story is told; -1: none
	story  []string
	fault  string // what was wrong; "" is nothing
	guilty int    // the client that it was about
}

// bugs are what to plant.
type bugs struct {
	noFilter bool // the client takes what it has seen
	fromNow  bool // the target delivers from now on, whatever the client's position
	noFence  bool // rooms look neither at gen nor at cseq
	inMemory bool // the source ends offers only in its own memory
}

const (
	rooms    = 8
	people   = 30
	nodes    = 4
	lease    = 10 * time.Second
	grace    = 30 * time.Second
	offerFor = 15 * time.Second
	// storeWithin is when a round trip counts as lost.
	storeWithin = 700 * time.Millisecond
	// silentFor is how long a target that did not answer is passed over.
	silentFor = 5 * time.Second
)

func newFleet(seed uint64, b bugs) *fleet {
	f := &fleet{
		seed: seed, bugs: b, dice: rand.New(rand.NewPCG(seed, 0)), loud: -1, guilty: -1,
		counts: make(map[string]int),
	}
	f.directed = f.dice.IntN(3) > 0
	f.keeps = 20 + f.dice.IntN(200)
	f.lossy = [...]float64{0, 0.002, 0.02}[f.dice.IntN(3)]
	f.slow = [...]float64{0, 0.01, 0.1}[f.dice.IntN(3)]
	f.store = newStore(f)
	f.truth = newTruth(f)
	for slot := range nodes {
		n := f.boot(slot, 1)
		f.nodes = append(f.nodes, n)
	}
	for range people {
		f.newClient()
	}
	return f
}

// run lets things happen for a while, then lets everybody come to rest.
func (f *fleet) run(span time.Duration) {
	f.after(2*time.Second, f.strike)
	f.after(time.Second, f.push)
	f.until(span)
	f.calm = true
	f.until(span + grace + 2*lease + 40*time.Second)
	if f.fault == "" {
		f.truth.rest()
	}
}

func (f *fleet) until(end time.Duration) {
	for f.fault == "" && len(f.queue.heap) > 0 && f.queue.heap[0].at <= end {
		e := f.queue.pop()
		f.now = e.at
		e.do()
	}
	f.now = end
}

// push has somebody moved, again and again, as an operator would.
func (f *fleet) push() {
	if f.calm {
		return
	}
	f.after(f.between(time.Millisecond, 30*time.Millisecond), f.push)
	c := f.anyone()
	if c == nil || c.k == nil || c.k.s == nil {
		return
	}
	s := c.k.s
	n := s.n
	switch reason := f.dice.IntN(10); {
	case reason == 0: // the client asks for it
		c.k.toNode(func() { n.offer(s, why{reason: "request"}) })
	case reason == 1:
		n.do(func() { n.offer(s, why{reason: "balance"}) })
	default:
		n.do(func() { n.offer(s, why{reason: "admin"}) })
	}
	if f.chance(0.02) { // and takes it back at once, or soon
		f.after(f.between(0, 50*time.Millisecond), func() { n.do(s.cancel) })
	}
}

// strike is one fault, and the next one later.
func (f *fleet) strike() {
	if f.calm {
		return
	}
	f.after(f.between(100*time.Millisecond, 3*time.Second), f.strike)
	n := f.nodes[f.dice.IntN(nodes)]
	switch f.dice.IntN(10) {
	case 0:
		if f.healthy() > 2 && !n.dead {
			f.count("node killed")
			f.kill(n)
			f.restart(n)
		}
	case 1:
		if f.healthy() > 2 && n.well() {
			f.count("node frozen")
			n.frozen = true
			f.after(f.spell(), n.thaw)
		}
	case 2:
		if f.healthy() > 2 && n.well() {
			f.count("node cut off")
			n.parted = true
			f.after(f.spell(), func() { n.parted = false; n.suspect() })
		}
	case 3:
		if !f.store.away {
			f.count("store away")
			f.store.away = true
			f.after(f.between(time.Millisecond, [...]time.Duration{300 * time.Millisecond, 4 * time.Second}[f.dice.IntN(2)]), func() {
				f.store.away = false
				for _, n := range f.nodes {
					n.suspect()
				}
			})
		}
	case 4: // somebody's network
		for range 1 + f.dice.IntN(5) {
			if c := f.anyone(); c != nil {
				for _, k := range []*socket{c.k, c.old, c.asked} {
					if k != nil && f.chance(0.6) {
						f.count("socket lost")
						k.cut()
					}
				}
			}
		}
	case 5:
		if c := f.anyone(); c != nil {
			f.count("client gone")
			if f.chance(0.5) {
				c.die()
			} else {
				c.bye()
			}
			f.newClient()
		}
	case 6, 7: // a deploy of one node
		if f.healthy() > 2 && n.well() && !n.draining {
			f.count("node drained")
			n.drain(f.between(2*time.Second, 8*time.Second))
		}
	case 8: // a burst in one room, past what its log keeps
		c := f.anyone()
		if c != nil && len(c.rooms) > 0 {
			f.count("burst")
			r := c.rooms[f.dice.IntN(len(c.rooms))]
			for range 60 {
				c.say(r)
			}
		}
	case 9: // all at once
		if f.chance(0.3) {
			f.count("everybody's socket lost")
			for _, c := range f.all {
				if c.k != nil && !c.gone {
					c.k.cut()
				}
			}
		}
	}
}

// spell is how long a node is away: past its lease, if the others are well, so
// that a client finds one of them in its grace.
func (f *fleet) spell() time.Duration {
	long := time.Second
	if f.healthy() == nodes-1 && f.chance(0.5) {
		long = 15 * time.Second
	}
	return f.between(time.Millisecond, long)
}

// healthy is how many nodes clients can be served by.
func (f *fleet) healthy() int {
	h := 0
	for _, n := range f.nodes {
		if n.well() && !n.draining {
			h++
		}
	}
	return h
}

// boot starts a node's next life.
func (f *fleet) boot(slot, revision int) *node {
	f.boots++
	n := &node{
		f: f, slot: slot, name: fmt.Sprintf("n%d/%d", slot+1, f.boots), revision: revision, started: f.now,
		skew: f.between(-100*time.Millisecond, 100*time.Millisecond),
		hub:  make(map[*client]*session), rooms: make([]*room, rooms), sent: make(map[*node]int),
		asks: make(map[string]func(bool)), kept: make(map[string]*redirect.Target), silent: make(map[*node]time.Duration),
	}
	n.later(f.between(0, 50*time.Millisecond), n.tick)
	return n
}

// kill ends a node's life as SIGKILL does.
func (f *fleet) kill(n *node) {
	n.dead = true
	f.dead = append(f.dead, n)
	for _, k := range n.sockets {
		k.cut()
	}
	n.sockets, n.held = nil, nil
	for room := range f.store.rooms {
		f.store.unsubscribe(n, room)
	}
}

func (f *fleet) restart(n *node) {
	f.after(f.between(10*time.Millisecond, 3*time.Second), func() {
		f.nodes[n.slot] = f.boot(n.slot, n.revision+f.dice.IntN(2))
	})
}

// anyone is a client that is there.
func (f *fleet) anyone() *client {
	for range 20 {
		if c := f.all[f.dice.IntN(len(f.all))]; !c.gone && !c.closing {
			return c
		}
	}
	return nil
}

// delay is how long a message takes.
func (f *fleet) delay() time.Duration {
	if f.slow > 0 && f.dice.Float64() < f.slow && !f.calm {
		return f.between(5*time.Millisecond, 250*time.Millisecond)
	}
	return f.between(100*time.Microsecond, 2*time.Millisecond)
}

// lost says whether one that may be lost is.
func (f *fleet) lost() bool { return f.lossy > 0 && !f.calm && f.dice.Float64() < f.lossy }

func (f *fleet) chance(p float64) bool { return f.dice.Float64() < p }

func (f *fleet) between(low, high time.Duration) time.Duration {
	return low + time.Duration(f.dice.Int64N(int64(high-low)+1))
}

// clock is a time that the rules understand.
func (f *fleet) clock() time.Time { return time.Unix(1_000_000, 0).Add(f.now) }

func (f *fleet) id() string {
	f.ids++
	return fmt.Sprint("o", f.ids)
}

func (f *fleet) count(what string) { f.counts[what]++ }

func (f *fleet) after(d time.Duration, do func()) { f.queue.push(f.now+d, do) }

// in is after, but not before what was said earlier on the same line.
func (f *fleet) in(d time.Duration, last *time.Duration, do func()) {
	*last = max(*last, f.now+d)
	f.queue.push(*last, do)
}

// wrong ends the run.
func (f *fleet) wrong(c *client, format string, args ...any) {
	if f.fault == "" {
		f.fault = fmt.Sprintf("%s: client %d: ", f.now, c.id) + fmt.Sprintf(format, args...)
		f.guilty = c.id
	}
}

// told says whether somebody listens to a client's story.
func (f *fleet) told(c *client) bool { return f.loud == c.id }

func (f *fleet) tell(format string, args ...any) {
	f.story = append(f.story, fmt.Sprintf("%12s  ", f.now)+fmt.Sprintf(format, args...))
}

// retell is the end of the story of the client that something went wrong with.
func (f *fleet) retell(span time.Duration) string {
	if f.guilty < 0 {
		return ""
	}
	again := newFleet(f.seed, f.bugs)
	again.loud = f.guilty
	again.run(span)
	const most = 60
	return strings.Join(again.story[max(0, len(again.story)-most):], "\n")
}

// plan is a drain's.
func (f *fleet) plan(sessions int, budget time.Duration) drain.Plan {
	return drain.NewPlan(sessions, budget, f.dice.Float64)
}

// events is what is to happen, a heap by time and then by when it was said.
type events struct {
	heap []event
	n    uint64
}

type event struct {
	at time.Duration
	n  uint64
	do func()
}

func (e event) before(o event) bool { return e.at < o.at || e.at == o.at && e.n < o.n }

func (q *events) push(at time.Duration, do func()) {
	q.n++
	q.heap = append(q.heap, event{at, q.n, do})
	h := q.heap
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if !h[i].before(h[up]) {
			break
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
}

func (q *events) pop() event {
	h := q.heap
	first, last := h[0], len(h)-1
	h[0], h[last] = h[last], event{}
	h = h[:last]
	for i := 0; ; {
		least := i
		for _, down := range [...]int{2*i + 1, 2*i + 2} {
			if down < last && h[down].before(h[least]) {
				least = down
			}
		}
		if least == i {
			break
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
	q.heap = h
	return first
}
