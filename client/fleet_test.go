package client_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"godwit/wire"
)

// fleet is a small node that keeps the contract of sessions and rooms, with
// faults between the client and its one store.
type fleet struct {
	*script
	fault func() fault
	wg    sync.WaitGroup

	mu sync.Mutex
	// guarded by mu
	sessions map[string]*seat
	rooms    map[string]*log
	offers   map[string]*offer // by token
	moves    func(s *seat)     // may offer the seat another node; nil never does
	calm     bool              // no more faults
	ids      int
}

// fault is what befalls one request.
type fault uint8

const (
	none         fault = iota
	cutBefore          // the socket ends, the request did nothing
	cutAfter           // the request is done, the socket ends before the answer
	awayBefore         // unavailable, the request did nothing
	awayAfter          // unavailable, the request is done
	limited            // rate_limited
	restart            // bye and 1012, the request did nothing
	faultsNumber = restart + 1
)

// seat is one session.
type seat struct {
	id, secret, user string
	client           uint32
	gen              uint64
	peer             *peer
	old              []*peer // fenced: they still deliver
}

// log is one room.
type log struct {
	events    []*wire.RoomEvent
	members   map[*seat]*count
	delivered func(*seat) // may be nil
}

// count is what a room knows of a member's sends.
type count struct {
	cseq    uint64
	answers map[uint64]wire.Sent
}

func newFleet(t testing.TB, f func() fault) *fleet {
	fl := &fleet{
		script: newScript(t), fault: f,
		sessions: make(map[string]*seat), rooms: make(map[string]*log), offers: make(map[string]*offer),
	}
	ctx, cancel := context.WithCancel(context.Background())
	fl.wg.Go(func() {
		for {
			select {
			case p := <-fl.peers:
				fl.wg.Go(func() { fl.serve(p) })
			case <-ctx.Done():
				return
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		fl.mu.Lock()
		for _, s := range fl.sessions {
			for _, p := range append(s.old, s.peer) {
				p.cut()
			}
		}
		fl.mu.Unlock()
		fl.wg.Wait()
	})
	return fl
}

func (fl *fleet) serve(p *peer) {
	fl.wg.Go(p.deliverer)
	var s *seat
	for {
		select {
		case f := <-p.frames:
			fl.mu.Lock()
			s = fl.handle(p, s, f)
			fl.mu.Unlock()
		case <-p.closed:
			return
		}
	}
}

func (fl *fleet) handle(p *peer, s *seat, f frame) *seat {
	what := none
	if !fl.calm {
		what = fl.fault()
	}
	switch what {
	case cutBefore:
		p.cut()
	case awayBefore:
		p.refuse(f, wire.ErrUnavailable())
		if s == nil {
			p.close(wire.CloseRestart)
		}
	case limited:
		p.refuse(f, wire.ErrRateLimited(time.Millisecond))
	case restart:
		p.notice("bye", wire.Bye{Reason: "drain", RetryAfterMS: 1})
		p.close(wire.CloseRestart)
	default:
		was := s
		s, result, err, after := fl.do(p, s, f)
		switch {
		case what == cutAfter:
			p.cut()
		case what == awayAfter && was != nil:
			p.refuse(f, wire.ErrUnavailable())
		case err != nil:
			p.refuse(f, err)
		default:
			p.answer(f, result)
		}
		if after != nil {
			after()
		}
		if fl.moves != nil && s != nil && s.peer == p {
			fl.moves(s)
		}
		return s
	}
	return s
}

// attach gives the session to p. after delivers what it has missed.
func (fl *fleet) attach(s *seat, p *peer, seen map[string]wire.Position) (o wire.Session, after func()) {
	s.peer = p
	s.gen++
	o = session()
	o.Session, o.Client, o.User, o.Gen, o.Resumed = s.id, s.client, s.user, s.gen, true
	for name, l := range fl.rooms {
		if m := l.members[s]; m != nil {
			pos, named := seen[name]
			o.Rooms = append(o.Rooms, wire.SessionRoom{
				Room: name, Epoch: "e1", Seq: uint64(len(l.events)), Recovered: named, CSeq: m.cseq,
			})
			if named {
				prev := after
				after = func() {
					if prev != nil {
						prev()
					}
					l.replay(s, pos.Seq)
				}
			}
		}
	}
	return o, after
}

// do is the contract. after delivers what follows the answer.
func (fl *fleet) do(p *peer, s *seat, f frame) (_ *seat, result any, err *wire.Error, after func()) {
	read := func(v any) { _ = json.Unmarshal(f.Params, v) }
	if s != nil && s.peer != p {
		return s, nil, wire.Errorf(wire.Moved, "moved"), nil
	}
	switch f.Method {
	case "hello":
		var h wire.Hello
		read(&h)
		fl.ids++
		s = &seat{
			id: fmt.Sprintf("s%d", fl.ids), secret: fmt.Sprintf("x%d", fl.ids), user: h.Token,
			client: uint32(fl.ids), gen: 1, peer: p,
		}
		fl.sessions[s.id] = s
		o := session()
		o.Session, o.Client, o.User, o.Secret = s.id, s.client, s.user, s.secret
		return s, o, nil, nil
	case "resume":
		var r wire.Resume
		read(&r)
		s = fl.sessions[r.Session]
		if s == nil || s.secret != r.Secret {
			return nil, nil, wire.Errorf(wire.NoSession, "no session"), nil
		}
		s.peer.close(wire.CloseReplaced)
		for _, old := range s.old {
			old.close(wire.CloseMoved)
		}
		s.old = nil
		o, after := fl.attach(s, p, r.Positions)
		return s, o, nil, after
	case "handover", "handover.done", "redirect.refuse":
		return fl.redirect(p, s, f)
	case "room.join":
		var j wire.Join
		read(&j)
		l := fl.rooms[j.Room]
		if l == nil {
			l = &log{members: make(map[*seat]*count), delivered: fl.moves}
			fl.rooms[j.Room] = l
		}
		m := l.members[s]
		if m == nil {
			m = &count{answers: make(map[uint64]wire.Sent)}
			l.members[s] = m
			l.append(&wire.RoomEvent{Room: j.Room, Kind: wire.KindJoin, From: wire.Member{User: s.user, Client: s.client}})
		}
		return s, wire.Joined{Room: j.Room, Epoch: "e1", Seq: uint64(len(l.events)), Recovered: j.Since != nil, CSeq: m.cseq}, nil, nil
	case "room.leave":
		var j wire.Leave
		read(&j)
		l := fl.rooms[j.Room]
		if l == nil || l.members[s] == nil {
			return s, nil, wire.Errorf(wire.NotMember, "not a member"), nil
		}
		delete(l.members, s)
		l.append(&wire.RoomEvent{Room: j.Room, Kind: wire.KindLeave, Reason: wire.LeftByChoice, From: wire.Member{User: s.user, Client: s.client}})
		return s, wire.Empty{}, nil, nil
	case "room.send":
		var m wire.Send
		read(&m)
		l := fl.rooms[m.Room]
		if l == nil || l.members[s] == nil {
			return s, nil, wire.Errorf(wire.NotMember, "not a member"), nil
		}
		c := l.members[s]
		if m.CSeq != nil {
			switch n := *m.CSeq; {
			case n <= c.cseq:
				a := c.answers[n]
				a.Dup = true
				return s, a, nil, nil
			case n > c.cseq+1:
				return s, nil, wire.ErrGap(c.cseq + 1), nil
			}
		}
		if string(m.Data) == `"refuse me"` {
			return s, nil, wire.Errorf(wire.TooLarge, "as you wish"), nil
		}
		a := wire.Sent{Seq: uint64(len(l.events) + 1), TS: 1}
		if m.CSeq != nil {
			c.cseq++
			c.answers[c.cseq] = a
			delete(c.answers, c.cseq-64)
		}
		l.append(&wire.RoomEvent{Room: m.Room, Kind: wire.KindMessage, From: wire.Member{User: s.user, Client: s.client}, To: m.To, Data: m.Data})
		return s, a, nil, nil
	case "room.history":
		var h wire.History
		read(&h)
		return s, &wire.Past{Epoch: "e1", Events: fl.rooms[h.Room].events}, nil, nil
	case "bye":
		delete(fl.sessions, s.id)
		return s, wire.Empty{}, nil, func() { p.close(wire.CloseBye) }
	}
	return s, nil, wire.ErrMethod(f.Method), nil
}

func (l *log) append(e *wire.RoomEvent) {
	e.Seq, e.TS = uint64(len(l.events)+1), 1
	l.events = append(l.events, e)
	for s := range l.members {
		if !l.isFor(e, s) {
			continue
		}
		for _, p := range append(s.old[:len(s.old):len(s.old)], s.peer) {
			p.deliver(e)
		}
		if l.delivered != nil {
			l.delivered(s)
		}
	}
}

// isFor says whether a session gets an entry: its own and what is addressed to
// others it does not get.
func (l *log) isFor(e *wire.RoomEvent, s *seat) bool {
	return e.From.Client != s.client && (e.To == nil || *e.To.User == s.user)
}

// replay delivers what s has not seen.
func (l *log) replay(s *seat, after uint64) {
	for _, e := range l.events[after:] {
		if l.isFor(e, s) {
			s.peer.deliver(e)
		}
	}
}
