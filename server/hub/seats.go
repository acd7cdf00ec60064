package hub

import (
	"context"

	"godwit/rules/address"
	"godwit/store"
	"godwit/wire"
)

// Ear is a session's socket as a room sees it. Deliver and Reset do not wait;
// the others may.
type Ear interface {
	// Deliver queues one live event.
	Deliver(ev *wire.RoomEvent)
	// Reset tells the client that the room has another order from here on.
	Reset(r wire.Reset)
	// Rejoin makes the member known to the room again, joining it anew if the
	// store lost it. Any error but ErrUnavailable means that it is not there.
	Rejoin(ctx context.Context, room string, known store.Known) (store.Room, error)
	// Expelled tells that the member was put out of its seat.
	Expelled(room string, seat *Seat)
}

// Seat is one local member's place in a room.
type Seat struct {
	Ear    Ear
	Reader address.Reader
	// Epoch and After: the seat gets what comes after this position. Owned by
	// the room that it sits in.
	Epoch string
	After uint64
	// Held is how many ephemeral events had passed when the room was first held for
	// the seat. Owned by the room, too.
	Held uint64
}

// Seats are the local members of one room. Not safe for concurrent use: the
// room guards it.
type Seats struct {
	all      []*Seat
	byClient map[uint32]int // index in all
}

// Put seats a member, in place of an earlier seat of the same client.
func (s *Seats) Put(seat *Seat) {
	if s.byClient == nil {
		s.byClient = make(map[uint32]int)
	}
	if i, ok := s.byClient[seat.Reader.Client]; ok {
		s.all[i] = seat
		return
	}
	s.byClient[seat.Reader.Client] = len(s.all)
	s.all = append(s.all, seat)
}

// Remove takes exactly this seat away; another one of the same client stays.
func (s *Seats) Remove(seat *Seat) {
	i, ok := s.byClient[seat.Reader.Client]
	if !ok || s.all[i] != seat {
		return
	}
	last := len(s.all) - 1
	s.all[i] = s.all[last]
	s.byClient[s.all[i].Reader.Client] = i
	s.all[last] = nil
	s.all = s.all[:last]
	delete(s.byClient, seat.Reader.Client)
}

// Has says whether exactly this seat is taken.
func (s *Seats) Has(seat *Seat) bool {
	i, ok := s.byClient[seat.Reader.Client]
	return ok && s.all[i] == seat
}

// All is every seat; the slice is a copy.
func (s *Seats) All() []*Seat { return append([]*Seat(nil), s.all...) }

// Len is the number of seats.
func (s *Seats) Len() int { return len(s.all) }

// Deliver hands an entry of an epoch to every seat that it is for. It returns
// how many those are, and the seats that it puts out.
func (s *Seats) Deliver(epoch string, ev *wire.RoomEvent) (told int, expelled []*Seat) {
	e := Address(ev)
	if e.Message && e.ToClient != nil {
		if i, ok := s.byClient[*e.ToClient]; ok && s.all[i].deliver(epoch, e, ev) {
			told = 1
		}
		return told, nil
	}
	for _, seat := range s.all {
		if !seat.deliver(epoch, e, ev) {
			continue
		}
		told++
		if PutsOut(ev, seat.Reader.Client) {
			expelled = append(expelled, seat)
		}
	}
	return told, expelled
}

// PutsOut says whether an event ends a client's membership against its will.
func PutsOut(ev *wire.RoomEvent, client uint32) bool {
	return ev.Kind == wire.KindLeave &&
		(ev.Reason == wire.LeftClosed || ev.Reason == wire.LeftKicked && ev.From.Client == client)
}

// Deliver hands an entry of an epoch to this seat alone. It says whether it is for the
// seat, and whether it puts it out.
func (seat *Seat) Deliver(epoch string, ev *wire.RoomEvent) (told, expelled bool) {
	told = seat.deliver(epoch, Address(ev), ev)
	return told, told && PutsOut(ev, seat.Reader.Client)
}

func (seat *Seat) deliver(epoch string, e address.Entry, ev *wire.RoomEvent) bool {
	if e.Seq != 0 && (seat.Epoch != epoch || e.Seq <= seat.After) || !address.Receives(e, seat.Reader) {
		return false
	}
	seat.Ear.Deliver(ev)
	return true
}

// Address is what the addressing rules need to know of an event.
func Address(ev *wire.RoomEvent) address.Entry {
	e := address.Entry{
		Seq: ev.Seq, Message: ev.Kind == wire.KindMessage,
		Client: ev.From.Client, User: ev.From.User,
	}
	if ev.Kind == wire.KindLeave {
		e.Leave = ev.Reason
	}
	if ev.To != nil {
		e.ToUser, e.ToClient = ev.To.User, ev.To.Client
	}
	return e
}
