package session

import (
	"context"
	"errors"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	rule "godwit/rules/presence"
	"godwit/store"
	"godwit/wire"
)

// seeWithin is how long a login waits until it is known who is present. Of a new
// session what is not by then is told once it is.
const seeWithin = time.Second

// errUnseen says that who is present could not be read in time. A session that
// goes on is not resumed without: its client would take those who are left out
// for offline.
var errUnseen = errors.Join(store.ErrUnavailable, errors.New("who is present is not known"))

// setPresence sets the device: by the user, or by an idle timer.
func (s *Session) setPresence(ctx context.Context, params jsontext.Value) Reply {
	var p wire.SetPresence
	if err := wire.Decode(params, &p); err != nil {
		return Reply{Err: err}
	}
	switch {
	case p.Presence == nil:
		return Reply{Err: wire.ErrParams("presence is missing")}
	case *p.Presence > rule.Most:
		return Reply{Err: wire.ErrParams("presence is at most %d", rule.Most)}
	case s.door.Fenced():
		return Reply{Err: wire.ErrUnavailable()}
	}
	device, _, err := s.door.Store.SetPresence(ctx, s.member(), rule.Set{Value: *p.Presence, Auto: p.Auto})
	if err != nil {
		return s.fail("presence.set", err)
	}
	s.carry(device)
	return Reply{Result: wire.Empty{}} // what others see, and this client shows, comes as an event
}

// carry notes how the device is set.
func (s *Session) carry(d rule.Device) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.device, s.record.Presence = d, d.Byte()
}

// returning is the session's device as it comes back, set to a presence byte if
// the client says one.
func (s *Session) returning(set *uint8, rooms []string) store.Attaching {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := store.Attaching{Last: rule.Parse(s.record.Presence), Rooms: rooms, Contacts: true}
	if set != nil {
		now := rule.Parse(*set)
		a.Set = &now
	}
	return a
}

// Present makes the session's device known to the store again: after a wipe, or
// at a new gen.
func (s *Session) Present(ctx context.Context) error {
	rec, rooms := s.Record()
	if !rec.HasDevice() {
		return nil
	}
	s.mu.Lock()
	a := store.Attaching{Last: s.device.Set, At: s.device.At, Rooms: rooms}
	s.mu.Unlock()
	_, _, err := s.door.Store.AttachDevice(ctx, rec.Member(), a)
	if errors.Is(err, store.ErrGone) || errors.Is(err, store.ErrMoved) {
		return nil // the session's own affair: whoever looks at it finds out
	}
	return err
}

// regard adds to a session object who is present, as far as it has room, and
// returns what is to follow the answer.
func (s *Session) regard(ctx context.Context, within time.Duration, self store.Presence, contacts []string, out *wire.Session) (after func(), err error) {
	s.view.Load(self, contacts)
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	own, all, whole := s.view.Snapshot(ctx)
	if !whole && out.Resumed {
		return nil, errUnseen
	}
	told := len(all)
	if rec, _ := s.Record(); rec.Dialect != store.DialectStatusd { // which names its own user after all others
		told = min(told, wire.PresenceTold)
	}
	out.Self = own // later than self, where another device was set meanwhile
	out.Presence = append(out.Presence, all[:told]...)
	return func() {
		for _, p := range all[told:] {
			s.sock.Presence(&wire.Presence{User: p.User, Presence: p.Presence, PV: p.PV}, false)
		}
		s.view.Open()
	}, nil
}

// lookOn lets a session that goes on see who is in its rooms, once the node has
// heard as much of each as the session object says. Its client may have been told
// of a join or a leave that is on its way here: without the one it would take
// somebody for offline, and without the other for one whom it still sees. What takes
// longer was lost on its way, and is told once the hole is filled: nobody is kept out
// for that.
func (s *Session) lookOn(ctx context.Context, places []*place) {
	reached := make([]<-chan struct{}, len(places))
	for i, at := range places {
		s.mu.Lock()
		epoch, head := at.epoch, at.head
		s.mu.Unlock()
		reached[i] = at.room.Reached(epoch, head) // before its roster is read
		s.look(at)
	}
	_ = hear(ctx, lookWithin, reached...)
}

// lookWithin is how long a session that goes on waits for its node to be as far as
// its rooms: what it has not heard by then it reads from the log.
const lookWithin = 2 * time.Second

// look lets the session see who is in a room, unless it has left.
func (s *Session) look(at *place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.places.of(at.Name()) == at && !at.seen {
		at.seen = true
		s.view.Enter(at.room.Name())
	}
}
