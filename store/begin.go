package store

import (
	"context"
	"errors"
	"math/rand/v2"

	"godwit/rules/handle"
	"godwit/rules/presence"
)

// Begun is a session that was begun.
type Begun struct {
	Session
	Device presence.Device
	// Self is how present its user is.
	Self     Presence
	Contacts []string
}

// Begin opens a session: it claims a client id, never 0, registers its user's
// handle, lists the session under its owner, by which a sweep finds it, and writes
// its record, and then its device, if it is one, of which whoever sees the user is
// told. r has no client id and no handle yet, and what its device begins with is
// its Presence. In one round trip, but in a Cluster, and but for those to be told.
//
// On an error begun says whether the session may be there all the same, to be
// ended: not known on a single server that did not answer. What died on the way is
// found by the owner, or by a sweep.
//
// Errors: ErrMoved, ErrGone (somebody ended it meanwhile), ErrUnavailable.
func (s *Store) Begin(ctx context.Context, r Session) (b Begun, begun bool, err error) {
	draft := handle.First(r.User)
	r.Client = 0
	for range attempts {
		for r.Client == 0 {
			r.Client = rand.Uint32()
		}
		r.Handle = draft.Handle().String()
		steps, err := s.begin(ctx, r)
		switch {
		case len(steps) == 1 && steps[0].status() == "owned":
			r.Client = 0
			continue
		case len(steps) == 2 && steps[1].status() == "owned":
			draft = draft.Next()
			continue
		}
		// The record is written by the fourth, or nobody knows what was done.
		begun := len(steps) > 3 || err != nil && (s.cluster == nil || len(steps) == 3)
		if err == nil {
			err = verdict(last(steps))
		}
		if err != nil || !r.HasDevice() {
			return Begun{Session: r}, begun, err
		}
		a := last(steps)
		device, self, err := s.settled(ctx, r.User, a)
		return Begun{Session: r, Device: device, Self: self, Contacts: a.list(8)}, begun, err
	}
	return Begun{}, false, errors.New("no free client id or handle: the store holds too many")
}

func (s *Store) begin(ctx context.Context, r Session) ([]answer, error) {
	create, err := createCall(r, nil)
	if err != nil {
		return nil, err
	}
	calls := []call{
		{reserveScript, []string{clientKey(r.Client)}, []any{r.ID, int(ClaimTTL.Seconds())}},
		{handleScript, []string{handleKey(r.Handle)}, []any{r.User, int(HandleTTL.Seconds())}},
		{ownScript, []string{r.Owner.sessionsKey()}, []any{r.ID}},
		create,
	}
	if !r.HasDevice() {
		return s.chain(ctx, beginPlain, append(calls, noteSession(r))...)
	}
	device := deviceCall(r.Member(), Attaching{Last: presence.Parse(r.Presence), Contacts: true})
	return s.chain(ctx, beginDevice, append(calls, device)...)
}

// noteSession lists a session that is no device with its user. It goes after the
// record: of a name without one, nobody would take it out.
func noteSession(r Session) call {
	u := keysOfUser(r.User)
	return call{noteScript, []string{u.sessions(), u.gone(r.Client)}, []any{r.ID}}
}
