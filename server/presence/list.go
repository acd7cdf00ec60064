package presence

import (
	"context"
	"slices"

	"godwit/store"
	"godwit/wire"
)

// listMembers is how many contacts one round trip reads, or of one user as many as
// it has.
const listMembers = 10_000

// readLists reads the contacts of users who are attached here. It returns those
// whose are still to be read, with why.
func (b *Board) readLists(ctx context.Context, users []*user) (left []*user, err error) {
	counts, err := b.store.ContactCounts(ctx, names(users))
	if err != nil {
		return users, err
	}
	for len(users) > 0 {
		n, members := 0, 0
		for n < len(users) && (n == 0 || members+counts[n] <= listMembers) {
			members += counts[n]
			n++
		}
		got, err := b.store.Contacts(ctx, names(users[:n]))
		if err != nil {
			return users, err
		}
		for i, u := range users[:n] {
			if err := b.relist(ctx, u, got[i]); err != nil {
				return users[i:], err
			}
		}
		users, counts = users[n:], counts[n:]
	}
	return nil, nil
}

// relist takes the contacts that a user has now. Only the loader does.
func (b *Board) relist(ctx context.Context, u *user, names []string) error {
	b.mu.Lock()
	added, removed, first := b.differs(u, names)
	b.mu.Unlock()
	var fresh map[string]store.Presence
	if changed := append(added, removed...); !first && len(changed) > 0 {
		// What is told of them must be newer than what was told before.
		fresh = make(map[string]store.Presence, len(changed))
		for some := range slices.Chunk(changed, userBatch) {
			got, err := b.store.Grow(ctx, some)
			if err != nil {
				return err
			}
			for _, p := range got {
				fresh[p.User] = p
			}
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	u.loading = false
	if u.views.len() == 0 {
		return nil // gone meanwhile
	}
	if !u.read {
		added, removed = names, nil // for the first time, or gone and back meanwhile
	}
	for _, name := range removed {
		b.unlist(u, b.users[name], fresh[name])
	}
	b.enlist(u, added, fresh)
	return nil
}

// enlist adds to a user's contacts; fresh are values that were just read. Called
// with mu held.
func (b *Board) enlist(u *user, added []string, fresh map[string]store.Presence) {
	u.read = true
	if u.list == nil && len(added) > 0 {
		u.list = make(map[*user]struct{}, len(added))
	}
	for _, name := range added {
		c := b.user(name)
		if p, ok := fresh[name]; ok {
			b.learn(c, p)
		}
		if _, there := u.list[c]; there || c == u {
			continue
		}
		found := blind(&u.views, c)
		u.list[c] = struct{}{}
		if c.fans == nil {
			c.fans = make(map[*user]struct{}, 1)
		}
		c.fans[u] = struct{}{}
		for _, v := range found {
			b.show(v, c)
		}
	}
	if u.listed != nil {
		close(u.listed)
		u.listed = nil
	}
}

// differs is what a list of contacts adds to the one that is known and takes
// from it; first says that none is. Called with mu held.
func (b *Board) differs(u *user, names []string) (added, removed []string, first bool) {
	if !u.read {
		return nil, nil, true
	}
	now := make(map[string]bool, len(names))
	for _, name := range names {
		now[name] = true
		if c := b.users[name]; name != u.name {
			if _, there := u.list[c]; c == nil || !there {
				added = append(added, name)
			}
		}
	}
	for c := range u.list {
		if !now[c.name] {
			removed = append(removed, c.name)
		}
	}
	return added, removed, false
}

// unlist takes a contact off a user's: whoever sees it by nothing else is told
// that it is offline. Called with mu held.
func (b *Board) unlist(u, c *user, fresh store.Presence) {
	if c == nil {
		return
	}
	if _, there := u.list[c]; !there {
		return
	}
	told := c.known && c.value != 0
	delete(u.list, c)
	delete(c.fans, u)
	if told && fresh.PV <= c.pv {
		// A change has overtaken it, or the store has lost what it knew: what was
		// told last still holds, and what follows must be newer all the same.
		fresh = store.Presence{User: c.name, Value: c.value, PV: c.pv + 2}
	}
	b.learn(c, fresh) // the others, of what it is now
	if told {
		// Below its pv: who comes to see it again, by a room, is told that.
		p := &wire.Presence{User: c.name, PV: c.pv - 1}
		for _, v := range blind(&u.views, c) {
			v.tell(p, false)
		}
	}
	b.forget(c)
}
