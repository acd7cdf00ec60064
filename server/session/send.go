package session

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"godwit/rules/address"
	"godwit/store"
	"godwit/trace"
	"godwit/wire"
)

// send is room.send.
func (s *Session) send(ctx context.Context, params jsontext.Value, done func(Reply)) {
	span := s.followed()
	var p wire.Send
	if err := wire.Decode(params, &p); err != nil {
		s.land()
		s.Refused(err)
		unread(span, err)
		done(Reply{Err: err})
		return
	}
	s.post(ctx, span, &p, s.door.Config.MessageBytes, done)
}

// Post is room.send for a way in whose requests are no JSON: it has counted the
// request (Count), and measured the message as its client knows it.
func (s *Session) Post(ctx context.Context, p *wire.Send, done func(Reply)) {
	s.post(ctx, s.followed(), p, math.MaxInt, done)
}

// post puts one message, of so many bytes at most, on its way. Sends to one room
// follow each other without waiting; the lane keeps their order.
func (s *Session) post(ctx context.Context, span *trace.Span, p *wire.Send, most int, done func(Reply)) {
	if s.flow != p.Room {
		s.land()
		s.flow = p.Room
	}
	draft, bad := s.draft(span, p, most)
	if bad != nil {
		done(s.posted(draft, Reply{Err: bad}))
		return
	}
	at := s.place(p.Room)
	if at == nil {
		done(s.posted(draft, Reply{Err: notMember()}))
		return
	}
	if s.door.Fenced() {
		done(s.posted(draft, Reply{Err: wire.ErrUnavailable()}))
		return
	}
	if s.flight == nil {
		s.flight = make(chan struct{}, flightMax)
	}
	flight := s.flight
	flight <- struct{}{}
	land := func(sent store.Sent, err error) {
		reply := s.posted(draft, s.sent(at, sent, err))
		s.counted(p.Room, count{sent.Epoch, draft.CSeq}, func() { done(reply) })
		<-flight // what comes next is answered after it
	}
	s.deliver(ctx, at, draft, func(sent store.Sent, err error) {
		if !errors.Is(err, store.ErrWiped) {
			land(sent, err)
			return
		}
		// Nothing was stored. The lane must not wait for the room to be rebuilt.
		s.again(at, func(rebuilt bool) {
			if !rebuilt {
				land(sent, err)
				return
			}
			s.deliver(s.attached(), at, draft, land)
		})
	})
}

// count is the last cseq that was accepted in an epoch of a room.
type count struct {
	epoch string // empty: it was not accepted, or nobody remembers where
	cseq  uint64 // 0: the send has none
}

// counted answers a send, and notes its number for a reset that is told later, but
// has read the count before: by that count a client would use the number again, and
// what it then sends would pass for a repeat of this one.
func (s *Session) counted(room string, n count, answer func()) {
	if n.epoch == "" || n.cseq == 0 {
		answer()
		return
	}
	s.countMu.Lock()
	defer s.countMu.Unlock()
	if have := s.counts[room]; have.epoch != n.epoch || have.cseq < n.cseq {
		if s.counts == nil {
			s.counts = make(map[string]count, 1)
		}
		s.counts[room] = n
	}
	answer()
}

// land waits until no send is under way.
func (s *Session) land() {
	if len(s.flight) == 0 {
		return // only this goroutine adds to them
	}
	for range flightMax {
		s.flight <- struct{}{}
	}
	for range flightMax {
		<-s.flight
	}
}

func (s *Session) deliver(ctx context.Context, at *place, d store.Draft, done func(store.Sent, error)) {
	s.door.Store.Send(ctx, at.room.Name(), s.member(), at.room.Known(), d, done)
}

// rebuiltWithin is how long a send waits for its room to be rebuilt.
const rebuiltWithin = 900 * time.Millisecond

// again calls f, after those that wait before it, once the room is rebuilt;
// with false if that does not come in time, or the session leaves the room.
func (s *Session) again(at *place, f func(rebuilt bool)) {
	s.mu.Lock()
	at.lost = append(at.lost, f)
	first := len(at.lost) == 1
	s.mu.Unlock()
	if first && !s.begin(func() { s.afterReset(at) }) {
		s.rebuilt(at, false)
	}
}

// afterReset waits until the room is rebuilt, and tells who waits for it.
func (s *Session) afterReset(at *place) {
	ctx, t := s.within(at), time.NewTimer(rebuiltWithin)
	defer t.Stop()
	select {
	case <-at.room.Lost():
		s.rebuilt(at, true)
	case <-ctx.Done():
		s.rebuilt(at, false)
	case <-t.C:
		s.rebuilt(at, false)
	}
}

// rebuilt tells who waits whether the room is.
func (s *Session) rebuilt(at *place, ok bool) {
	s.mu.Lock()
	waiting := at.lost
	at.lost = nil
	s.mu.Unlock()
	for _, f := range waiting {
		f(ok)
	}
}

// sent turns the store's answer into the client's.
func (s *Session) sent(at *place, sent store.Sent, err error) Reply {
	if err != nil {
		return s.fail("room.send", err)
	}
	if !sent.Dup && sent.Seq != 0 {
		at.room.Wrote(store.Head{Epoch: sent.Epoch, Seq: sent.Seq})
	}
	return Reply{Result: wire.Sent{Seq: sent.Seq, TS: sent.TS, Dup: sent.Dup}}
}

// draft checks what a send says.
func (s *Session) draft(span *trace.Span, p *wire.Send, most int) (store.Draft, *wire.Error) {
	d := store.Draft{Type: p.Type, Ephemeral: p.Ephemeral, Data: p.Data, Trace: span}
	if err := CheckRoom(p.Room); err != nil {
		return d, err
	}
	if len(p.Data) == 0 {
		return d, wire.ErrParams("data is missing")
	}
	if p.CSeq != nil {
		if *p.CSeq == 0 || *p.CSeq > maxCSeq {
			return d, wire.ErrParams("cseq counts from 1")
		}
		if p.Ephemeral {
			return d, wire.ErrParams("an ephemeral message has no cseq")
		}
		d.CSeq = *p.CSeq
	}
	if p.To != nil {
		d.ToUser, d.ToClient = p.To.User, p.To.Client
		if why := address.Unfit(d.ToUser, d.ToClient); why != "" {
			return d, wire.ErrParams("%s", why)
		}
	}
	if len(p.Data) > most {
		return d, wire.Errorf(wire.TooLarge, "data has %d bytes, at most %d are allowed", len(p.Data), most)
	}
	return d, nil
}

// maxCSeq keeps client sequences exact in the store's scripts.
const maxCSeq = 1 << 53

// parse reads params and runs the checks that every room request shares.
func parse[P any](params jsontext.Value, room func(*P) string) (*P, *wire.Error) {
	p := new(P)
	if err := wire.Decode(params, p); err != nil {
		return nil, err
	}
	return p, CheckRoom(room(p))
}
