package presence

import (
	"context"
	"time"

	"godwit/server/wait"
	"godwit/store"
)

const (
	// Of each kind, how much one round trip reads.
	rosterBatch = 32
	listBatch   = 128
	userBatch   = 1024
	// retryEvery is the pause before a store that was away is asked again.
	retryEvery = 100 * time.Millisecond
	// verifyEvery is the slow round that reads again all that is known: a message
	// that was lost on its way shows by nothing else.
	verifyEvery = time.Minute
	// missingFor is how long the store must know nothing of a user before it
	// counts as offline: after a wipe its node has that long to register it again.
	missingFor = 10 * time.Second
)

// todo is what is to be read. Guarded by Board.mu.
type todo struct {
	rooms map[*room]struct{}
	lists map[*user]struct{}
	users map[*user]struct{}
	// lost are users of whom the store knew nothing when they were read last,
	// and that were not offline.
	lost map[*user]struct{}
	// emptied are rooms that were made anew: who was there may be missing.
	emptied map[*room]struct{}
}

func newTodo() todo {
	return todo{
		rooms: map[*room]struct{}{}, lists: map[*user]struct{}{}, users: map[*user]struct{}{},
		lost: map[*user]struct{}{}, emptied: map[*room]struct{}{},
	}
}

// found says that a user is not lost. Called with mu held.
func (b *Board) found(u *user) {
	u.missed = time.Time{}
	delete(b.todo.lost, u)
}

func (b *Board) wantRoster(r *room) { want(b, b.todo.rooms, r) }
func (b *Board) wantList(u *user)   { want(b, b.todo.lists, u) }
func (b *Board) wantUser(u *user)   { want(b, b.todo.users, u) }

func want[K comparable](b *Board, set map[K]struct{}, k K) {
	set[k] = struct{}{}
	wait.Ring(b.kick)
}

// take takes some out of a set.
func take[K comparable](set map[K]struct{}, most int) []K {
	var out []K
	for k := range set {
		if len(out) == most {
			break
		}
		delete(set, k)
		out = append(out, k)
	}
	return out
}

// load reads what is to be read until ctx ends.
func (b *Board) load(ctx context.Context) {
	slow := time.NewTicker(verifyEvery)
	defer slow.Stop()
	again := time.NewTimer(missingFor)
	defer again.Stop()
	waits := false // for those who may be missing
	for {
		select {
		case <-ctx.Done():
			return
		case <-slow.C:
			b.verify()
		case <-b.suspect:
			b.verify()
		case <-again.C:
			waits = false
			b.lookAgain()
		case <-b.kick:
		}
		for {
			more, err := b.step(ctx)
			if err != nil {
				b.log.Debug("presence not read", "error", err)
				if !wait.Pause(ctx, retryEvery) {
					return
				}
				continue
			}
			if !more {
				break
			}
		}
		if !waits && b.misses() {
			again.Reset(missingFor)
			waits = true
		}
	}
}

// verify has everything read again.
func (b *Board) verify() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, u := range b.users {
		b.todo.users[u] = struct{}{}
		if u.views.len() > 0 {
			b.todo.lists[u] = struct{}{}
		}
	}
}

// lookAgain looks once more for those who were missing.
func (b *Board) lookAgain() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for u := range b.todo.lost {
		b.todo.users[u] = struct{}{}
	}
	for r := range b.todo.emptied {
		b.todo.rooms[r] = struct{}{}
	}
	clear(b.todo.emptied)
}

// misses says whether somebody may be missing in the store.
func (b *Board) misses() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.todo.lost)+len(b.todo.emptied) > 0
}

// step reads one batch of something; more says that there may be more. What
// could not be read is put back.
func (b *Board) step(ctx context.Context) (more bool, err error) {
	b.mu.Lock()
	users := take(b.todo.users, userBatch)
	rooms := take(b.todo.rooms, rosterBatch)
	lists := take(b.todo.lists, listBatch)
	for _, u := range lists {
		u.loading = true
	}
	b.mu.Unlock()
	// Whoever is missing is so before its rooms are without it.
	if err := b.readUsers(ctx, users); err != nil {
		b.putBack(rooms, lists, users)
		return false, err
	}
	if err := b.readRosters(ctx, rooms); err != nil {
		b.putBack(rooms, lists, nil)
		return false, err
	}
	if left, err := b.readLists(ctx, lists); err != nil {
		b.putBack(nil, left, nil)
		return false, err
	}
	return len(rooms)+len(lists)+len(users) > 0, nil
}

func (b *Board) putBack(rooms []*room, lists, users []*user) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range rooms {
		if b.rooms[r.name] == r {
			b.todo.rooms[r] = struct{}{}
		}
	}
	for _, u := range lists {
		u.loading = false
		if u.views.len() > 0 {
			b.todo.lists[u] = struct{}{}
		}
	}
	for _, u := range users {
		if b.users[u.name] == u {
			b.todo.users[u] = struct{}{}
		}
	}
}

func names(users []*user) []string {
	out := make([]string, len(users))
	for i, u := range users {
		out[i] = u.name
	}
	return out
}

func (b *Board) readRosters(ctx context.Context, rooms []*room) error {
	if len(rooms) == 0 {
		return nil
	}
	asked := make([]string, len(rooms))
	for i, r := range rooms {
		asked[i] = r.name
	}
	got, err := b.store.Rosters(ctx, asked)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, r := range rooms {
		if b.rooms[r.name] == r {
			b.rostered(r, got[i])
		}
	}
	return nil
}

// readUsers reads the values of users.
func (b *Board) readUsers(ctx context.Context, users []*user) error {
	got, err := b.store.Presences(ctx, names(users))
	if err != nil {
		return err
	}
	b.Stats.Read.Add(uint64(len(got)))
	now := time.Now()
	var older []string
	b.mu.Lock()
	for i, u := range users {
		switch {
		case b.users[u.name] != u:
		case !u.known || got[i].PV > u.pv:
			b.learn(u, got[i])
		case got[i].PV == 0 && u.value != 0:
			if u.missed.IsZero() {
				u.missed = now
				b.todo.lost[u] = struct{}{}
			} else if now.Sub(u.missed) >= missingFor {
				b.learn(u, store.Presence{User: u.name, PV: u.pv + 1})
			}
		default:
			b.found(u)
			if got[i].PV < u.pv && got[i].Value != u.value {
				older = append(older, u.name)
			}
		}
	}
	b.mu.Unlock()
	if len(older) == 0 {
		return nil
	}
	// It was read a moment too early, or the store has lost what it had said:
	// what it has now counts, under a pv that is new to everybody.
	fresh, err := b.store.Grow(ctx, older)
	if err != nil {
		return err
	}
	for _, p := range fresh {
		b.Presence(p)
	}
	return nil
}
