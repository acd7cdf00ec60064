package fleet

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"godwit/store"
)

// sessionsAtOnce is how many sessions of one user are read, or ended, at a time.
const sessionsAtOnce = 16

// User is how a user stands.
type User struct {
	store.Presence
	Handle   string // 16 hex digits
	Devices  []store.Device
	Sessions []UserSession // by id, which is by age
}

// UserSession is a session of a user's, and the rooms that it is in.
type UserSession struct {
	store.Session
	Rooms []string
}

// User tells of a user; of one that was never seen, that it has nothing.
//
// Errors: Wrong, store.ErrUnavailable.
func (f *Fleet) User(ctx context.Context, name string) (User, error) {
	known, err := f.user(ctx, name)
	if err != nil {
		return User{}, err
	}
	handles, err := f.store.HandlesOf(ctx, []string{name})
	if err != nil {
		return User{}, err
	}
	u := User{Presence: known.Presence, Handle: handles[0].String(), Devices: known.Devices}
	found := make([]UserSession, len(known.Sessions))
	err = each(known.Sessions, func(i int, sid string) error {
		var err error
		found[i].Session, found[i].Rooms, err = f.Session(ctx, sid)
		return err
	})
	if err != nil {
		return User{}, err
	}
	for _, s := range found {
		if s.ID != "" { // else it has ended
			u.Sessions = append(u.Sessions, s)
		}
	}
	return u, nil
}

// SignOut ends each session that a user has, as End does. One that fails keeps
// no other from ending. May be repeated.
//
// Errors: Wrong, store.ErrUnavailable.
func (f *Fleet) SignOut(ctx context.Context, name string) error {
	u, err := f.user(ctx, name)
	if err != nil {
		return err
	}
	return each(u.Sessions, func(_ int, sid string) error { return f.End(ctx, sid) })
}

func (f *Fleet) user(ctx context.Context, name string) (store.User, error) {
	if err := checkUser("the user", name); err != nil {
		return store.User{}, err
	}
	return f.store.User(ctx, name)
}

// each does something with each session of a user, some at once, and passes over
// those that have ended. It returns all that went wrong.
func each(sids []string, do func(i int, sid string) error) error {
	var group errgroup.Group
	group.SetLimit(sessionsAtOnce)
	var mu sync.Mutex
	var wrong []error
	for i, sid := range sids {
		group.Go(func() error {
			if err := do(i, sid); err != nil && !errors.Is(err, ErrNoSession) {
				mu.Lock()
				wrong = append(wrong, fmt.Errorf("session %s: %w", sid, err))
				mu.Unlock()
			}
			return nil
		})
	}
	_ = group.Wait() // each one's error is kept above
	return errors.Join(wrong...)
}
