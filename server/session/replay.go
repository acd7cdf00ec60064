package session

import (
	"context"
	"errors"
	"math"
	"time"

	"godwit/rules/address"
	"godwit/server/hub"
	"godwit/server/relay"
	"godwit/server/wait"
	"godwit/store"
	"godwit/wire"
)

const (
	// replayBytes is about how much of a log is read at once.
	replayBytes = 64 << 10
	replayFirst = 32  // entries of the first page, before their size is known
	replayMost  = 512 // entries of one page
	replayRetry = 100 * time.Millisecond
)

// recover finds where a room goes on for a client that joins: after its own
// position, if the log still holds all that follows.
func (s *Session) recover(ctx context.Context, room string, view store.Room, since wire.Position) (uint64, bool, error) {
	if since.Epoch == "" || since.Epoch != view.Epoch || since.Seq > view.Seq {
		return view.Seq, false, nil
	}
	r := store.Returned{Room: view, Goes: true, From: since.Seq}
	if !s.door.open(room) {
		r.From = max(r.From, view.Joined) // what was before is not its to read
	}
	var err error
	if r.Span, err = s.door.Store.Span(ctx, room, r.From); err != nil {
		return 0, false, err
	}
	start, ok := goesOn(r, since)
	return start, ok, nil
}

// goesOn decides from which seq a room goes on: the client's own position if the
// log still holds all that follows, else the head.
func goesOn(r store.Returned, asked wire.Position) (start uint64, recovered bool) {
	if !r.Goes || r.From != r.Seq && !r.Next {
		return r.Seq, false
	}
	// Of an entry before its join it cannot have seen the time.
	if r.From == asked.Seq && asked.TS != 0 && asked.TS != r.TS {
		return r.Seq, false
	}
	return r.From, true
}

// follow seats the places whose position the node is at, and replays the log
// to the others. It does not wait.
func (s *Session) follow(places []*place) {
	var behind []*place
	for _, at := range places {
		s.look(at)
		s.mu.Lock()
		epoch, pos := at.epoch, at.pos
		s.mu.Unlock()
		if !s.sit(at, epoch, pos) {
			behind = append(behind, at)
		}
	}
	if len(behind) == 0 {
		return
	}
	s.begin(func() {
		for _, at := range behind {
			s.replay(at)
		}
	})
}

// begin runs work that Dropped waits for; it says false, and runs nothing, if
// that has come already.
func (s *Session) begin(work func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life.Ended() {
		return false
	}
	s.work.Go(work)
	return true
}

// sit takes the seat if the node is no further than pos, or has at hand what
// lies between.
func (s *Session) sit(at *place, epoch string, pos uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.places.of(at.Name()) != at {
		return true // left, or dropped, meanwhile
	}
	at.epoch, at.pos = epoch, pos
	if !at.room.Sit(at.seat, epoch, pos, at.head) {
		return false
	}
	at.live = true
	at.unhold()
	return true
}

// replay reads the log from the place's position to the socket, page by page
// as the socket drains, until the place is live.
func (s *Session) replay(at *place) {
	ctx, room := s.within(at), at.room.Name()
	count := replayFirst
	for ctx.Err() == nil {
		s.mu.Lock()
		epoch, pos, joined := at.epoch, at.pos, at.joined
		s.mu.Unlock()
		reader := s.reader(room, joined)
		page, err := s.door.Store.Read(ctx, room, pos+1, math.MaxInt64, count)
		switch {
		case err != nil:
			s.door.Log.Debug("replay waits", "session", s.id, "room", room, "error", err)
			wait.Pause(ctx, replayRetry)
			continue
		case page.Epoch != epoch, len(page.Entries) == 0 && page.Head > pos, len(page.Entries) > 0 && page.Entries[0].Seq != pos+1:
			// Another order, or the log no longer has what comes next: the
			// client is told where it goes on.
			if !s.startOver(ctx, at) {
				wait.Pause(ctx, replayRetry)
				continue
			}
			return
		}
		bytes := 0
		for i := range page.Entries {
			e := &page.Entries[i]
			bytes += len(e.Data)
			ev := relay.Event(room, e)
			if address.Receives(hub.Address(ev), reader) {
				if s.hand(ctx, at, ev) != nil {
					return
				}
				if ev.Seq > joined && hub.PutsOut(ev, s.who.Client) { // not of a membership before
					s.Expelled(room, at.seat)
					return
				}
			}
			pos = e.Seq
		}
		if s.sit(at, epoch, pos) {
			return
		}
		n := len(page.Entries)
		if n == 0 { // the node is further than the log was
			wait.Pause(ctx, replayRetry)
			continue
		}
		count = min(max(1, replayBytes*n/max(1, bytes)), replayMost)
	}
}

// hand hands one event of the log to the socket, unless the session has left.
func (s *Session) hand(ctx context.Context, at *place, ev *wire.RoomEvent) error {
	at.replaying.Lock()
	defer at.replaying.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.sock.Replay(ctx, ev)
}

// startOver tells the client that a room goes on somewhere else: in another epoch
// behind what both have and it has had, otherwise at the head. It seats it there, or
// says false: the log is to be read from there, or the same to be tried again.
func (s *Session) startOver(ctx context.Context, at *place) bool {
	room := at.room.Name()
	s.mu.Lock()
	epoch, pos := at.epoch, at.pos
	s.mu.Unlock()
	r, err := s.Rejoin(ctx, room, store.Known{Epoch: epoch})
	if err != nil {
		return !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, store.ErrWiped)
	}
	start := r.Seq
	if r.Epoch != epoch {
		if start = min(pos, r.Began); !s.door.open(room) {
			start = max(start, r.Joined) // what was before is not its to read
		}
	}
	at.replaying.Lock()
	defer at.replaying.Unlock()
	if ctx.Err() != nil {
		return true
	}
	s.Reset(wire.Reset{
		Room: room, Epoch: r.Epoch, Seq: start, CSeq: r.CSeq,
		Members: relay.Members(r.Members), More: r.Count > len(r.Members), InCall: r.InCall,
	})
	s.mu.Lock()
	at.head = r.Seq
	s.mu.Unlock()
	return s.sit(at, r.Epoch, start)
}
