package session

import (
	"context"
	"errors"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"godwit/rules/glob"
	"godwit/rules/redirect"
	"godwit/store"
	"godwit/wire"
)

// method is one entry of the dispatch table: it runs one request to its end.
type method func(s *Session, ctx context.Context, params jsontext.Value) Reply

// methods are the requests of an attached session. room.send and call.beat are
// not here: they do not wait for their answers.
var methods = map[string]method{
	"hello.refresh": (*Session).refresh,
	"bye":           (*Session).bye,
	"room.join":     (*Session).join,
	"room.leave":    (*Session).leave,
	"room.history":  (*Session).history,
	"room.info":     (*Session).info,
	"presence.set":  (*Session).setPresence,

	"handover.done":    (*Session).handoverDone,
	"redirect.refuse":  (*Session).refuse,
	"redirect.request": (*Session).request,
}

// Call runs one request. Requests are handed in one after the other by the
// socket's reader; Call returns when the next may come. done is called exactly
// once: for room.send and call.beat maybe later, from another goroutine. Sends to
// one room are under way together; any other request waits for them, so requests
// take effect in the order in which they came.
func (s *Session) Call(ctx context.Context, name string, params jsontext.Value, done func(Reply)) {
	if err := s.Count(); err != nil {
		done(s.answered(name, Reply{Err: err}))
		return
	}
	if name == "room.send" {
		s.send(ctx, params, done)
		return
	}
	s.land()
	if name == "call.beat" {
		s.beat(ctx, params, done)
		return
	}
	run, ok := methods[name]
	if !ok {
		done(s.answered(name, Reply{Err: wire.ErrMethod(name)}))
		return
	}
	done(s.answered(name, run(s, ctx, params)))
}

// Count takes account of one request, as Call does, and says why it is not
// served. A way in that calls Post counts first, and says what it has Refused.
func (s *Session) Count() *wire.Error {
	if ok, after := s.bucket.Take(time.Now()); !ok {
		return wire.ErrRateLimited(after)
	}
	return s.ended()
}

// ended is why what still comes is not served: the session is over, or another
// socket's.
func (s *Session) ended() *wire.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.move.State() >= redirect.Fenced:
		return movedAway()
	case s.over:
		return wire.Errorf(wire.NoSession, "the session has ended; say hello again")
	}
	return nil
}

// fail turns an error of the store into what the client is told, before what the
// error says of its session closes its socket.
func (s *Session) fail(what string, err error) Reply {
	var gap *store.GapError
	switch {
	case errors.As(err, &gap):
		return Reply{Err: wire.ErrGap(gap.Expect)}
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrWiped):
		s.door.Log.Debug("request unavailable", "method", what, "session", s.id, "error", err)
		return Reply{Err: wire.ErrUnavailable()}
	case errors.Is(err, store.ErrMoved):
		return Reply{Err: movedAway(), After: s.suspect}
	case errors.Is(err, store.ErrGone):
		return Reply{Err: wire.Errorf(wire.NoSession, "the session has ended; say hello again"), After: s.suspect}
	case errors.Is(err, store.ErrNotMember):
		return Reply{Err: notMember(), After: func() { s.door.Leaving.Suspect(s) }}
	case errors.Is(err, store.ErrNoRecipient):
		return Reply{Err: wire.Errorf(wire.NoRecipient, "nobody who is addressed is in the room")}
	case errors.Is(err, store.ErrRoomFull):
		return Reply{Err: wire.Errorf(wire.RoomFull, "the room has no place left")}
	case errors.Is(err, store.ErrTooManyRooms):
		return Reply{Err: wire.Errorf(wire.TooManyRooms, "at most %d rooms a session; leave one first", s.door.Config.Rooms)}
	}
	s.door.Log.Error("request failed", "method", what, "session", s.id, "error", err)
	return Reply{Err: wire.ErrInternal()}
}

func notMember() *wire.Error {
	return wire.Errorf(wire.NotMember, "not a member of the room; join it first")
}

// place finds the session's place in a room.
func (s *Session) place(room string) *place {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.places.of(room)
}

// allowed says whether the token allows the room.
func (s *Session) allowed(room string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record.Globs == nil || glob.MatchAny(s.record.Globs, room)
}

// open says whether a room's past is open to every member.
func (d *Door) open(room string) bool { return glob.MatchAny(d.Config.History, room) }

// refresh takes a new token of the same user.
func (s *Session) refresh(ctx context.Context, params jsontext.Value) Reply {
	var p wire.Refresh
	if err := wire.Decode(params, &p); err != nil {
		return Reply{Err: err}
	}
	claims, err := s.door.Verifier.Verify(ctx, p.Token)
	if err != nil {
		return Reply{Err: refused(err)}
	}
	if claims.User != s.who.User {
		return Reply{Err: wire.Errorf(wire.Unauthorized, "the token is another user's")}
	}
	if s.door.Fenced() {
		return Reply{Err: wire.ErrUnavailable()}
	}
	s.mu.Lock()
	s.renews = true
	s.mu.Unlock()
	err = s.door.Store.Refresh(ctx, s.id, s.Gen(), claims.Expires, claims.Rooms)
	s.mu.Lock()
	if s.renews = false; err == nil {
		s.record.Expires, s.record.Globs = claims.Expires, claims.Rooms
	}
	s.mu.Unlock()
	if err != nil {
		return s.fail("hello.refresh", err)
	}
	s.sock.Sooner()
	return Reply{Result: wire.Refreshed{ExpiresInMS: time.Until(claims.Expires).Milliseconds()}}
}

// renewsLook is how soon a session is looked at again whose new token is on its way.
const renewsLook = 200 * time.Millisecond

// Due ends a session whose token has expired, and returns when to ask again. A new
// token that is being written is waited for.
func (s *Session) Due(now time.Time) time.Time {
	s.mu.Lock()
	expires, renews, over := s.record.Expires, s.renews, s.over
	s.mu.Unlock()
	switch {
	case over:
		return time.Time{}
	case now.Before(expires):
		return expires
	case renews:
		return now.Add(renewsLook)
	}
	s.Quit(wire.CloseTokenExpired, "the token has expired; say hello with a new one")
	s.door.Leaving.End(s.id, s.Gen(), wire.LeftLost)
	return time.Time{}
}

// bye ends the session. If the store is away it ends when the store is back.
func (s *Session) bye(ctx context.Context, _ jsontext.Value) Reply {
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	s.view.Close() // its own end is no news to it
	err := s.door.Store.End(ctx, s.id, store.IfOwn(s.door.Config.Node, s.Gen()), wire.LeftByChoice)
	if errors.Is(err, store.ErrMoved) { // it goes on, and not here
		s.mu.Lock()
		s.over = false
		s.mu.Unlock()
		return s.fail("bye", err)
	}
	if errors.Is(err, store.ErrUnavailable) {
		s.door.Leaving.End(s.id, s.Gen(), wire.LeftByChoice)
	}
	s.door.Hub.Remove(s.id, s)
	return Reply{Result: wire.Empty{}, After: func() { s.sock.Close(wire.CloseBye, "bye") }}
}
