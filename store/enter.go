package store

import (
	"context"
	"errors"
)

// Admit has a member enter a room and join it: in one round trip, but in a Cluster.
// A session that has moved does not come as far as the join, for a room cannot
// tell that a client which is not in it has moved. May be repeated.
//
// Errors: those of Enter and of Join.
func (s *Store) Admit(ctx context.Context, room string, m Member, known Known, most int) (Room, error) {
	r, entered, err := s.admit(ctx, room, m, known, most)
	if entered && err != nil && !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrMoved) {
		// Refused: the record must not go on naming the room. Where that fails
		// too, attach finds no row and forgets it. Of a session that has moved
		// the record is another's, who may have joined.
		if gone := s.Exit(ctx, m, room); gone != nil {
			s.cfg.Logger.Debug("room not taken off the session", "session", m.Session, "error", gone)
		}
	}
	return r, err
}

// admit is Admit; entered says that the record names the room.
func (s *Store) admit(ctx context.Context, room string, m Member, known Known, most int) (r Room, entered bool, err error) {
	if s.cluster != nil {
		if err := s.Enter(ctx, m, room, most); err != nil {
			return Room{}, false, err
		}
		r, err := s.Join(ctx, room, m, known)
		return r, true, err
	}
	join, err := s.joinCall(room, m, known, s.cfg.MaxMembers)
	if err != nil {
		return Room{}, false, err
	}
	a, err := s.lane(room).do(ctx, linked(enterJoin, append(enterCalls(m, room, most), indexCall(room), join)))
	if err != nil {
		return Room{}, false, err
	}
	steps := links(a)
	if entered = len(steps) > 1; len(steps) < 4 {
		return Room{}, entered, verdict(last(steps))
	}
	r, err = joined(last(steps), known)
	return r, true, err
}

// enterCalls note a room in a session's record, and then with its user's rooms.
func enterCalls(m Member, room string, most int) []call {
	u := keysOfUser(m.User)
	return []call{
		{enterScript, []string{sessionKey(m.Session), sessionRoomsKey(m.Session)}, []any{m.Gen, room, most}},
		{noteScript, []string{u.rooms(), u.gone(m.Client)}, []any{roomEntry(m.Client, room)}},
	}
}

// Enter notes in a session's record that it is about to join a room, of which
// it may have most, and with its user's rooms. May be repeated.
//
// Errors: ErrMoved, ErrGone, ErrTooManyRooms, ErrUnavailable.
func (s *Store) Enter(ctx context.Context, m Member, room string, most int) error {
	answers, err := s.runAll(ctx, enterCalls(m, room, most))
	if err != nil {
		return err
	}
	err = verdict(answers[0])
	if errors.Is(err, ErrTooManyRooms) { // and of nobody who asks for ever more
		return errors.Join(err, s.unnote(ctx, room, m))
	}
	return err
}

// unnote takes a room off its users'.
func (s *Store) unnote(ctx context.Context, room string, members ...Member) error {
	if len(members) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	pipe := s.rdb.Pipeline()
	for _, m := range members {
		pipe.SRem(ctx, keysOfUser(m.User).rooms(), roomEntry(m.Client, room))
	}
	_, err := pipe.Exec(ctx)
	return unavailable("leave users' rooms", err)
}

// Exit takes a room off a session's record and its user's rooms, after it has
// left. Of a member without a gen, whose session may be held by a node, only that
// node does so. May be repeated.
//
// Errors: ErrMoved (nothing to do), ErrUnavailable.
func (s *Store) Exit(ctx context.Context, m Member, room string) error {
	n, err := s.exit(ctx, room, m)
	if err == nil && n == 0 {
		return ErrMoved
	}
	return err
}

// exit is Exit for many. It returns of how many the room was taken off.
func (s *Store) exit(ctx context.Context, room string, members ...Member) (int, error) {
	calls := make([]call, len(members))
	for i, m := range members {
		calls[i] = call{exitScript, []string{sessionKey(m.Session), sessionRoomsKey(m.Session)}, []any{m.Gen, room}}
	}
	answers, err := s.runAll(ctx, calls)
	if err != nil {
		return 0, err
	}
	var out []Member
	for i, a := range answers {
		if a.status() == "ok" {
			out = append(out, members[i])
		}
	}
	return len(out), s.unnote(ctx, room, out...)
}
