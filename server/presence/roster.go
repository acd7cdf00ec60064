package presence

import (
	"godwit/store"
	"godwit/wire"
)

// backlogMax is how many joins and leaves may wait for a roster that is being
// read. Past that they are dropped, and it is read once more.
const backlogMax = 1024

// room is a room with a view in it. Guarded by Board.mu.
type room struct {
	name  string
	views set[*View]
	users map[*user]int // devices
	ready chan struct{} // closed when the roster was read for the first time

	read    bool   // users are those of the entry seq, and what follows is known
	epoch   string // of seq
	seq     uint64
	backlog []change // while not read
	again   bool     // the backlog was too long
}

// change is a join or a leave.
type change struct {
	epoch string
	seq   uint64
	user  string
	by    int // devices; 0: all are out
}

// Entry takes an entry of a room's log, in order.
func (b *Board) Entry(name, epoch string, ev *wire.RoomEvent) {
	c := change{epoch: epoch, seq: ev.Seq, user: ev.From.User}
	switch {
	case ev.Kind == wire.KindJoin:
		c.by = 1
	case ev.Kind == wire.KindLeave && ev.From.Client != 0:
		c.by = -1
	case ev.Kind != wire.KindLeave:
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.rooms[name]
	switch {
	case r == nil:
	case r.read && epoch == r.epoch:
		b.apply(r, c)
	case r.read:
		r.read, r.backlog = false, []change{c}
		b.wantRoster(r)
	case len(r.backlog) == backlogMax:
		r.backlog, r.again = nil, true
	default:
		r.backlog = append(r.backlog, c)
	}
}

// Renewed says that a room has another order: who is there is read again.
func (b *Board) Renewed(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.rooms[name]; r != nil {
		r.read, r.backlog = false, nil
		b.wantRoster(r)
	}
}

// apply changes who is in a room. Called with mu held.
func (b *Board) apply(r *room, c change) {
	if c.seq <= r.seq {
		return // the roster was read after it
	}
	r.seq = c.seq
	switch {
	case c.by > 0:
		b.seat(r, b.user(c.user), c.by)
	case c.by == 0:
		for u := range r.users {
			b.unseat(r, u)
		}
	default:
		u := b.users[c.user]
		if u == nil || r.users[u] == 0 {
			return
		}
		if r.users[u] += c.by; r.users[u] <= 0 {
			b.unseat(r, u)
		}
	}
}

// seat lets a user be in a room with more devices; those there who did not see
// it do now. Called with mu held.
func (b *Board) seat(r *room, u *user, devices int) {
	if _, in := r.users[u]; in {
		r.users[u] += devices
		return
	}
	found := blind(&r.views, u)
	r.users[u] = devices
	u.rooms.add(r)
	for _, v := range found {
		b.show(v, u)
	}
}

func (b *Board) unseat(r *room, u *user) {
	delete(r.users, u)
	u.rooms.remove(r)
	b.forget(u)
}

// rostered takes the roster that was read. Who was there before stays known, so
// that nobody is told again of whom they see already. Called with mu held.
func (b *Board) rostered(r *room, got store.Roster) {
	if got.Epoch == "" {
		return // the store has lost the room: it is made anew, and then read again
	}
	if r.read && got.Epoch == r.epoch && got.Seq < r.seq {
		b.wantRoster(r) // the log has said more while this was on its way
		return
	}
	// After a wipe each member joins anew: who has not yet is looked for later.
	if r.epoch != "" && got.Epoch != r.epoch {
		b.todo.emptied[r] = struct{}{}
	} else {
		for u := range r.users {
			if got.Users[u.name] == 0 {
				b.unseat(r, u)
			}
		}
	}
	for name, devices := range got.Users {
		u := b.user(name)
		if _, in := r.users[u]; in {
			r.users[u] = devices
			continue
		}
		b.seat(r, u, devices)
	}
	backlog := r.backlog
	r.read, r.epoch, r.seq, r.backlog = true, got.Epoch, got.Seq, nil
	for _, c := range backlog {
		if c.epoch == r.epoch {
			b.apply(r, c)
		}
	}
	if r.again {
		r.again = false
		b.wantRoster(r)
	}
	select {
	case <-r.ready:
	default:
		close(r.ready)
	}
}
