package store

import (
	"context"
	"errors"
)

// dueHidden is how long a session that a sweep looks at is hidden from other
// sweeps, in ms; one whose sweep died comes up again after that.
const dueHidden = 5000

// earlyAgain is when a sweep looks again at a session that it came to too
// early, in ms.
const earlyAgain = 250

// When says under which condition a session may end.
type When struct {
	mode  string
	owner Ref
	gen   uint64
}

// Conditions of End.
var (
	// IfDue ends a detached session whose grace is over.
	IfDue = When{mode: "due"}
	// Always ends it whatever its state: an operator said so.
	Always = When{mode: "force"}
)

// IfOwn ends a session that is still its owner's at gen: bye, token expired.
func IfOwn(owner Ref, gen uint64) When { return When{mode: "own", owner: owner, gen: gen} }

// End ends a session: its device counts no more, out of every room with one
// leave entry each, its client id given back, its record deleted. reason is what
// the rooms hear. However many try at once and wherever one of them dies, each
// thing happens once: the detached index names the session until the end of its
// end. May be repeated.
//
// Errors: ErrGone, ErrMoved (not the owner's any more), ErrNotDue, ErrUnavailable.
func (s *Store) End(ctx context.Context, sid string, when When, reason string) error {
	if when.mode != IfDue.mode {
		// A sweep comes from the index, so it stands there already.
		if err := s.later(ctx, sid, dueHidden); err != nil {
			return err
		}
	}
	a, err := s.run(ctx, endingScript, []string{sessionKey(sid), sessionRoomsKey(sid)},
		when.mode, reason, when.owner.Node, when.owner.Boot, when.gen)
	if err == nil {
		err = verdict(a)
	}
	if err != nil {
		return err
	}
	switch a.status() {
	case "live":
		return ErrNotDue
	case "early": // the index was wrong; look again soon
		return errors.Join(ErrNotDue, s.later(ctx, sid, earlyAgain))
	}
	r, err := sessionOf(sid, a.fields(1))
	if err != nil {
		return err
	}
	// Before it leaves: who sees its user by a room alone is still told.
	if err := s.part(ctx, r.Member()); err != nil {
		return err
	}
	for _, room := range a.list(2) {
		head, err := s.Leave(ctx, room, r.Member(), Known{}, r.Reason, true)
		if err == nil {
			// Nobody follows the room for this session, to say its head again: a
			// node that lost the leave learns of it by this second message.
			err = s.Announce(ctx, room, head.Epoch, head.Seq)
		}
		if err != nil && !errors.Is(err, ErrNotMember) && !errors.Is(err, ErrWiped) {
			return err
		}
	}
	if _, err := s.run(ctx, unroomScript, []string{keysOfUser(r.User).rooms()}, r.Client); err != nil {
		return err
	}
	if _, err := s.run(ctx, unclaimScript, []string{clientKey(r.Client)}, sid); err != nil {
		return err
	}
	// The record before the lists that name it: who dies in between leaves a
	// name without a record, which a sweep forgets.
	if err := s.forget(ctx, sid); err != nil {
		return err
	}
	if err := s.Disown(ctx, r.Owner, sid); err != nil {
		return err
	}
	return s.unlist(ctx, sid)
}

// ErrNotDue says that a session is live, or its grace not over.
var ErrNotDue = errors.New("session not due")

func (s *Store) forget(ctx context.Context, sid string) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	return unavailable("delete session", s.rdb.Del(ctx, sessionKey(sid), sessionRoomsKey(sid), redirectKey(sid)).Err())
}

func (s *Store) unlist(ctx context.Context, sid string) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	return unavailable("unlist session", s.rdb.ZRem(ctx, detachedKey(shardOf(sid)), sid).Err())
}

// Due is what one look at the detached index found.
type Due struct {
	shard    int
	score    string
	Sessions []string
}

// DueSessions hands out sessions of every shard whose time has come, at most
// most a shard. Settle each one; what is not settled comes up again. A shard whose
// primary is away, in a Cluster, is passed over.
func (s *Store) DueSessions(ctx context.Context, most int) ([]Due, error) {
	calls := make([]call, Shards)
	for i := range calls {
		calls[i] = call{dueScript, []string{detachedKey(i)}, []any{most, dueHidden}}
	}
	answers, err := s.runSome(ctx, calls)
	if err != nil {
		return nil, err
	}
	var out []Due
	for i, a := range answers {
		if len(a) < 2 {
			continue
		}
		d := Due{shard: i, score: a.text(0)}
		for j := 1; j < len(a); j++ {
			d.Sessions = append(d.Sessions, a.text(j))
		}
		out = append(out, d)
	}
	return out, nil
}

// Settle takes a session that needs no further look out of the index.
func (s *Store) Settle(ctx context.Context, d Due, sid string) error {
	_, err := s.run(ctx, settleScript, []string{detachedKey(d.shard)}, sid, d.score)
	return err
}
