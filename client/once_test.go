package client_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"godwit/client"
	"godwit/wire"
)

// offer is what the fleet's store knows of a redirect.
type offer struct {
	id    string
	seat  *seat
	gen   uint64
	state string // offered, committed, over
}

// offerSome offers a session another node now and then, and takes some of it
// back.
func (fl *fleet) offerSome(rng *rand.Rand, s *seat) {
	if fl.calm || rng.IntN(100) >= 6 {
		return
	}
	fl.ids++
	o := &offer{id: fmt.Sprintf("o%d", fl.ids), seat: s, gen: s.gen, state: "offered"}
	fl.offers["t"+o.id] = o
	s.peer.notice("redirect", wire.Redirect{ID: o.id, URL: fl.url(), Token: "t" + o.id, ExpiresInMS: 5000, Reason: wire.ForBalance})
	switch p := s.peer; rng.IntN(10) {
	case 0: // taken back, at once or when it may have been followed
		wait := time.Duration(rng.IntN(2)) * time.Millisecond
		fl.later(p, wait, func() {
			if o.state == "offered" {
				o.state = "over"
				p.notice("redirect.cancel", wire.RedirectCancel{ID: o.id})
			}
		})
	case 1: // the balancer's node is busy
		fl.script.mu.Lock()
		fl.script.refuse = append(fl.script.refuse, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
		fl.script.mu.Unlock()
	case 2: // the old socket ends on its own in the middle of it
		fl.later(p, time.Duration(rng.IntN(2))*time.Millisecond, func() {
			if rng.IntN(2) == 0 {
				p.notice("bye", wire.Bye{Reason: "drain", RetryAfterMS: 1})
				p.close(wire.CloseRestart)
			} else {
				p.cut()
			}
		})
	}
}

// later runs f under fl.mu, unless p has ended by then or all is calm.
func (fl *fleet) later(p *peer, wait time.Duration, f func()) {
	fl.wg.Go(func() {
		select {
		case <-p.closed:
			return
		case <-time.After(wait):
		}
		fl.mu.Lock()
		defer fl.mu.Unlock()
		if !fl.calm {
			f()
		}
	})
}

// redirect is the contract's part of a handover.
func (fl *fleet) redirect(p *peer, s *seat, f frame) (_ *seat, result any, err *wire.Error, after func()) {
	switch f.Method {
	case "redirect.refuse":
		var r wire.RedirectRefuse
		_ = json.Unmarshal(f.Params, &r)
		if o := fl.offers["t"+r.ID]; o != nil && o.state == "offered" {
			o.state = "over"
		}
		return s, wire.Empty{}, nil, nil
	case "handover.done":
		return s, wire.Empty{}, nil, func() { s.closeOld() }
	}
	var h wire.Handover
	_ = json.Unmarshal(f.Params, &h)
	o := fl.offers[h.Token]
	no := func(reason wire.Reason) (*seat, any, *wire.Error, func()) {
		return nil, nil, wire.Errorf(reason, "no"), func() { p.close(wire.CloseMoved) }
	}
	switch {
	case o == nil || o.id != h.ID:
		return no(wire.BadToken)
	case o.state == "committed":
		return no(wire.Used)
	case o.state == "over":
		return no(wire.Cancelled)
	case fl.sessions[o.seat.id] != o.seat:
		return no(wire.NoSession)
	case o.seat.gen != o.gen:
		return no(wire.GenMismatch)
	}
	if !fl.calm {
		switch rand.IntN(10) {
		case 0, 1:
			return no(wire.SameNode)
		case 2:
			return no(wire.Capacity)
		}
	}
	o.state = "committed"
	s, old := o.seat, o.seat.peer
	s.old = append(s.old, old)
	session, after := fl.attach(s, p, h.Positions)
	session.Node = "n" + o.id
	fl.wg.Go(func() { // the old node's timer, where it does not hear handover.done
		select {
		case <-old.closed:
		case <-time.After(30 * time.Millisecond):
			old.close(wire.CloseMoved)
		}
	})
	if rand.IntN(8) == 0 { // the new socket does not live long
		fl.later(p, time.Duration(rand.IntN(3))*time.Millisecond, p.cut)
	}
	return s, session, nil, after
}

// closeOld ends the sockets that the session has left.
func (s *seat) closeOld() {
	for _, old := range s.old {
		old.notice("moved", wire.MovedAway{})
		old.close(wire.CloseMoved)
	}
	s.old = nil
}

// deliver writes an event some time, in order, so that one of two sockets is
// ahead of the other.
func (p *peer) deliver(e *wire.RoomEvent) {
	select {
	case p.late <- e:
	default:
		p.cut() // too slow
	}
}

// deliverer writes what deliver was given.
func (p *peer) deliverer() {
	for {
		select {
		case e := <-p.late:
			switch rand.IntN(20) {
			case 0:
				<-time.After(time.Duration(rand.IntN(1000)) * time.Microsecond)
			case 1, 2, 3:
				runtime.Gosched()
			}
			p.write(e.Frame())
		case <-p.closed:
			return
		}
	}
}

func TestOnce_WhateverHappensToAnswersAndSockets(t *testing.T) {
	const senders, each = 6, 40
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	fl := newFleet(t, func() fault {
		if rng.IntN(100) > 25 {
			return none
		}
		return fault(rng.IntN(int(faultsNumber)))
	})
	fl.mu.Lock()
	fl.moves = func(s *seat) { fl.offerSome(rng, s) }
	fl.mu.Unlock()
	var redirected atomic.Int32
	dial := func(name string) *client.Client {
		o := options(fl.script)
		o.OnState = func(st client.State) {
			if _, ok := st.(client.Redirected); ok {
				redirected.Add(1)
			}
		}
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
				var to []client.SendOption
				if i%4 == 3 { // not for the reader, who sees a gap
					to = append(to, client.ToUser("zoe"))
				}
				sent, err := sender.Send(t.Context(), "r", data, to...)
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
	fl.calm = true
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
	// The reader saw each entry that is for it once, in order.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	at := uint64(0)
	upcoming := func() uint64 {
		for _, e := range events[at:] {
			if e.To == nil && e.From.User != "bo" {
				return e.Seq
			}
		}
		return 0
	}
	for at == 0 || upcoming() != 0 {
		e, err := reader.Next(ctx)
		if err != nil {
			t.Fatalf("reader stands at %d of %d: %v", at, len(events), err)
		}
		switch e := e.(type) {
		case client.Joined:
			at = e.Seq
		case *wire.RoomEvent:
			if want := upcoming(); e.Seq != want {
				t.Fatalf("reader saw %d after %d, want %d", e.Seq, at, want)
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
	if n := redirected.Load(); n == 0 {
		t.Error("no session was redirected")
	} else {
		t.Logf("%d redirects", n)
	}
	for _, c := range []*client.Client{sender, reader} {
		if _, err := c.History(ctx, "r"); err != nil { // it may have been on its way back
			t.Errorf("history: %v", err)
		}
		if err := c.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}
