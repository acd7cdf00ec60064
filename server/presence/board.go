package presence

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"godwit/server/wait"
	"godwit/store"
	"godwit/wire"
)

// inboxQueue is how many messages to users may wait. Past that they are
// dropped, counted, and all that is known is read again: the subscriber never
// waits.
const inboxQueue = 8192

// Out is where a session's presence goes to. It does not wait.
type Out interface {
	// Presence queues how present a user is; live says that nobody here asked.
	Presence(p *wire.Presence, live bool)
}

// Stats counts what the board did since it was made.
type Stats struct {
	Heard   atomic.Uint64 // messages to users
	Dropped atomic.Uint64 // messages that found a full queue
	Read    atomic.Uint64 // values read from the store
	Told    atomic.Uint64 // presence told to sessions
	Changed atomic.Uint64 // values that were known here and became others
}

// Board is who sees whom on this node.
type Board struct {
	store *store.Store
	sub   *store.Subscriber
	log   *slog.Logger
	Stats Stats

	queue   chan letter
	kick    chan struct{} // cap 1: something is to be read
	suspect chan struct{} // cap 1: messages may have been missed

	mu    sync.Mutex
	users map[string]*user // guarded by mu: whom somebody here sees, or is
	rooms map[string]*room // guarded by mu: that a view is in
	todo  todo             // guarded by mu: what is to be read
	round uint64           // guarded by mu: marks who was found already
}

type letter struct {
	user string
	store.Inbox
}

// user is one user. Guarded by Board.mu.
type user struct {
	name   string
	known  bool // value and pv are
	value  uint8
	pv     uint64
	missed time.Time          // since when the store knows nothing of it; zero: it does
	ready  chan struct{}      // closed when it is known; nil: nobody waits
	rooms  set[*room]         // that it is in, of those known here
	fans   map[*user]struct{} // attached here, with it in their contacts
	views  set[*View]         // of its own
	list   map[*user]struct{} // its contacts, while it has views; nil: none
	listed chan struct{}      // closed when they are read; nil: they are
	stale  bool               // those that are known are from before its inbox was heard
	// read: its contacts are those of list, maybe stale.
	read bool
	// loading: they are being read.
	loading bool
	heard   <-chan struct{} // closed when its inbox is followed
	round   uint64
}

// New makes a board. Listen before Run.
func New(st *store.Store, log *slog.Logger) *Board {
	return &Board{
		store: st, log: log,
		queue: make(chan letter, inboxQueue),
		kick:  make(chan struct{}, 1), suspect: make(chan struct{}, 1),
		users: make(map[string]*user), rooms: make(map[string]*room),
		todo: newTodo(),
	}
}

// Listen sets the ear that follows the users' inboxes.
func (b *Board) Listen(sub *store.Subscriber) { b.sub = sub }

// Run works until ctx ends.
func (b *Board) Run(ctx context.Context) error {
	var all sync.WaitGroup
	all.Go(func() { b.load(ctx) })
	all.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case l := <-b.queue:
				b.open(l)
			}
		}
	})
	all.Wait()
	return nil
}

// Inbox takes one message to a user; it never waits.
func (b *Board) Inbox(name string, m store.Inbox) {
	b.Stats.Heard.Add(1)
	select {
	case b.queue <- letter{name, m}:
	default:
		b.Stats.Dropped.Add(1)
		b.Suspect()
	}
}

// Suspect says that messages may have been missed: what is known of users is
// read again.
func (b *Board) Suspect() { wait.Ring(b.suspect) }

func (b *Board) open(l letter) {
	if l.Presence != nil {
		b.Presence(*l.Presence)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if u := b.users[l.user]; u != nil && u.views.len() > 0 {
		b.wantList(u)
	}
}

// Presence takes a new value of a user, heard by whatever way.
func (b *Board) Presence(p store.Presence) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if u := b.users[p.User]; u != nil { // otherwise nobody here sees it, whoever thought so
		b.learn(u, p)
	}
}

// learn takes a value of a user, and tells all who see it. What is not newer is
// dropped. Called with mu held.
func (b *Board) learn(u *user, p store.Presence) {
	first := !u.known
	if !first && p.PV <= u.pv {
		return
	}
	was := u.value
	u.known, u.value, u.pv = true, p.Value, p.PV
	b.found(u)
	u.release()
	if u.value == was {
		return
	}
	if !first {
		b.Stats.Changed.Add(1)
	}
	other, self := u.event(), &wire.Presence{Self: true, Presence: u.value, PV: u.pv}
	b.round++
	tell := func(views *set[*View], p *wire.Presence) {
		for v := range views.all() {
			if v.round != b.round {
				v.round = b.round
				v.tell(p, !first)
			}
		}
	}
	tell(&u.views, self)
	for fan := range u.fans {
		tell(&fan.views, other)
	}
	for r := range u.rooms.all() {
		tell(&r.views, other)
	}
}

func (u *user) event() *wire.Presence {
	return &wire.Presence{User: u.name, Presence: u.value, PV: u.pv}
}

// release ends the wait for a user's value.
func (u *user) release() {
	if u.ready != nil {
		close(u.ready)
		u.ready = nil
	}
}

// show tells a view of a user whom it sees from now on, by whatever way, if
// there is something to see. Called with mu held.
func (b *Board) show(v *View, u *user) {
	switch {
	case u == v.user:
	case !u.known:
		b.wantUser(u) // learn tells, then
	case u.value != 0:
		v.tell(u.event(), false)
	}
}

// sees says whether a view sees a user. Called with mu held.
func (v *View) sees(u *user) bool {
	if u == v.user {
		return true
	}
	if _, fan := u.fans[v.user]; fan {
		return true
	}
	for r := range v.rooms.all() {
		if _, in := r.users[u]; in {
			return true
		}
	}
	return false
}

// blind are those of some views that do not see a user. Called with mu held.
func blind(views *set[*View], u *user) []*View {
	var out []*View
	for v := range views.all() {
		if !v.sees(u) {
			out = append(out, v)
		}
	}
	return out
}

// user is the user of that name. Called with mu held.
func (b *Board) user(name string) *user {
	u := b.users[name]
	if u == nil {
		u = &user{name: name}
		b.users[name] = u
	}
	return u
}

// forget drops a user whom nobody sees. Called with mu held.
func (b *Board) forget(u *user) {
	if u.rooms.len()+len(u.fans)+u.views.len() == 0 && b.users[u.name] == u {
		delete(b.users, u.name)
		delete(b.todo.users, u)
		b.found(u)
		u.release()
	}
}
