package session

import (
	"context"
	"errors"
	"math"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"godwit/rules/address"
	"godwit/server/hub"
	"godwit/server/relay"
	"godwit/store"
	"godwit/wire"
)

const (
	// roomName is the longest room name, in bytes.
	roomName = 200
	// hearWithin is how long a join waits until the node hears the room.
	hearWithin = 900 * time.Millisecond
	// historyDefault and historyMax are events in one answer; historyBytes
	// their data, past which the answer says more.
	historyDefault = 100
	historyMax     = 1000
	historyBytes   = 256 << 10
	historyPage    = 256
	// historyScan bounds the entries that one request looks at, most of which
	// may be others'.
	historyScan = 20_000
)

// CheckRoom refuses what is no room name.
func CheckRoom(room string) *wire.Error {
	switch {
	case room == "":
		return wire.ErrParams("room is missing")
	case len(room) > roomName:
		return wire.ErrParams("room has %d bytes, at most %d are allowed", len(room), roomName)
	case !printable(room):
		return wire.ErrParams("room has control characters")
	}
	return nil
}

// printable says whether s is UTF-8 without control characters (C0, DEL, C1).
func printable(s string) bool {
	for _, r := range s {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			return false
		}
	}
	return utf8.ValidString(s)
}

func (s *Session) join(ctx context.Context, params jsontext.Value) Reply {
	p, bad := parse(params, func(p *wire.Join) string { return p.Room })
	if bad != nil {
		return Reply{Err: bad}
	}
	return s.Join(ctx, p)
}

// Join is room.join, of a room whose name was checked, for a way in whose
// requests are no JSON.
func (s *Session) Join(ctx context.Context, p *wire.Join) Reply {
	if !s.allowed(p.Room) {
		return Reply{Err: wire.Errorf(wire.Forbidden, "the token does not allow this room")}
	}
	if s.door.Fenced() {
		return Reply{Err: wire.ErrUnavailable()}
	}
	if at := s.place(p.Room); at != nil {
		if reply, in := s.joinAgain(ctx, at, p); in {
			return reply
		}
		s.forget(p.Room, at.seat)
	}
	s.list()
	defer s.listed()
	at := s.newPlace(p.Room)
	r, err := s.enter(ctx, at, p.Room)
	if err != nil {
		s.release(at)
		return s.fail("room.join", err)
	}
	after, recovered := r.Seq, false
	if p.Since != nil && (s.door.open(p.Room) || !r.New) {
		start, ok, err := s.recover(ctx, p.Room, r, *p.Since)
		if err != nil {
			s.release(at)
			return s.fail("room.join", err)
		}
		if recovered = ok; ok {
			after = start
		}
	}
	at.stand(r, after)
	s.mu.Lock()
	s.places.put(at)
	s.mu.Unlock()
	return Reply{Result: joined(p.Room, r, recovered), After: func() { s.follow([]*place{at}) }}
}

func joined(room string, r store.Room, recovered bool) wire.Joined {
	return wire.Joined{
		Room: room, Epoch: r.Epoch, Seq: r.Seq, Recovered: recovered, CSeq: r.CSeq,
		Members: relay.Members(r.Members), More: r.Count > len(r.Members), InCall: r.InCall,
	}
}

// enter makes the session a member, once the node hears the room.
func (s *Session) enter(ctx context.Context, at *place, room string) (store.Room, error) {
	if err := hear(ctx, hearWithin, at.room.Ready()); err != nil {
		return store.Room{}, err
	}
	r, err := s.door.Store.Admit(ctx, room, s.member(), at.room.Known(), s.door.Config.Rooms)
	if err == nil && r.New {
		at.room.Wrote(store.Head{Epoch: r.Epoch, Seq: r.Seq})
	}
	return r, err
}

// hear waits until the node hears every channel that says ready.
func hear(ctx context.Context, within time.Duration, all ...<-chan struct{}) error {
	var late <-chan time.Time
	for _, ready := range all {
		select {
		case <-ready:
			continue
		default:
		}
		if late == nil { // what is heard already needs no clock
			t := time.NewTimer(within)
			defer t.Stop()
			late = t.C
		}
		select {
		case <-ready:
		case <-late:
			return errUnheard
		case <-ctx.Done():
			return errUnheard
		}
	}
	return nil
}

var errUnheard = errors.Join(store.ErrUnavailable, errors.New("a channel is not heard"))

// joinAgain answers a member that joins again. What its socket has had, it has
// had: the answer's position is the one up to which this socket has everything
// since its start, and what was before that it does not get: events come in
// order, each once a socket. It says false if the member was not in, though the
// room is the one that it was in: it had been put out, the place will be told so,
// and it joins as anybody.
func (s *Session) joinAgain(ctx context.Context, at *place, p *wire.Join) (reply Reply, in bool) {
	r, err := s.door.Store.Join(ctx, p.Room, s.member(), at.room.Known())
	if err != nil {
		return s.fail("room.join", err), true
	}
	s.mu.Lock()
	live, epoch, pos, first, start := at.live, at.epoch, at.pos, at.epoch, at.start
	s.mu.Unlock()
	if r.New && r.Epoch == epoch {
		at.room.Wrote(store.Head{Epoch: r.Epoch, Seq: r.Seq})
		return Reply{}, false
	}
	if live {
		epoch, pos = at.room.Delivered(at.seat)
	}
	recovered := p.Since != nil && p.Since.Epoch == epoch && first == epoch && p.Since.Seq >= start && p.Since.Seq <= pos
	r.Epoch, r.Seq = epoch, pos
	return Reply{Result: joined(p.Room, r, recovered)}, true
}

// Rejoin makes the session known to a room again, joining it anew if the store
// lost it.
func (s *Session) Rejoin(ctx context.Context, room string, known store.Known) (store.Room, error) {
	at := s.place(room)
	r, err := s.door.Store.Attach(ctx, room, s.member(), known, true)
	if errors.Is(err, store.ErrWiped) {
		if r, err = s.door.Store.Readmit(ctx, room, s.member()); err == nil {
			s.mu.Lock()
			if p := s.places.of(room); p != nil {
				p.joined = r.Joined
			}
			s.mu.Unlock()
		}
	}
	switch {
	case err == nil:
		if p := s.place(room); p != nil {
			p.room.Call(r)
		}
	case errors.Is(err, store.ErrNotMember):
		if at != nil {
			s.Expelled(room, at.seat)
		}
	case errors.Is(err, store.ErrMoved), errors.Is(err, store.ErrGone):
		s.suspect()
	}
	return r, err
}

func (s *Session) leave(ctx context.Context, params jsontext.Value) Reply {
	p, bad := parse(params, func(p *wire.Leave) string { return p.Room })
	if bad != nil {
		return Reply{Err: bad}
	}
	at := s.place(p.Room)
	if at == nil {
		return Reply{Err: notMember()}
	}
	if s.door.Fenced() {
		return Reply{Err: wire.ErrUnavailable()}
	}
	known := at.room.Known()
	known.Seq = 0 // a leave is no news of the order
	head, err := s.door.Store.Leave(ctx, p.Room, s.member(), known, wire.LeftByChoice, false)
	if err != nil && !errors.Is(err, store.ErrNotMember) && !errors.Is(err, store.ErrWiped) {
		return s.fail("room.leave", err)
	}
	if err == nil {
		at.room.Wrote(head)
	}
	s.forget(p.Room, nil)
	if err := s.door.Store.Exit(ctx, s.member(), p.Room); err != nil {
		return s.fail("room.leave", err)
	}
	return Reply{Result: wire.Empty{}}
}

func (s *Session) info(ctx context.Context, params jsontext.Value) Reply {
	p, bad := parse(params, func(p *wire.Info) string { return p.Room })
	if bad != nil {
		return Reply{Err: bad}
	}
	if s.place(p.Room) == nil {
		return Reply{Err: notMember()}
	}
	r, err := s.door.Store.Info(ctx, p.Room)
	if err != nil {
		return s.fail("room.info", err)
	}
	callers := make([]wire.Caller, len(r.Callers))
	for i, m := range r.Callers {
		callers[i] = wire.Caller{User: m.User, Client: m.Client}
	}
	return Reply{Result: wire.RoomInfo{
		Room: p.Room, Epoch: r.Epoch, Seq: r.Seq, Members: relay.Members(r.Members),
		More: r.Count > len(r.Members), InCall: r.InCall, Call: callers,
	}}
}

// history reads a part of the log that this session may read: after a seq
// upwards, or before one (the end of the log if none is given) downwards.
func (s *Session) history(ctx context.Context, params jsontext.Value) Reply {
	p, bad := parse(params, func(p *wire.History) string { return p.Room })
	if bad != nil {
		return Reply{Err: bad}
	}
	limit := historyDefault
	if p.Limit != nil {
		if *p.Limit < 1 {
			return Reply{Err: wire.ErrParams("limit is 1 or more")}
		}
		limit = min(*p.Limit, historyMax) // more says the rest
	}
	at := s.place(p.Room)
	if at == nil {
		return Reply{Err: notMember()}
	}
	s.mu.Lock()
	reader := s.reader(p.Room, at.joined)
	s.mu.Unlock()
	lo, hi := uint64(1), uint64(math.MaxInt64)
	if !reader.Open {
		lo = reader.Since + 1
	}
	if p.After != nil {
		if *p.After >= math.MaxInt64 {
			return Reply{Err: wire.ErrParams("after is out of range")}
		}
		lo = max(lo, *p.After+1)
	}
	if p.Before != nil {
		if *p.Before == 0 {
			return Reply{Err: wire.ErrParams("before is 1 or more")}
		}
		hi = min(hi, *p.Before-1)
	}
	past, err := s.past(ctx, p.Room, reader, lo, hi, limit, p.After == nil)
	if err != nil {
		return s.fail("room.history", err)
	}
	return Reply{Result: past}
}

// past gathers events between lo and hi, both included, from one end.
func (s *Session) past(ctx context.Context, room string, reader address.Reader, lo, hi uint64, limit int, back bool) (*wire.Past, error) {
	out := &wire.Past{Events: []*wire.RoomEvent{}}
	read := s.door.Store.Read
	if back {
		read = s.door.Store.ReadBack
	}
	bytes, scanned := 0, 0
	for {
		page := store.Page{}
		var err error
		if lo <= hi {
			page, err = read(ctx, room, lo, hi, historyPage)
		} else {
			page, err = read(ctx, room, 0, 0, 1) // only the epoch
		}
		switch {
		case err != nil:
			return nil, err
		case page.Epoch == "":
			return nil, store.ErrWiped
		case out.Epoch != "" && page.Epoch != out.Epoch:
			return nil, store.ErrUnavailable // reset meanwhile; ask again
		}
		out.Epoch = page.Epoch
		for i := range page.Entries {
			ev := relay.Event(room, &page.Entries[i])
			if address.Remembers(hub.Address(ev), reader) {
				if len(out.Events) == limit || bytes > historyBytes {
					out.More = true
					break
				}
				out.Events = append(out.Events, ev)
				bytes += len(ev.Data)
			}
			if back {
				hi = ev.Seq - 1
			} else {
				lo = ev.Seq + 1
			}
		}
		scanned += len(page.Entries)
		if out.More || len(page.Entries) < historyPage || lo > hi {
			break
		}
		if scanned >= historyScan {
			out.More = true
			break
		}
	}
	if back {
		for i, j := 0, len(out.Events)-1; i < j; i, j = i+1, j-1 {
			out.Events[i], out.Events[j] = out.Events[j], out.Events[i]
		}
	}
	return out, nil
}

// list waits until nobody else changes which rooms the session's record names. Who has
// changed it says listed.
func (s *Session) list() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.listing != nil {
		done := s.listing
		s.mu.Unlock()
		<-done
		s.mu.Lock()
	}
	s.listing = make(chan struct{})
}

func (s *Session) listed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.listing)
	s.listing = nil
}

// unlist takes a room off the session's record, unless the client was quick to
// join it again. If that fails, the next node to take the session up does it.
func (s *Session) unlist(room string) {
	s.list()
	defer s.listed()
	if s.place(room) != nil {
		return
	}
	if err := s.door.Store.Exit(s.attached(), s.member(), room); err != nil {
		s.door.Log.Debug("room not taken off the session", "session", s.id, "error", err)
	}
}
