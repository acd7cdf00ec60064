package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// IdempotencyTTL is how long a room remembers what was said under a key.
const IdempotencyTTL = 24 * time.Hour

var (
	// ErrMismatch says that an idempotency key was used for something else.
	ErrMismatch = errors.New("idempotency key was used for another message")
	// ErrEmpty says that a room has no member.
	ErrEmpty = errors.New("room has no member")
)

// Say appends a message of the system's to a room: d's addressee, type and
// data. With a key, a repeat within IdempotencyTTL appends nothing and says
// Dup; without one do not repeat it.
//
// Errors: ErrWiped (there is no such room), ErrNoRecipient, ErrMismatch, ErrUnavailable.
func (s *Store) Say(ctx context.Context, room, key string, d Draft) (Sent, error) {
	header, err := Header{Kind: "message", ToUser: d.ToUser, ToClient: d.ToClient, Type: d.Type}.encode()
	if err != nil {
		return Sent{}, err
	}
	toUser, toClient := d.to()
	sum := sha256.Sum256(append([]byte(header), d.Data...))
	remember := int64(0)
	if key != "" {
		remember = IdempotencyTTL.Milliseconds()
	}
	c := s.roomCall(sayScript, room, Known{}, toUser, toClient, header, d.Data, hex.EncodeToString(sum[:16]), remember)
	c.keys = append(c.keys, keysOfRoom(room).said(key))
	a, err := s.lane(room).do(ctx, c)
	if err == nil {
		err = verdict(a)
	}
	switch {
	case err != nil:
		return Sent{}, err
	case a.status() == "mismatch":
		return Sent{}, ErrMismatch
	case a.status() == "dup":
		return Sent{Seq: a.uint(1), TS: int64(a.uint(2)), Dup: true}, nil
	}
	sent := Sent{Epoch: a.text(1), Seq: a.uint(2), TS: int64(a.uint(3))}
	s.tidy(room, s.Announce(ctx, room, sent.Epoch, sent.Seq))
	return sent, nil
}

// Kick puts a client out of a room. Its session stays, and may join again. May
// be repeated.
//
// Errors: ErrNotMember, ErrWiped, ErrUnavailable.
func (s *Store) Kick(ctx context.Context, room string, client uint32) error {
	m, err := s.member(ctx, room, client)
	if err != nil {
		return err
	}
	m.Gen = 0 // whatever the row's
	head, err := s.Leave(ctx, room, m, Known{}, "kicked", false)
	if err != nil {
		return err
	}
	_, err = s.exit(ctx, room, m)
	s.tidy(room, err, s.Announce(ctx, room, head.Epoch, head.Seq))
	return nil
}

// tidy notes what failed of that which may as well not be done: nobody follows
// the room for the system, to say its head again, and a session may list a room
// that it is not in. Of one that a node holds, the node takes the room off the
// list: whoever is put out may be in it again by then, and only the node can tell.
func (s *Store) tidy(room string, errs ...error) {
	if err := errors.Join(errs...); err != nil {
		s.cfg.Logger.Debug("not all was tidied", "room", room, "error", err)
	}
}

func (s *Store) member(ctx context.Context, room string, client uint32) (Member, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	field := uintText(client)
	row, err := s.rdb.HGet(ctx, keysOfRoom(room).members(), field).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return Member{}, ErrNotMember
	case err != nil:
		return Member{}, unavailable("read member", err)
	}
	return parseRow(field, row)
}

// CloseRoom puts every member out of a room, with one entry for all. May be repeated.
//
// Errors: ErrEmpty, ErrWiped, ErrUnavailable.
func (s *Store) CloseRoom(ctx context.Context, room string) error {
	header, err := Header{Kind: "leave", Reason: "closed"}.encode()
	if err != nil {
		return err
	}
	a, err := s.lane(room).do(ctx, s.roomCall(closeScript, room, Known{}, header, s.cfg.LogTTL.Milliseconds()))
	if err == nil {
		err = verdict(a)
	}
	switch {
	case err != nil:
		return err
	case a.status() == "empty":
		return ErrEmpty
	}
	rows := a.list(3)
	var members []Member
	for i := 0; i+1 < len(rows); i += 2 {
		if m, err := parseRow(rows[i], rows[i+1]); err == nil {
			m.Gen = 0
			members = append(members, m)
		}
	}
	_, err = s.exit(ctx, room, members...)
	s.tidy(room, err, s.Announce(ctx, room, a.text(1), a.uint(2)))
	return nil
}
