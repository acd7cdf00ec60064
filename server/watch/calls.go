package watch

import (
	"container/heap"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"godwit/server/relay"
	"godwit/server/wait"
	"godwit/store"
)

const (
	// beatsEvery is how long it is, at least, from one write of beats that change
	// nothing to the next: those of all rooms go together.
	beatsEvery = 500 * time.Millisecond
	// callLook is after which time the node looks who is late in a room of which
	// it only knows that it is in a call: the earliest may be late by now.
	callLook = 250 * time.Millisecond
	// callSlack is added to when the first is late: the store's clock decides.
	callSlack = 5 * time.Millisecond
	// callRetry is the pause before a store that was away is asked again.
	callRetry = 200 * time.Millisecond
	// callWrites is how many rooms are written at once.
	callWrites = 128
	// rebuiltWithin is how long a beat's answer waits for a room that the store
	// has lost to be there again.
	rebuiltWithin = 900 * time.Millisecond
)

// Calls is this node's part in the rooms' calls: it gathers the beats of its
// sessions and writes them, and, where a room with a member here is in a call,
// sees to it that who stops beating is out in time.
//
// A room is known while beats wait or it is in a call. Of all their times there is
// one timer, at the earliest.
type Calls struct {
	store   *store.Store
	timeout time.Duration
	log     *slog.Logger
	kick    chan struct{} // cap 1

	Beats  atomic.Uint64 // beats taken
	Writes atomic.Uint64 // scripts run for them, and for who is late

	mu    sync.Mutex
	rooms map[string]*callRoom // guarded by mu
	order callOrder            // guarded by mu: the same, by when
	round time.Time            // guarded by mu: when beats that change nothing are written next, or were last
	alarm time.Time            // guarded by mu: until when Run waits; zero: it is awake
	busy  int                  // guarded by mu: rooms that are being written
	full  bool                 // guarded by mu: Run waits until fewer are
	ended bool                 // guarded by mu
}

// callRoom is one room. Guarded by Calls.mu.
type callRoom struct {
	room    *relay.Room
	beats   map[uint32]*beat // that wait, by client
	written []*beat          // on their way; nil: none are
	busy    bool
	write   time.Time  // when what waits is to be written; zero: nothing waits
	late    time.Time  // when the first is late, by this node's clock; zero: no call
	seen    store.Head // at which the room was known to be in a call or not
	index   int        // in Calls.order
}

// beat is the latest word of one client.
type beat struct {
	store.Beat
	came    time.Time
	waiting []waiter
	dropped bool // its client has left the room
}

// waiter is told once what became of a beat.
type waiter struct {
	since time.Time
	done  func(error)
}

// outcome is what one waiter is to be told.
type outcome struct {
	done func(error)
	err  error
}

// NewCalls makes the duty; a client is late a timeout after its last beat.
func NewCalls(st *store.Store, timeout time.Duration, log *slog.Logger) *Calls {
	return &Calls{store: st, timeout: timeout, log: log, kick: make(chan struct{}, 1), rooms: make(map[string]*callRoom)}
}

// Beat takes a member's word that it is in the room's call, or has left it. It
// does not wait: what is soon is written now, other words with those that come
// soon after the last write. The last word of a client counts. done is called once, maybe from
// another goroutine, with an error of the store, and must not wait.
func (c *Calls) Beat(rm *relay.Room, m store.Member, in, soon bool, done func(error)) {
	now := time.Now()
	c.Beats.Add(1)
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		done(errCallsEnded)
		return
	}
	r := c.know(rm)
	b := r.beats[m.Client]
	if b == nil {
		b = &beat{}
		r.beats[m.Client] = b
	}
	b.Beat, b.came = store.Beat{Client: m.Client, Gen: m.Gen, In: in}, now
	b.waiting = append(b.waiting, waiter{now, done})
	switch {
	case soon:
		r.write = now
	case r.write.IsZero():
		r.write = c.nextRound(now)
	}
	c.settle(r)
	c.mu.Unlock()
}

// nextRound is when beats are written that change nothing: rounds are beatsEvery
// apart, and the first after a while is now. Called with mu held.
func (c *Calls) nextRound(now time.Time) time.Time {
	if !c.round.After(now) {
		c.round = c.round.Add(beatsEvery)
		if c.round.Before(now) {
			c.round = now
		}
	}
	return c.round
}

var errCallsEnded = errors.Join(store.ErrUnavailable, errors.New("the node has ended"))

// Forget drops what waits of a client that has left the room.
func (c *Calls) Forget(room string, client uint32) {
	var waiting []waiter
	c.mu.Lock()
	if r := c.rooms[room]; r != nil {
		for _, b := range r.written {
			b.dropped = b.dropped || b.Client == client
		}
		if b := r.beats[client]; b != nil {
			waiting = b.waiting
			delete(r.beats, client)
		}
	}
	c.mu.Unlock()
	for _, w := range waiting {
		w.done(store.ErrNotMember)
	}
}

// Heard takes word of whether a room was in a call at an entry. It does not wait.
func (c *Calls) Heard(rm *relay.Room, at store.Head, on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.rooms[rm.Name()]
	if c.ended || r == nil && !on {
		return
	}
	r = c.know(rm)
	if r.heard(at) {
		switch {
		case !on:
			r.late = time.Time{}
		case r.late.IsZero():
			r.late = time.Now().Add(callLook)
		}
	}
	c.settle(r)
}

// heard notes at which entry the room was looked at; it says false for what is
// older than what is known.
func (r *callRoom) heard(at store.Head) bool {
	if at.Epoch == r.seen.Epoch && at.Seq < r.seen.Seq {
		return false
	}
	r.seen = at
	return true
}

// know finds a room, or makes it known. Called with mu held; settle follows.
func (c *Calls) know(rm *relay.Room) *callRoom {
	r := c.rooms[rm.Name()]
	if r == nil {
		r = &callRoom{beats: make(map[uint32]*beat), index: -1}
		c.rooms[rm.Name()] = r
	}
	r.room = rm
	return r
}

// settle puts a room in its place in the order, or forgets it, and wakes Run if
// that is sooner than it looks. Called with mu held.
func (c *Calls) settle(r *callRoom) {
	out := r.at().IsZero() || r.busy
	switch {
	case out && r.index >= 0:
		heap.Remove(&c.order, r.index)
	case !out && r.index < 0:
		heap.Push(&c.order, r)
	case !out:
		heap.Fix(&c.order, r.index)
	}
	if r.at().IsZero() && !r.busy {
		delete(c.rooms, r.room.Name())
	}
	if len(c.order) > 0 && !c.full && c.order[0].at().Before(c.alarm) {
		c.alarm = time.Time{}
		wait.Ring(c.kick)
	}
}

// at is when something is to be done; zero: nothing is.
func (r *callRoom) at() time.Time {
	if r.write.IsZero() || !r.late.IsZero() && r.late.Before(r.write) {
		return r.late
	}
	return r.write
}

// Run works until ctx ends; what waits then is answered as unavailable.
func (c *Calls) Run(ctx context.Context) error {
	defer c.end()
	t := time.NewTimer(time.Hour)
	defer t.Stop()
	for {
		r, wait := c.next(time.Now())
		if r != nil {
			c.look(ctx, r)
			continue
		}
		t.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		case <-c.kick:
		}
	}
}

// next takes the first room whose time has come, or says how long to wait.
func (c *Calls) next(now time.Time) (*callRoom, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy >= callWrites {
		c.full = true
	}
	wait := time.Hour
	if len(c.order) > 0 && !c.full {
		r := c.order[0]
		if wait = r.at().Sub(now); wait <= 0 {
			c.alarm = time.Time{}
			r.busy = true
			c.busy++
			c.settle(r)
			return r, 0
		}
	}
	c.alarm = now.Add(wait)
	return nil, wait
}

// look writes what waits of a room, and has who is late taken out.
func (c *Calls) look(ctx context.Context, r *callRoom) {
	now := time.Now()
	c.mu.Lock()
	rm := r.room
	var words []store.Beat
	for client, b := range r.beats {
		if len(words) == store.BeatsMost {
			break
		}
		delete(r.beats, client)
		b.Age = now.Sub(b.came)
		words, r.written = append(words, b.Beat), append(r.written, b)
	}
	if len(r.beats) == 0 {
		r.write = time.Time{}
	}
	idle := len(words) == 0
	c.mu.Unlock()
	if idle && !rm.Open() { // nobody here is in it any more
		c.mu.Lock()
		r.late = time.Time{}
		c.free(r)
		c.settle(r)
		c.mu.Unlock()
		return
	}
	c.Writes.Add(1)
	c.store.Beats(ctx, rm.Name(), rm.Known(), c.timeout, words, func(call store.Call, errs []error, err error) {
		c.wrote(r, call, errs, err)
	})
}

// free notes that a room is not being written any more. Called with mu held;
// settle follows.
func (c *Calls) free(r *callRoom) {
	r.busy = false
	c.busy--
	if c.full && c.busy <= callWrites/2 { // then many are written together again
		c.full = false
	}
}

// wrote takes the store's answer. It does not wait.
func (c *Calls) wrote(r *callRoom, call store.Call, errs []error, err error) {
	now := time.Now()
	var told []outcome
	say := func(w waiter, err error) { told = append(told, outcome{w.done, err}) }
	c.mu.Lock()
	written := r.written
	r.written = nil
	c.free(r)
	wiped := errors.Is(err, store.ErrWiped)
	for i, b := range written {
		why := err
		if err == nil {
			why = errs[i]
		}
		lost := errors.Is(why, store.ErrWiped)
		wiped = wiped || lost
		again := (lost || errors.Is(why, store.ErrUnavailable)) && !b.dropped && !c.ended
		var still []waiter
		for _, w := range b.waiting {
			if again && lost && now.Sub(w.since) < rebuiltWithin {
				still = append(still, w)
			} else {
				say(w, why)
			}
		}
		if b.waiting = still; again && now.Sub(b.came) < c.timeout {
			c.keep(r, b)
		} else {
			for _, w := range still {
				say(w, why)
			}
		}
	}
	if len(r.beats) > 0 && err != nil {
		r.write = now.Add(callRetry)
	}
	rm := r.room
	news := false
	switch {
	case wiped:
		r.late = time.Time{} // it comes again with the beats
	case err != nil:
		c.log.Debug("call waits for the store", "room", rm.Name(), "error", err)
		if !r.late.IsZero() {
			r.late = now.Add(callRetry)
		}
	case r.heard(call.Head):
		// Said again after a while: another node may have missed the entry, or
		// this one has.
		news = call.New || call.InCall == r.late.IsZero()
		r.late = time.Time{}
		if call.InCall {
			r.late = now.Add(call.Next + callSlack)
		}
	}
	c.settle(r)
	c.mu.Unlock()
	if wiped {
		rm.Lost()
	}
	if news {
		rm.Wrote(call.Head)
	}
	for _, t := range told {
		t.done(t.err)
	}
}

// keep has a beat written again, unless its client has said more since. Called
// with mu held.
func (c *Calls) keep(r *callRoom, b *beat) {
	if newer := r.beats[b.Client]; newer != nil {
		newer.waiting = append(b.waiting, newer.waiting...)
		return
	}
	r.beats[b.Client] = b
	if r.write.IsZero() {
		r.write = time.Now().Add(callRetry)
	}
}

// end answers what waits.
func (c *Calls) end() {
	c.mu.Lock()
	c.ended = true
	var all []waiter
	for _, r := range c.rooms {
		for _, b := range r.beats {
			all = append(all, b.waiting...)
		}
		clear(r.beats)
		r.write, r.late = time.Time{}, time.Time{}
	}
	c.mu.Unlock()
	for _, w := range all {
		w.done(errCallsEnded)
	}
}

// callOrder is a heap of rooms by when something is to be done.
type callOrder []*callRoom

func (o callOrder) Len() int           { return len(o) }
func (o callOrder) Less(i, j int) bool { return o[i].at().Before(o[j].at()) }

func (o callOrder) Swap(i, j int) {
	o[i], o[j] = o[j], o[i]
	o[i].index, o[j].index = i, j
}

// Push is heap's.
func (o *callOrder) Push(x any) {
	r := x.(*callRoom)
	r.index = len(*o)
	*o = append(*o, r)
}

// Pop is heap's.
func (o *callOrder) Pop() any {
	last := len(*o) - 1
	r := (*o)[last]
	(*o)[last] = nil
	*o, r.index = (*o)[:last], -1
	return r
}
