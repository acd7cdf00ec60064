package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"godwit/client"
	"godwit/e2e/ledger"
	"godwit/wire"
)

// person is one client of a crowd.
type person struct {
	crowd *crowd
	who   string
	user  string
	home  []int // numbers of its rooms
	seats map[string]*seat
	near  int // how many others are in its rooms

	// owned by the reader
	online map[string]bool // who of them was told to be online, in this session
	met    bool            // all were once

	client  *client.Client
	session func() wire.Session // its client's

	mu sync.Mutex
	// guarded by mu
	node  string    // where it is attached, or was
	quiet silence   // between any two events
	way   passage   // of what came around its moves
	gone  time.Time // when its socket was lost; zero: it has one
}

// seat is a person's place in a room. Owned by the reader, but for the ledger's.
type seat struct {
	*ledger.Seat
	in bool
}

// take gives the person a place in a room.
func (p *person) take(room int) {
	p.home = append(p.home, room)
	p.seats[p.crowd.rooms[room]] = &seat{Seat: p.crowd.tapes[room].Seat(p.who)}
}

// login dials and joins the person's rooms.
func (p *person) login(ctx context.Context, urls []string) error {
	token, err := minter(p.user, "", p.crowd.secret)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, soakCall)
	defer cancel()
	p.client, err = client.Dial(ctx, client.Options{
		URLs: urls, Token: token, Device: p.who, NoRedirect: p.crowd.o.stay,
		OnState: func(s client.State) { p.state(s, time.Now()) },
	})
	if err != nil {
		return err
	}
	p.session = p.client.Session
	p.crowd.readers.Go(p.listen)
	for _, room := range p.home {
		if _, err := p.client.Join(ctx, p.crowd.rooms[room]); err != nil {
			return err
		}
	}
	return nil
}

// at is the node that the person is attached to, or was last.
func (p *person) at() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.node
}

// listen reads the client's events until it or the crowd ends.
func (p *person) listen() {
	for {
		e, err := p.client.Next(p.crowd.reading)
		if err != nil {
			if !errors.Is(err, client.ErrClosed) && p.crowd.reading.Err() == nil {
				p.crowd.lost.Add(1)
				p.crowd.flaw("%s has ended: %v", p.who, err)
			}
			return
		}
		p.hear(e, time.Now())
	}
}

// hear takes one event.
func (p *person) hear(e client.Event, now time.Time) {
	c := p.crowd
	switch e := e.(type) {
	case *wire.RoomEvent:
		if m := p.seat(e.Room).Saw(e); m.At > 0 {
			p.delivered(delivery{sent: c.began.Add(time.Duration(m.At)), came: now})
		}
		p.heard(now)
	case client.PresenceChanged:
		p.sees(e)
	case client.Joined:
		s := p.seat(e.Room)
		me := p.session()
		s.Joined(me.User, me.Client, e.Epoch, e.Seq)
		if !s.in {
			s.in = true
			c.entered <- struct{}{} // has room for all
		}
	case *wire.Reset:
		c.resets.Add(1)
		p.seat(e.Room).Reset(e.Epoch, e.Seq)
	case client.Gap:
		c.unrecovered.Add(1)
		p.seat(e.Room).Gap(e.Epoch, e.Seq)
	case client.Lost:
		for _, room := range e.Rooms {
			p.seat(room).Lost()
		}
		clear(p.online) // a new session is told of all anew
		if !errors.Is(e.Err, client.ErrSessionGone) {
			c.flaw("%s is no longer in %s: %v", p.who, strings.Join(e.Rooms, ", "), e.Err)
		}
	}
}

// sees takes how present somebody is said to be. Everybody is online from its
// login on, so that each is told of each other once; whatever else is told did
// not happen. In a session that begins anew, the others go before they come.
func (p *person) sees(e client.PresenceChanged) {
	c := p.crowd
	known := p.online[e.User]
	switch {
	case e.Self:
		c.stir("%s was told to be %d itself", p.who, e.Presence)
	case e.Presence == soakOnline && !known:
		p.online[e.User] = true
		if !p.met && len(p.online) == p.near {
			p.met = true
			c.entered <- struct{}{} // has room for all
		}
	case known || e.Presence != 0:
		c.stir("%s was told that %s is %d", p.who, e.User, e.Presence)
	}
}

// seat is the person's place in a room. One that it has not asked for is noted,
// and of no account.
func (p *person) seat(room string) *seat {
	if s := p.seats[room]; s != nil {
		return s
	}
	p.crowd.flaw("%s was told of room %q, which it has not joined", p.who, room)
	return &seat{Seat: ledger.NewTape(room, 1).Seat(p.who), in: true}
}

// delivered measures how late a message came.
func (p *person) delivered(d delivery) {
	p.crowd.latency.add(d.late(), 1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.way.hears(d) {
		p.crowd.around.add(d.late(), 1)
	}
}

// heard measures how long it was quiet.
func (p *person) heard(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.crowd
	quiet, around, moved := p.quiet.hears(now)
	if moved {
		c.pauses.add(around, 1)
	}
	c.usual.add(quiet, uint64(quiet/time.Millisecond)) // by its length: as a moment finds it
}

// state takes what the client says of its sockets.
func (p *person) state(s client.State, now time.Time) {
	c := p.crowd
	if to, took, ok := handedOver(s); ok {
		c.handed.Add(1)
		p.moves(now.Add(-took), now, to)
		c.arrived(p, now)
		return
	}
	switch s := s.(type) {
	case client.Disconnected:
		p.loses(now)
		p.moves(now, time.Time{}, "")
	case client.Connected:
		switch {
		case s.Resumed:
			c.resumed.Add(1)
			c.resumes.add(p.found(now), 1)
		case p.at() != "":
			c.lost.Add(1)
		}
		p.moves(time.Time{}, now, s.Session.Node)
		c.arrived(p, now)
	}
}

// moves notes that the person leaves a node, or arrives at one, or both.
func (p *person) moves(from, until time.Time, node string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !from.IsZero() {
		p.quiet.leaves(from)
		for _, late := range p.way.leaves(from) {
			p.crowd.around.add(late, 1)
		}
	}
	if !until.IsZero() {
		p.quiet.arrives(until)
		p.way.arrives(until)
	}
	if node != "" {
		p.node = node
	}
}

// loses notes the loss of the socket, once.
func (p *person) loses(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone.IsZero() {
		p.gone = now
	}
}

// found is how long it took to have a socket again.
func (p *person) found(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	took := now.Sub(p.gone)
	p.gone = time.Time{}
	return took
}

// handedOver says whether the state tells that the session has moved to another
// node by a redirect, make before break: where to, and how long it took.
func handedOver(s client.State) (to string, took time.Duration, ok bool) {
	r, ok := s.(client.Redirected)
	return r.To, r.Took, ok
}

// speak sends messages, one after the other, until the talk ends.
func (p *person) speak(pause time.Duration, rng *rand.Rand) {
	next := func() time.Duration { return pause/2 + time.Duration(rng.Int64N(int64(pause)+1)) }
	timer := time.NewTimer(time.Duration(rng.Int64N(int64(pause) + 1)))
	defer timer.Stop()
	for {
		select {
		case <-p.crowd.talking.Done():
			return
		case <-timer.C:
		}
		due := time.Now().Add(next())
		p.say(p.home[rng.IntN(len(p.home))], rng.IntN(soakPad))
		timer.Reset(time.Until(due)) // at once when the answer took longer than that
	}
}

// say sends one message and waits for its outcome.
func (p *person) say(room, pad int) {
	c := p.crowd
	name := c.rooms[room]
	s := p.seats[name]
	if s.Full() {
		c.held.Add(1)
		return
	}
	m := s.Sending()
	m.At = max(int64(time.Since(c.began)), 1)
	m.Pad = strings.Repeat("x", pad)
	sent, err := p.client.Send(c.sending, name, m)
	var refused *wire.Error
	switch {
	case err == nil:
		s.Answered(sent.Seq)
		c.once.Do(func() { close(c.spoken) })
	case errors.As(err, &refused) && !errors.Is(err, client.ErrUnsettled):
		s.Refused(refused.Reason())
	default:
		s.Unsettled()
	}
}
