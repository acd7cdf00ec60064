package client_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"godwit/client"
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
}

// log is one room.
type log struct {
	events  []*wire.RoomEvent
	members map[*seat]*count
}

// count is what a room knows of a member's sends.
type count struct {
	cseq    uint64
	answers map[uint64]wire.Sent
}

func newFleet(t testing.TB, f func() fault) *fleet {
	fl := &fleet{
		script: newScript(t), fault: f,
		sessions: make(map[string]*seat), rooms: make(map[string]*log),
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
			s.peer.cut()
		}
		fl.mu.Unlock()
		fl.wg.Wait()
	})
	return fl
}

func (fl *fleet) serve(p *peer) {
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
	what := fl.fault()
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
		return s
	}
	return s
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
		s.peer = p
		s.gen++
		o := session()
		o.Session, o.Client, o.User, o.Gen, o.Resumed = s.id, s.client, s.user, s.gen, true
		for name, l := range fl.rooms {
			if m := l.members[s]; m != nil {
				pos, named := r.Positions[name]
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
		return s, o, nil, after
	case "room.join":
		var j wire.Join
		read(&j)
		l := fl.rooms[j.Room]
		if l == nil {
			l = &log{members: make(map[*seat]*count)}
			fl.rooms[j.Room] = l
		}
		m := l.members[s]
		if m == nil {
			m = &count{answers: make(map[uint64]wire.Sent)}
			l.members[s] = m
			l.append(&wire.RoomEvent{Room: j.Room, Kind: wire.KindJoin, From: wire.Member{User: s.user, Client: s.client}}, s)
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
		l.append(&wire.RoomEvent{Room: j.Room, Kind: wire.KindLeave, Reason: wire.LeftByChoice, From: wire.Member{User: s.user, Client: s.client}}, s)
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
		l.append(&wire.RoomEvent{Room: m.Room, Kind: wire.KindMessage, From: wire.Member{User: s.user, Client: s.client}, Data: m.Data}, s)
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

func (l *log) append(e *wire.RoomEvent, from *seat) {
	e.Seq, e.TS = uint64(len(l.events)+1), 1
	l.events = append(l.events, e)
	for s := range l.members {
		if s != from {
			s.peer.write(e.Frame())
		}
	}
}

// replay delivers what s has not seen: its own entries are not for it.
func (l *log) replay(s *seat, after uint64) {
	for _, e := range l.events[after:] {
		if e.From.Client != s.client {
			s.peer.write(e.Frame())
		}
	}
}

func TestOnce_WhateverHappensToAnswersAndSockets(t *testing.T) {
	const senders, each = 6, 40
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	calm := false // guarded by fl.mu
	fl := newFleet(t, func() fault {
		if calm || rng.IntN(100) > 25 {
			return none
		}
		return fault(rng.IntN(int(faultsNumber)))
	})
	dial := func(name string) *client.Client {
		o := options(fl.script)
		o.Token = func(context.Context) (string, error) { return name, nil }
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		for {
			c, err := client.Dial(ctx, o)
			if err == nil {
				return c
			}
			if ctx.Err() != nil {
				t.Fatal(err)
			}
		}
	}
	sender, reader := dial("ann"), dial("bo")
	if _, err := reader.Join(t.Context(), "r"); err != nil {
		t.Fatal(err)
	}
	if _, err := sender.Join(t.Context(), "r"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	answers := make([][]wire.Sent, senders)
	for g := range senders {
		wg.Go(func() {
			for i := range each {
				data := fmt.Sprintf("%d-%d", g, i)
				if i%10 == 9 {
					if _, err := sender.Send(t.Context(), "r", "refuse me"); !client.Is(err, wire.TooLarge) {
						t.Errorf("refused send: %v, want too_large", err)
					}
				}
				sent, err := sender.Send(t.Context(), "r", data)
				if err != nil {
					t.Errorf("send %s: %v", data, err)
					return
				}
				answers[g] = append(answers[g], sent)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	fl.mu.Lock()
	calm = true
	events := fl.rooms["r"].events
	fl.mu.Unlock()

	// Each message once, at the place that its answer told.
	seen := make(map[string]uint64)
	for _, e := range events {
		if e.Kind != wire.KindMessage {
			continue
		}
		if old, ok := seen[string(e.Data)]; ok {
			t.Errorf("message %s is in the log at %d and %d", e.Data, old, e.Seq)
		}
		seen[string(e.Data)] = e.Seq
	}
	for g := range senders {
		last := uint64(0)
		for i, a := range answers[g] {
			at := seen[fmt.Sprintf(`"%d-%d"`, g, i)]
			if at == 0 || a.Seq != at || at <= last {
				t.Errorf("message %d-%d: answered %d, in the log at %d, after %d", g, i, a.Seq, at, last)
			}
			last = at
		}
	}
	// The reader saw each of the sender's entries once, in order.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	at := uint64(0)
	for at < uint64(len(events)) {
		e, err := reader.Next(ctx)
		if err != nil {
			t.Fatalf("reader stands at %d of %d: %v", at, len(events), err)
		}
		switch e := e.(type) {
		case client.Joined:
			at = e.Seq
		case *wire.RoomEvent:
			if e.Seq != at+1 {
				t.Fatalf("reader saw %d after %d", e.Seq, at)
			}
			at = e.Seq
		case client.Resumed:
			for _, r := range e.Rooms {
				if !r.Recovered && at > 0 { // before, the answer to its join was lost
					t.Fatalf("reader was resumed without recovery of %q, though the log was whole", r.Room)
				}
			}
		default:
			t.Fatalf("reader was told %+v, though the log was whole", e)
		}
	}
	for _, c := range []*client.Client{sender, reader} {
		if err := c.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}
