package presence

import (
	"cmp"
	"context"
	"slices"

	"godwit/store"
	"godwit/wire"
)

// View is what one attached session sees. It is held until Open: what it is to
// be told waits. A nil View sees nobody: that of a session that is no device.
//
//	Attach --Heard--> Load --> Snapshot --> Open --> Close
type View struct {
	board *Board
	out   Out
	user  *user

	// Guarded by Board.mu.
	rooms   set[*room]
	held    bool
	waiting map[string]*wire.Presence // while held: the last of each user, "" for its own
	closed  bool
	round   uint64
}

// heard is closed, as that of a user is whose inbox is followed.
var heard = func() <-chan struct{} {
	done := make(chan struct{})
	close(done)
	return done
}()

// Attach makes a view for a session of a user.
func (b *Board) Attach(name string, out Out) *View {
	b.mu.Lock()
	defer b.mu.Unlock()
	u := b.user(name)
	v := &View{board: b, out: out, user: u, held: true}
	if u.views.len() == 0 {
		u.heard = b.sub.FollowUser(name)
		u.listed, u.stale = make(chan struct{}), true
	}
	u.views.add(v)
	return v
}

// Heard is closed when the node hears the user's inbox.
func (v *View) Heard() <-chan struct{} {
	v.board.mu.Lock()
	defer v.board.mu.Unlock()
	return v.user.heard
}

// Load takes the user's own value and its contacts, as they were read once the
// inbox was heard.
func (v *View) Load(self store.Presence, contacts []string) {
	b := v.board
	b.mu.Lock()
	defer b.mu.Unlock()
	if v.closed {
		return
	}
	u := v.user
	b.learn(u, self)
	if !u.stale {
		return
	}
	u.stale = false
	if u.loading || u.read {
		b.wantList(u) // what is being read may be older, and comes later
		return
	}
	b.enlist(u, contacts, nil)
}

// Snapshot is the view's own user's value and, by name, all who are not offline
// of those whom it sees. It waits until that is known, or ctx ends: then it is
// not whole, and the rest is told once it is known. What changes from now on
// waits for Open; what has waited is in it.
func (v *View) Snapshot(ctx context.Context) (self uint8, all []wire.UserPresence, whole bool) {
	whole = v.settle(ctx)
	b := v.board
	b.mu.Lock()
	defer b.mu.Unlock()
	v.waiting = nil
	v.each(func(u *user) {
		if u.known && u.value != 0 {
			all = append(all, wire.UserPresence{User: u.name, Presence: u.value, PV: u.pv})
		}
	})
	slices.SortFunc(all, func(a, b wire.UserPresence) int { return cmp.Compare(a.User, b.User) })
	return v.user.value, all, whole
}

// settle waits until all that the view sees is known; false says that ctx ended.
func (v *View) settle(ctx context.Context) bool {
	b := v.board
	b.mu.Lock()
	var waits []<-chan struct{}
	if v.user.listed != nil {
		waits = append(waits, v.user.listed)
	}
	for r := range v.rooms.all() {
		waits = append(waits, r.ready)
	}
	b.mu.Unlock()
	if !await(ctx, waits) {
		return false
	}
	waits = waits[:0]
	b.mu.Lock()
	v.each(func(u *user) {
		if u.known {
			return
		}
		if u.ready == nil {
			u.ready = make(chan struct{})
		}
		waits = append(waits, u.ready)
	})
	b.mu.Unlock()
	return await(ctx, waits)
}

func await(ctx context.Context, all []<-chan struct{}) bool {
	for _, ch := range all {
		select {
		case <-ch:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// each calls f with each user whom the view sees, but its own. Called with mu held.
func (v *View) each(f func(u *user)) {
	b := v.board
	b.round++
	v.user.round = b.round
	once := func(u *user) {
		if u.round != b.round {
			u.round = b.round
			f(u)
		}
	}
	for u := range v.user.list {
		once(u)
	}
	for r := range v.rooms.all() {
		for u := range r.users {
			once(u)
		}
	}
}

// Open lets through what has waited, and what comes.
func (v *View) Open() {
	b := v.board
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-v.user.heard: // one for all: its own need not be kept
		v.user.heard = heard
	default:
	}
	waiting := v.waiting
	v.held, v.waiting = false, nil
	for _, p := range waiting {
		v.tell(p, false)
	}
}

// tell tells the view of a presence. Called with mu held.
func (v *View) tell(p *wire.Presence, live bool) {
	if v.held {
		if v.waiting == nil {
			v.waiting = make(map[string]*wire.Presence)
		}
		v.waiting[p.User] = p
		return
	}
	v.board.Stats.Told.Add(1)
	v.out.Presence(p, live)
}

// Enter says that the session is in a room from now on: it sees who is there.
func (v *View) Enter(name string) {
	if v == nil {
		return
	}
	b := v.board
	b.mu.Lock()
	defer b.mu.Unlock()
	if v.closed {
		return
	}
	r := b.rooms[name]
	if r == nil {
		r = &room{name: name, users: make(map[*user]int), ready: make(chan struct{})}
		b.rooms[name] = r
		b.wantRoster(r)
	}
	var found []*user
	for u := range r.users {
		if !v.sees(u) {
			found = append(found, u)
		}
	}
	v.rooms.add(r)
	r.views.add(v)
	for _, u := range found {
		b.show(v, u)
	}
}

// Leave says that the session is in a room no longer. Whom it saw by it alone it
// sees no more, and is told nothing.
func (v *View) Leave(name string) {
	if v == nil {
		return
	}
	b := v.board
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.rooms[name]; r != nil {
		b.leave(v, r)
	}
}

func (b *Board) leave(v *View, r *room) {
	v.rooms.remove(r)
	r.views.remove(v)
	if r.views.len() > 0 || b.rooms[r.name] != r {
		return
	}
	delete(b.rooms, r.name)
	delete(b.todo.rooms, r)
	delete(b.todo.emptied, r)
	for u := range r.users {
		u.rooms.remove(r)
		b.forget(u)
	}
}

// Close ends the view.
func (v *View) Close() {
	if v == nil {
		return
	}
	b := v.board
	b.mu.Lock()
	defer b.mu.Unlock()
	if v.closed {
		return
	}
	v.closed = true
	for r := range v.rooms.all() {
		b.leave(v, r)
	}
	u := v.user
	u.views.remove(v)
	if u.views.len() > 0 {
		return
	}
	b.sub.DropUser(u.name)
	delete(b.todo.lists, u)
	for c := range u.list {
		delete(c.fans, u)
		b.forget(c)
	}
	u.list, u.read = nil, false
	b.forget(u)
}
