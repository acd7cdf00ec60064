package store

import (
	"context"
	"errors"
	"strconv"

	"godwit/rules/presence"
)

// Return is a room that a session comes back to.
type Return struct {
	Room string
	// Known is what the node knows of it; or only the epoch in which the client has
	// a position.
	Known Known
	// After is the position: the client has everything up to it. Nil: it has none.
	After *uint64
	// Open says that it may read what was before its join.
	Open bool
}

// Returned is how a room stands for a session that came back.
type Returned struct {
	Room
	// Goes says that the client may go on after From: its position, or its join
	// if that is later.
	Goes bool
	From uint64
	Span // around From
	// Err is why the session is not in the room: ErrMoved, ErrNotMember, ErrWiped.
	Err error
}

// Regained is what a session has again.
type Regained struct {
	Device presence.Device
	// Self is how present its user is.
	Self     Presence
	Contacts []string
	Rooms    []Returned // in the order in which they were asked for
}

// Departed is the node that a session was taken from.
type Departed struct {
	Node Ref
	Word *Word // that it is told; nil: none
}

// Regain makes a session's gen known to its device, if there is one to attach, and
// to its rooms, in one round trip: from then on a lower gen is refused. Whoever sees
// the user is told, if its value changes by that. The node that had the session, if
// there is one, is told so, and the session taken off its list; both may be lost: it
// finds out at its next write or look. May be repeated.
//
// Errors: ErrMoved, ErrGone (of the device), ErrUnavailable.
func (s *Store) Regain(ctx context.Context, m Member, device *Attaching, rooms []Return, from *Departed) (Regained, error) {
	calls := make([]call, 0, len(rooms)+2)
	for _, r := range rooms {
		calls = append(calls, s.attachCall(m, r, false))
	}
	if device != nil {
		calls = append(calls, deviceCall(m, *device))
	}
	var err error
	switch {
	case from == nil:
	case s.cluster != nil: // where it has a slot of its own, which may be away
		s.departed(ctx, m.Session, *from)
	default:
		if calls, err = withDeparture(calls, m.Session, *from); err != nil {
			return Regained{}, err
		}
	}
	answers, err := s.runAll(ctx, calls)
	if err != nil {
		return Regained{}, err
	}
	out := Regained{Rooms: make([]Returned, len(rooms))}
	for i := range rooms {
		out.Rooms[i] = s.returned(answers[i], rooms[i].Known)
	}
	if device != nil {
		a := answers[len(rooms)]
		if out.Device, out.Self, err = s.settled(ctx, m.User, a); err != nil {
			return Regained{}, err
		}
		out.Contacts = a.list(8)
	}
	return out, nil
}

func withDeparture(calls []call, sid string, from Departed) ([]call, error) {
	word := ""
	if from.Word != nil {
		var err error
		if word, err = from.Word.encode(); err != nil {
			return nil, err
		}
	}
	return append(calls, disownCall(from.Node, sid, word)), nil
}

// departed is what withDeparture does, in a Cluster.
func (s *Store) departed(ctx context.Context, sid string, from Departed) {
	var told error
	if from.Word != nil {
		told = s.Tell(ctx, from.Node, *from.Word)
	}
	if err := errors.Join(told, s.Disown(ctx, from.Node, sid)); err != nil {
		s.cfg.Logger.Debug("session not taken off its old owner", "session", sid, "error", err)
	}
}

// returned reads what attach answers.
func (s *Store) returned(a answer, known Known) (r Returned) {
	if r.Err = roomVerdict(a, known); r.Err == nil {
		r.Room, r.Err = roomOf(a)
	}
	if r.Err != nil || a.text(9) == "" {
		return r
	}
	r.Goes, r.From = true, a.uint(9)
	oldest := uint64(max(0, s.oldest()))
	if ts := a.uint(10); a.text(10) != "" && ts >= oldest {
		r.TS = int64(ts)
	}
	r.Next = a.text(11) != "" && a.uint(11) >= oldest
	return r
}

func (s *Store) attachCall(m Member, r Return, members bool) call {
	told, after, open := 0, "", 0
	if members {
		told = MembersTold
	}
	if r.After != nil {
		after = strconv.FormatUint(*r.After, 10)
	}
	if r.Open {
		open = 1
	}
	c := s.roomCall(attachScript, r.Room, r.Known, m.Client, m.Gen, told, 2*s.cfg.Grace.Milliseconds(), after, open)
	c.keys = append(c.keys, keysOfRoom(r.Room).absent(m.Client))
	return c
}
