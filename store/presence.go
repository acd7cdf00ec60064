package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"godwit/rules/presence"
)

// Presence is how present a user is in the eyes of others. PV grows with each
// change; it is 0 for a user of whom nothing is known.
type Presence struct {
	User  string
	Value uint8
	PV    uint64
}

// Attaching is what a session says of its device when it takes it up.
type Attaching struct {
	// Set is what the device is set to now; nil keeps what the store has, and
	// where it has nothing, Last.
	Set  *presence.Set
	Last presence.Set
	// At is when Last was set, as the store said before it lost it; 0: now.
	At int64
	// Rooms that the session is in: those that the user's rooms lack are added.
	Rooms []string
	// Contacts says that the answer names them, too.
	Contacts bool
}

// AttachDevice makes a session's device known at its gen: from then on a lower
// gen is refused. Whoever sees the user is told, if its value changes by that.
// It returns the device and what others see now. May be repeated.
//
// Errors: ErrMoved, ErrGone (the session has ended), ErrUnavailable.
func (s *Store) AttachDevice(ctx context.Context, m Member, a Attaching) (presence.Device, Presence, error) {
	c := deviceCall(m, a)
	answer, err := s.run(ctx, c.script, c.keys, c.args...)
	if err != nil {
		return presence.Device{}, Presence{}, err
	}
	return s.settled(ctx, m.User, answer)
}

// SetPresence sets a session's device, as AttachDevice does, and notes it in the
// session's record. May be repeated.
//
// Errors: ErrMoved, ErrGone, ErrUnavailable.
func (s *Store) SetPresence(ctx context.Context, m Member, set presence.Set) (presence.Device, Presence, error) {
	answers, err := s.runAll(ctx, []call{
		{refreshScript, []string{sessionKey(m.Session)}, []any{m.Gen, "presence", set.Byte()}},
		deviceCall(m, Attaching{Set: &set}),
	})
	if err != nil {
		return presence.Device{}, Presence{}, err
	}
	return s.settled(ctx, m.User, answers[1])
}

func deviceCall(m Member, a Attaching) call {
	set, contacts := "", 0
	if a.Set != nil {
		set = strconv.Itoa(int(a.Set.Byte()))
	}
	if a.Contacts {
		contacts = 1
	}
	u := keysOfUser(m.User)
	args := []any{m.Client, u.channel(), m.User, m.Gen, m.Session, set, a.Last.Byte(), a.At, contacts}
	for _, room := range a.Rooms {
		args = append(args, room)
	}
	return call{deviceScript, append(u.all(m.Client), u.contacts()), args}
}

func (s *Store) partCall(m Member) call {
	u := keysOfUser(m.User)
	return call{partScript, u.all(m.Client), []any{m.Client, u.channel(), m.User, m.Session, 2 * s.cfg.Grace.Milliseconds()}}
}

// part takes the device of a session that ends out, and tells.
func (s *Store) part(ctx context.Context, m Member) error {
	c := s.partCall(m)
	a, err := s.run(ctx, c.script, c.keys, c.args...)
	if err != nil {
		return err
	}
	_, _, err = s.settled(ctx, m.User, a)
	return err
}

// settled reads {how, value, pv, byte, at, said, {room entry...}, {watcher...}}
// and tells of a value that nobody has told of yet, also where ctx has ended: it may
// be a socket's, which went at that moment. A node that dies in between leaves that
// to whoever changes the user's devices next: its sessions do, when they are resumed
// or end.
func (s *Store) settled(ctx context.Context, user string, a answer) (presence.Device, Presence, error) {
	if err := verdict(a); err != nil {
		return presence.Device{}, Presence{}, err
	}
	p := Presence{User: user, Value: uint8(a.uint(1)), PV: a.uint(2)}
	d := presence.Device{Set: presence.Parse(uint8(a.uint(3))), At: int64(a.uint(4))}
	if a.uint(5) >= p.PV {
		return d, p, nil
	}
	return d, p, s.announce(context.WithoutCancel(ctx), p, a.list(6), a.list(7))
}

const (
	// announceChunk is how many channels one call of announce names at most:
	// nobody else is served meanwhile.
	announceChunk = 512
	// announceCalls is how many calls one round trip takes at most.
	announceCalls = 16
)

// announce says a user's value to its rooms, to those who watch it and to
// itself, and notes that they were told: as a rule in one round trip, in a Cluster
// in two.
func (s *Store) announce(ctx context.Context, p Presence, entries, watchers []string) error {
	channels := make([]string, 0, len(entries)+len(watchers)+1)
	for _, entry := range entries {
		_, room, _ := strings.Cut(entry, " ")
		channels = append(channels, keysOfRoom(room).channel())
	}
	slices.Sort(channels) // a room is named once for each device in it
	channels = append(slices.Compact(channels), keysOfUser(p.User).channel())
	for _, w := range watchers {
		if w != p.User {
			channels = append(channels, keysOfUser(w).channel())
		}
	}
	key, text := []string{keysOfUser(p.User).presence()}, presenceText(p)
	if s.cluster != nil {
		// Each by its channel's primary: a room is to hear of it in the order of its entries.
		if err := s.publish(ctx, channels, text); err != nil {
			return err
		}
		_, err := s.run(ctx, saidScript, key, p.PV, text)
		return err
	}
	var calls []call
	for some := range slices.Chunk(channels, announceChunk) {
		calls = append(calls, call{saidScript, key, append([]any{"", text}, toAny(some)...)})
	}
	calls[len(calls)-1].args[0] = p.PV // the last: they go in order
	for some := range slices.Chunk(calls, announceCalls) {
		if _, err := s.runAll(ctx, some); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) publish(ctx context.Context, channels []string, text string) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	pipe := s.rdb.Pipeline()
	for _, ch := range channels {
		s.tell(ctx, pipe, ch, text)
	}
	_, err := pipe.Exec(ctx)
	return unavailable("tell of a user", err)
}

// roomEntry is one of a user's rooms.
func roomEntry(client uint32, room string) string {
	return strconv.FormatUint(uint64(client), 10) + " " + room
}

func presenceText(p Presence) string { return fmt.Sprintf("p %d %d %s", p.PV, p.Value, p.User) }

// parsePresence reads what presenceText writes, after the p.
func parsePresence(s string) (Presence, error) {
	pv, rest, _ := strings.Cut(s, " ")
	value, user, ok := strings.Cut(rest, " ")
	n, err1 := strconv.ParseUint(pv, 10, 64)
	v, err2 := strconv.ParseUint(value, 10, 8)
	if err := errors.Join(err1, err2); err != nil || !ok || user == "" || v > presence.Most {
		return Presence{}, errMessage
	}
	return Presence{User: user, Value: uint8(v), PV: n}, nil
}

// Presences reads how present users are, in one round trip. May be repeated.
func (s *Store) Presences(ctx context.Context, users []string) ([]Presence, error) {
	rows, err := readEach(ctx, s, "read presence", users, func(ctx context.Context, pipe redis.Pipeliner, user string) *redis.SliceCmd {
		return pipe.HMGet(ctx, keysOfUser(user).presence(), "value", "pv")
	})
	out := make([]Presence, len(rows))
	for i, row := range rows {
		v := answer(row.Val())
		out[i] = Presence{User: users[i], Value: uint8(v.uint(0)), PV: v.uint(1)}
	}
	return out, err
}

// Grow reads how present users are, each under a pv at least two higher than
// before: for one who is told of them anew, as when its contacts have changed,
// and for one who is told, a pv below, that it sees them no more. May be repeated.
func (s *Store) Grow(ctx context.Context, users []string) ([]Presence, error) {
	calls := make([]call, len(users))
	for i, user := range users {
		calls[i] = call{growScript, []string{keysOfUser(user).presence()}, nil}
	}
	answers, err := s.runAll(ctx, calls)
	if err != nil {
		return nil, err
	}
	out := make([]Presence, len(users))
	for i, a := range answers {
		out[i] = Presence{User: users[i], Value: uint8(a.uint(1)), PV: a.uint(2)}
	}
	return out, nil
}

// Roster is who is in a room, by user, up to an entry of its log.
type Roster struct {
	Epoch string // empty: there is no such room
	Seq   uint64
	Users map[string]int // devices
}

// Rosters reads who is in some rooms, in one round trip. May be repeated.
func (s *Store) Rosters(ctx context.Context, rooms []string) ([]Roster, error) {
	calls := make([]call, len(rooms))
	for i, room := range rooms {
		k := keysOfRoom(room)
		calls[i] = call{rosterScript, []string{k.meta(), k.users()}, nil}
	}
	answers, err := s.runAll(ctx, calls)
	if err != nil {
		return nil, err
	}
	out := make([]Roster, len(rooms))
	for i, a := range answers {
		out[i] = Roster{Epoch: a.text(1), Seq: a.uint(2), Users: make(map[string]int)}
		for user, n := range a.fields(3) {
			out[i].Users[user], _ = strconv.Atoi(n) // a number: HINCRBY made it
		}
	}
	return out, nil
}
