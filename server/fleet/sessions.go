package fleet

import (
	"context"
	"errors"
	"fmt"

	"godwit/store"
	"godwit/wire"
)

// Session tells of one session, and the rooms that it is in.
//
// Errors: ErrNoSession, store.ErrUnavailable.
func (f *Fleet) Session(ctx context.Context, sid string) (store.Session, []string, error) {
	rec, rooms, err := f.store.Peek(ctx, sid)
	return rec, rooms, ofSession(sid, err)
}

// ofSession is the store's error about a session, as operators hear of it.
func ofSession(sid string, err error) error {
	if errors.Is(err, store.ErrGone) {
		return fmt.Errorf("%w: %s", ErrNoSession, sid)
	}
	return err
}

// End ends a session: out of its rooms, and its socket is closed.
//
// Errors: ErrNoSession, store.ErrUnavailable.
func (f *Fleet) End(ctx context.Context, sid string) error {
	rec, _, err := f.Session(ctx, sid)
	if err != nil {
		return err
	}
	tell := func() {
		if rec.State == store.StateLive {
			_ = f.store.Tell(ctx, rec.Owner, store.Word{What: store.WordEnded, Session: sid})
		}
	}
	tell() // before: whoever finds it gone in the middle of its end has to know why
	if err := f.store.End(ctx, sid, store.Always, wire.LeftKicked); err != nil {
		return ofSession(sid, err)
	}
	tell() // if this is lost, the node finds out by itself, a while later
	return nil
}
