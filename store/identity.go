package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// ClaimTTL is how long a claimed client id stands without being renewed.
	// It only has to outlast the renewal and any grace: a session's end gives
	// the id back.
	ClaimTTL = 2 * time.Hour
	// HandleTTL is how long a handle stays a user's without a login.
	HandleTTL = 90 * 24 * time.Hour
	// attempts bounds the draws for a free client id and the hashes for a
	// free handle: with a billion sessions live the first is free 3 times of 4.
	attempts = 64
)

// Identify claims a client id for a session and registers the user's handle.
// It returns the client id, never 0, and the handle as 16 hex digits. May be
// repeated.
func (s *Store) Identify(ctx context.Context, sid, user string) (uint32, string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	handle := firstHandle(user)
	registered, client := false, uint32(0)
	for range attempts {
		draw := client
		for draw == 0 {
			draw = rand.Uint32()
		}
		pipe := s.rdb.Pipeline()
		var claim *redis.BoolCmd
		if client == 0 {
			claim = pipe.SetNX(ctx, clientKey(draw), sid, ClaimTTL)
		}
		key := handleKey(hex.EncodeToString(handle[:8]))
		pipe.SetNX(ctx, key, user, HandleTTL)
		owner := pipe.Get(ctx, key)
		if _, err := pipe.Exec(ctx); err != nil {
			return 0, "", unavailable("claim client id", err)
		}
		if claim == nil || claim.Val() {
			client = draw
		}
		if registered = owner.Val() == user; !registered {
			handle = nextHandle(handle)
		}
		if client != 0 && registered {
			pipe := s.rdb.Pipeline()
			pipe.Expire(ctx, key, HandleTTL)
			_, err := pipe.Exec(ctx)
			return client, hex.EncodeToString(handle[:8]), unavailable("renew handle", err)
		}
	}
	return 0, "", errors.New("no free client id or handle: the store holds too many")
}

// firstHandle and nextHandle draw the candidates for a user's handle: the
// first 8 bytes of SHA-256 of the name, then of that hash, never all zero.
func firstHandle(user string) [32]byte { return nonZero(sha256.Sum256([]byte(user))) }

func nextHandle(h [32]byte) [32]byte { return nonZero(sha256.Sum256(h[:])) }

func nonZero(h [32]byte) [32]byte {
	for [8]byte(h[:8]) == ([8]byte{}) {
		h = sha256.Sum256(h[:])
	}
	return h
}

// Reclaim writes the client ids of live sessions again, after a wipe and to
// keep them from expiring. clients maps a client id to its session.
func (s *Store) Reclaim(ctx context.Context, clients map[uint32]string) error {
	if len(clients) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	pipe := s.rdb.Pipeline()
	for client, sid := range clients {
		pipe.SetNX(ctx, clientKey(client), sid, ClaimTTL)
		pipe.Expire(ctx, clientKey(client), ClaimTTL)
	}
	_, err := pipe.Exec(ctx)
	return unavailable("renew client ids", err)
}

// HashSecret is how a resume secret is stored.
func HashSecret(secret string) string {
	sum := sha256.Sum256([]byte("godwit resume " + secret))
	return fmt.Sprintf("%x", sum)
}
