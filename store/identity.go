package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"godwit/rules/handle"
)

const (
	// ClaimTTL is how long a claimed client id stands without being renewed.
	// It only has to outlast the renewal and any grace: a session's end gives
	// the id back.
	ClaimTTL = 2 * time.Hour
	// HandleTTL is how long a handle stays a user's without a session.
	HandleTTL = 90 * 24 * time.Hour
	// attempts bounds the draws for a free client id and the hashes for a
	// free handle: with a billion sessions live the first is free 3 times of 4.
	attempts = 64
)

// UserOf is the user that a handle belongs to, or "" if nobody registered it.
// May be repeated.
func (s *Store) UserOf(ctx context.Context, h handle.Handle) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	user, err := s.rdb.Get(ctx, handleKey(h.String())).Result()
	if errors.Is(err, redis.Nil) {
		return "", nil
	}
	return user, unavailable("read handle", err)
}

// HandlesOf are the handles of users, in their order. One who never logged in has
// the first that its name gives. May be repeated.
func (s *Store) HandlesOf(ctx context.Context, users []string) ([]handle.Handle, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	out, drafts := make([]handle.Handle, len(users)), make([]handle.Candidate, len(users))
	open := make([]int, len(users)) // whose handle is not known
	for i, user := range users {
		open[i], drafts[i] = i, handle.First(user)
		out[i] = drafts[i].Handle()
	}
	for range attempts {
		if len(open) == 0 {
			return out, nil
		}
		pipe := s.rdb.Pipeline()
		owners := make([]*redis.StringCmd, len(open))
		for k, i := range open {
			owners[k] = pipe.Get(ctx, handleKey(drafts[i].Handle().String()))
		}
		if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
			return nil, unavailable("read handles", err)
		}
		var taken []int
		for k, i := range open {
			switch owners[k].Val() {
			case users[i]:
				out[i] = drafts[i].Handle()
			case "": // it is not registered
			default:
				drafts[i] = drafts[i].Next()
				taken = append(taken, i)
			}
		}
		open = taken
	}
	return out, nil
}

// Identity is what Begin has given a session.
type Identity struct {
	Session string
	User    string
	Client  uint32
	Handle  string // 16 hex digits
}

// Reclaim writes the client ids and handles of live sessions again, after a
// wipe and to keep them from expiring. May be repeated.
func (s *Store) Reclaim(ctx context.Context, all []Identity) error {
	if len(all) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	pipe := s.rdb.Pipeline()
	for _, id := range all {
		pipe.SetNX(ctx, clientKey(id.Client), id.Session, ClaimTTL)
		pipe.Expire(ctx, clientKey(id.Client), ClaimTTL)
		pipe.SetNX(ctx, handleKey(id.Handle), id.User, HandleTTL)
		pipe.Expire(ctx, handleKey(id.Handle), HandleTTL)
	}
	_, err := pipe.Exec(ctx)
	return unavailable("renew client ids", err)
}

// HashSecret is how a resume secret is stored.
func HashSecret(secret string) string {
	sum := sha256.Sum256([]byte("godwit resume " + secret))
	return fmt.Sprintf("%x", sum)
}
