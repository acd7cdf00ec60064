// Package relay turns the Redis fan-out into each room's contiguous order on
// this node: it follows the channels of the rooms that have a member here,
// fills holes from the log, and resets rooms whose order the store lost.
//
// It owns the order and the position. Who sits in a room and gets what is
// server/hub's; what a hole is, is rules/order's.
//
//	subscriber -> worker (by room) -> order.Track -> seats
//	                                     | hole: job reads the log
//	                                     | other epoch: job asks each seat to rejoin
package relay

import (
	"context"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"godwit/measure"
	"godwit/server/wait"
	"godwit/store"
	"godwit/trace"
	"godwit/wire"
)

const (
	// workerQueue is how many messages may wait for one worker. Past that they
	// are dropped, counted, and every room is compared with its log: the
	// subscriber never waits.
	workerQueue = 8192
	workers     = 2
	// verifyEvery is the slow round that compares all heads with the log.
	verifyEvery = time.Minute
	verifyChunk = 256
	// retryEvery is the pause before a store that was away is asked again.
	retryEvery = 100 * time.Millisecond
	// quiet is how long after an entry its head is said again, if no other
	// entry has followed; after the last of a burst, at most twice that. A node
	// that missed it must know within 2 s.
	quiet = 700 * time.Millisecond
)

// Stats counts what the relay did since it was made.
type Stats struct {
	Heard    atomic.Uint64    // messages from the fan-out
	Dropped  atomic.Uint64    // messages that found a full worker
	Filled   atomic.Uint64    // entries read from the log to fill a hole
	Holes    atomic.Uint64    // holes found
	Resets   atomic.Uint64    // rooms reset
	Verified atomic.Uint64    // rounds in which all heads were compared
	Told     atomic.Uint64    // live events given to members here, each counted for each
	Calls    [2]atomic.Uint64 // entries by which a room's call ended, and began
	// Took is from when a message was heard until it was queued for every member
	// here that it is for. One that waited for others counts its wait; one that
	// was lost on its way counts from when that was noticed. What is for nobody
	// here does not count, and neither do replays.
	Took measure.Histogram
}

// Roster keeps who is in the rooms, and how present. Its methods do not wait.
type Roster interface {
	// Entry is the next entry of a room's log, in order.
	Entry(room, epoch string, ev *wire.RoomEvent)
	// Renewed says that a room has another order.
	Renewed(room string)
	// Presence is what a room was told of a member.
	Presence(p store.Presence)
	// Suspect says that messages may have been missed.
	Suspect()
}

// Relay is the rooms that this node follows.
type Relay struct {
	store  *store.Store
	sub    *store.Subscriber
	roster Roster
	log    *slog.Logger
	whole  func(context.Context) error
	call   func(*Room, store.Head, bool)
	trace  *trace.Tracer // nil: nothing is followed
	Stats  Stats

	began  time.Time
	era    atomic.Uint64 // grows whenever messages may have been missed
	anew   atomic.Uint64 // the era of the last subscription: what was delivered before is in doubt until compared
	verify chan struct{} // cap 1
	queues [workers]chan heard
	seed   maphash.Seed

	mu    sync.Mutex
	rooms map[string]*Room // guarded by mu

	// of each part of the store; not changed after New
	jobs  []*jobs
	heads []*headlines
}

type heard struct {
	room string
	msg  store.Message
	came time.Duration // on the relay's clock
	// whole: the room was heard when it came. Otherwise some that went before it
	// may be missing, and what they said may not be in the log any more.
	whole bool
}

// New makes a relay; whole is asked before a room is reset, to register again
// what a wiped store has lost. Listen before Run.
func New(st *store.Store, whole func(context.Context) error, log *slog.Logger) *Relay {
	r := &Relay{
		store: st, log: log, whole: whole, began: time.Now(),
		call:   func(*Room, store.Head, bool) {},
		verify: make(chan struct{}, 1),
		rooms:  make(map[string]*Room),
		jobs:   newJobs(st.Parts()),
		heads:  newHeadlines(st.Parts()),
		seed:   maphash.MakeSeed(),
	}
	for i := range r.queues {
		r.queues[i] = make(chan heard, workerQueue)
	}
	return r
}

// Listen sets the ear that follows the rooms' channels, and who keeps the rosters.
func (r *Relay) Listen(sub *store.Subscriber, roster Roster) { r.sub, r.roster = sub, roster }

// Calls sets who is told whether a room is in a call, and at which entry that
// was known. It must not wait, and not ask a room anything. Set it before Run.
func (r *Relay) Calls(told func(rm *Room, at store.Head, on bool)) { r.call = told }

// Trace sets who follows what is delivered here. Set it before Run.
func (r *Relay) Trace(t *trace.Tracer) { r.trace = t }

// Run works until ctx ends.
func (r *Relay) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, q := range r.queues {
		all.Go(func() { r.work(ctx, q) })
	}
	for _, q := range r.jobs {
		for range cap(q.kick) {
			all.Go(func() { q.work(ctx) })
		}
		all.Go(func() { q.retry(ctx) })
	}
	all.Go(func() { r.verifyLoop(ctx) })
	for _, h := range r.heads {
		all.Go(func() { h.announce(ctx) })
	}
	all.Wait()
	return nil
}

// Heard takes one message from the subscriber; it never waits.
func (r *Relay) Heard(room string, m store.Message, whole bool) {
	r.Stats.Heard.Add(1)
	select {
	case r.queues[maphash.String(r.seed, room)%workers] <- heard{room, m, r.clock(), whole}:
	default:
		r.Stats.Dropped.Add(1)
		r.Suspect()
		r.roster.Suspect()
	}
}

// clock is how long there has been a relay: on a message's way it is read twice,
// and costs half of what the time of day does.
func (r *Relay) clock() time.Duration { return time.Since(r.began) }

// Suspect says that messages may have been missed: all heads are compared with
// the log. It returns the era that begins.
func (r *Relay) Suspect() uint64 {
	era := r.era.Add(1)
	wait.Ring(r.verify)
	return era
}

// Reset says that the subscription was lost, and everything is heard again: all
// heads are compared with the log, which may have lost what was delivered before.
// It is called before anything more is heard.
func (r *Relay) Reset() {
	r.anew.Store(r.era.Load() + 1)
	r.Suspect()
}

func (r *Relay) work(ctx context.Context, q <-chan heard) {
	for {
		select {
		case <-ctx.Done():
			return
		case h := <-q:
			if rm := r.find(h.room); rm != nil {
				rm.heard(h.msg, h.came, h.whole)
			}
		}
	}
}

// changed counts an entry that says whether a room is in a call.
func (r *Relay) changed(on bool) {
	if on {
		r.Stats.Calls[1].Add(1)
	} else {
		r.Stats.Calls[0].Add(1)
	}
}

func (r *Relay) find(room string) *Room {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rooms[room]
}

// Open takes a reference to a room and follows it; Close gives it back. Wait
// for Ready before reading the room's head from the store, so that nothing can
// come between the head and what is heard.
func (r *Relay) Open(room string) *Room {
	r.mu.Lock()
	defer r.mu.Unlock()
	rm := r.rooms[room]
	if rm == nil {
		rm = &Room{relay: r, name: room, ready: r.sub.Follow(room)}
		r.rooms[room] = rm
	}
	rm.refs++
	return rm
}

// Close gives a reference back.
func (r *Relay) Close(rm *Room) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rm.refs--; rm.refs == 0 {
		delete(r.rooms, rm.name)
		r.sub.Drop(rm.name)
	}
}

// Len is the number of rooms followed.
func (r *Relay) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.rooms)
}

// open says whether a room is still followed.
func (r *Relay) open(rm *Room) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return rm.refs > 0
}
