package store

import (
	"context"
	"errors"
	"slices"

	"github.com/redis/go-redis/v9"
)

// ErrTooManyContacts says that a list of contacts is longer than a user may have.
var ErrTooManyContacts = errors.New("too many contacts")

// contactChunk is how many users one round trip of a change of contacts names.
const contactChunk = 512

// contactsWord is said in a user's inbox when its contacts have changed.
const contactsWord = "c"

// MaxContacts is how many contacts a user may have.
func (s *Store) MaxContacts() int { return s.cfg.MaxContacts }

// ContactCounts reads how many contacts users have, in one round trip. May be
// repeated.
func (s *Store) ContactCounts(ctx context.Context, users []string) ([]int, error) {
	counts, err := readEach(ctx, s, "count contacts", users, func(ctx context.Context, pipe redis.Pipeliner, user string) *redis.IntCmd {
		return pipe.SCard(ctx, keysOfUser(user).contacts())
	})
	out := make([]int, len(counts))
	for i, n := range counts {
		out[i] = int(n.Val())
	}
	return out, err
}

// Contacts reads the contacts of users, in one round trip: of no more than it has
// time for (see ContactCounts). May be repeated.
func (s *Store) Contacts(ctx context.Context, users []string) ([][]string, error) {
	lists, err := readEach(ctx, s, "read contacts", users, func(ctx context.Context, pipe redis.Pipeliner, user string) *redis.StringSliceCmd {
		return pipe.SMembers(ctx, keysOfUser(user).contacts())
	})
	out := make([][]string, len(lists))
	for i, l := range lists {
		out[i] = l.Val()
	}
	return out, err
}

// PutContacts replaces a user's contacts, and tells the nodes that it is
// attached to. A user stands among the watchers of each of its contacts, which
// are kept apart from the list: of two that change it at once the list decides,
// and each mends what the other has done to the watchers. Who dies on the way
// leaves a watcher without a list at most, which is told and passes over it. May
// be repeated.
//
// Errors: ErrTooManyContacts, ErrUnavailable.
func (s *Store) PutContacts(ctx context.Context, user string, contacts []string) error {
	if len(contacts) > s.cfg.MaxContacts {
		return ErrTooManyContacts
	}
	// Before the list, so that nobody stands in it who does not know of it.
	if err := s.watch(ctx, user, contacts, redis.Pipeliner.SAdd); err != nil {
		return err
	}
	own := keysOfUser(user)
	a, err := s.run(ctx, contactsScript, []string{own.contacts()}, toAny(contacts)...)
	if err != nil {
		return err
	}
	if err := s.rewatch(ctx, user, a.list(1), a.list(2)); err != nil {
		return err
	}
	return s.publish(ctx, []string{own.channel()}, contactsWord)
}

// rewatch follows a list that has changed. Another change may have overtaken it:
// whom that has put back is watched again.
func (s *Store) rewatch(ctx context.Context, user string, added, removed []string) error {
	if err := s.watch(ctx, user, removed, redis.Pipeliner.SRem); err != nil {
		return err
	}
	again, err := s.still(ctx, user, removed)
	if err != nil {
		return err
	}
	return s.watch(ctx, user, slices.Concat(added, again), redis.Pipeliner.SAdd)
}

// watch adds a user to the watchers of others, or takes it out.
func (s *Store) watch(ctx context.Context, user string, others []string, how func(redis.Pipeliner, context.Context, string, ...any) *redis.IntCmd) error {
	for some := range slices.Chunk(others, contactChunk) {
		within, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
		pipe := s.rdb.Pipeline()
		for _, other := range some {
			how(pipe, within, keysOfUser(other).watchers(), user)
		}
		_, err := pipe.Exec(within)
		cancel()
		if err != nil {
			return unavailable("change watchers", err)
		}
	}
	return nil
}

// still are those of some users who are in a user's contacts.
func (s *Store) still(ctx context.Context, user string, some []string) ([]string, error) {
	if len(some) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	in, err := s.rdb.SMIsMember(ctx, keysOfUser(user).contacts(), toAny(some)...).Result()
	if err != nil {
		return nil, unavailable("read contacts", err)
	}
	var out []string
	for i, yes := range in {
		if yes {
			out = append(out, some[i])
		}
	}
	return out, nil
}

func toAny(list []string) []any {
	out := make([]any, len(list))
	for i, v := range list {
		out[i] = v
	}
	return out
}
