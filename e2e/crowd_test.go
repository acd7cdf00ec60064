package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"godwit/client"
	"godwit/e2e/fault"
	"godwit/e2e/fleet"
	"godwit/e2e/ledger"
	"godwit/wire"
)

// stage is where a crowd talks.
type stage struct {
	urls  func(first int) []string // of all nodes, that of number first in front
	token func(user string) string
	dial  func(person int) fault.Dialler // nil: the network
	redis redis.UniversalClient
}

// crowd is many clients of a fleet that talk until they are told to stop.
type crowd struct {
	stage
	t      *testing.T
	rooms  []string
	people []*talker

	talking  context.Context
	stop     context.CancelFunc
	speakers sync.WaitGroup
	asking   sync.WaitGroup // for a redirect
	answered atomic.Int64
	lost     atomic.Int64 // sessions
	dropped  atomic.Int64 // sockets
	moved    atomic.Int64 // sessions, from node to node
	settled  atomic.Bool  // everybody has seen everybody: no presence changes from here on
}

// size of a crowd.
type size struct {
	people, rooms, roomsEach int
	pause                    time.Duration // mean, between two messages of one person in one room
}

var (
	fewPeople  = size{people: 12, rooms: 3, roomsEach: 2, pause: 250 * time.Millisecond}
	manyPeople = size{people: 60, rooms: 10, roomsEach: 3, pause: 900 * time.Millisecond}
)

// talker is one client of a crowd.
type talker struct {
	who    string
	user   string
	home   []string
	ledger *ledger.Ledger
	client *client.Client

	mu sync.Mutex
	// guarded by mu
	at      map[string]wire.Position // how far it has seen, by room
	me      uint32
	refused []error
	here    map[string]uint8 // how present others are, as it was told
	stirs   []string         // what it was told of presence when nothing had changed
}

// gather lets a crowd log in, join, and begin to talk.
func gather(t *testing.T, at stage, s size, rng *rand.Rand) *crowd {
	t.Helper()
	c := &crowd{t: t, stage: at}
	c.talking, c.stop = context.WithCancel(context.Background())
	for i := range s.rooms {
		c.rooms = append(c.rooms, fmt.Sprintf("room %d", i))
	}
	var readers sync.WaitGroup
	listening, mute := context.WithCancel(context.Background())
	t.Cleanup(func() {
		c.stop()
		c.speakers.Wait()
		c.asking.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		var closing sync.WaitGroup
		for _, p := range c.people {
			closing.Go(func() { p.client.Close(ctx) })
		}
		closing.Wait()
		mute()
		readers.Wait()
	})
	for i := range s.people {
		p := &talker{
			who: fmt.Sprintf("p%02d", i), user: fmt.Sprintf("user %02d", i/2*2), // two devices each
			ledger: ledger.New(fmt.Sprintf("p%02d", i)), at: map[string]wire.Position{},
			here: map[string]uint8{},
		}
		for j := range s.roomsEach { // spread, so that no room is empty
			p.home = append(p.home, c.rooms[(i+j*(1+i%3))%s.rooms])
		}
		slices.Sort(p.home)
		p.home = slices.Compact(p.home)
		var dial fault.Dialler
		if at.dial != nil {
			dial = at.dial(i)
		}
		var err error
		p.client, err = client.Dial(t.Context(), client.Options{
			URLs:       at.urls(i),
			Token:      func(context.Context) (string, error) { return at.token(p.user), nil },
			Dial:       dial,
			Device:     p.who,
			MaxBackoff: 2 * time.Second,
			OnState: func(s client.State) {
				switch s := s.(type) {
				case client.Connected:
					p.ledger.Known(s.Session.User, s.Session.Client)
				case client.Disconnected:
					c.dropped.Add(1)
				case client.Redirected:
					c.moved.Add(1)
				}
			},
		})
		if err != nil {
			t.Fatalf("%s: %v", p.who, err)
		}
		p.me = p.client.Session().Client
		p.ledger.Attached(p.user, p.me)
		c.people = append(c.people, p)
		readers.Go(func() { c.listen(listening, p) })
	}
	var joining sync.WaitGroup
	for _, p := range c.people {
		joining.Go(func() {
			for _, room := range p.home {
				if _, err := p.client.Join(t.Context(), room); err != nil {
					t.Errorf("%s: %v", p.who, err)
				}
			}
		})
	}
	joining.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for _, p := range c.people { // nobody speaks before all are listed
		fleet.Eventually(t, fleet.Patience, p.who+" has heard that it joined", func() error {
			if n := len(p.positions()); n != len(p.home) {
				return fmt.Errorf("%d rooms of %d", n, len(p.home))
			}
			return nil
		})
	}
	for _, p := range c.people {
		fleet.Eventually(t, fleet.Patience, p.who+" has seen who is there", func() error { return c.unseen(p) })
	}
	c.settled.Store(true)
	for _, room := range c.rooms {
		c.call(room)
	}
	for i, p := range c.people {
		for _, room := range p.home {
			own := rand.New(rand.NewPCG(rng.Uint64(), uint64(i)))
			c.speakers.Go(func() { c.speak(p, room, s.pause, own) })
		}
	}
	return c
}

// unseen says whom a person was not told of.
func (c *crowd) unseen(p *talker) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, other := range c.people {
		if other.user != p.user && slices.ContainsFunc(other.home, func(room string) bool { return slices.Contains(p.home, room) }) && p.here[other.user] != 3 {
			return fmt.Errorf("%s is %d to it, want 3", other.user, p.here[other.user])
		}
	}
	return nil
}

// at are those who are attached to a node.
func (c *crowd) at(node string) (there []*talker) {
	for _, p := range c.people {
		if p.left(node) != nil {
			there = append(there, p)
		}
	}
	return there
}

// left is nil when the person is not attached to a node, or to another one.
func (p *talker) left(node string) error {
	if p.client.Session().Node == node {
		return fmt.Errorf("it is at %s", node)
	}
	return nil
}

// stirs are all the changes of presence that were told when there was none.
func (c *crowd) stirs() (out []string) {
	for _, p := range c.people {
		p.mu.Lock()
		out = append(out, p.stirs...)
		p.mu.Unlock()
	}
	return out
}

// call puts some of a room into a call: two devices of a user, and another user,
// if the room has them.
func (c *crowd) call(room string) {
	c.t.Helper()
	devices := map[string]int{}
	for _, p := range c.people {
		if !slices.Contains(p.home, room) || devices[p.user] == 2 || len(devices) == 2 && devices[p.user] == 0 {
			continue
		}
		devices[p.user]++
		if _, err := p.client.Call(c.t.Context(), room); err != nil {
			c.t.Fatalf("%s: %v", p.who, err)
		}
	}
	if len(devices) < 2 {
		c.t.Fatalf("room %s has no two users", room)
	}
}

// calls holds the logs to one entry of each room's call, which began and has not
// ended; after a reset it may not have begun again yet.
func (c *crowd) calls(logs map[string]ledger.Log, reset bool) {
	c.t.Helper()
	for _, room := range c.rooms {
		var flags []bool
		for _, e := range logs[room].Entries {
			if e.Kind == wire.KindCall {
				flags = append(flags, *e.InCall)
			}
		}
		if !slices.Equal(flags, []bool{true}) && !(reset && len(flags) == 0) {
			c.t.Errorf("the call of %s became %v, want it to begin and to go on", room, flags)
		}
	}
}

// listen writes down what a client is told.
func (c *crowd) listen(ctx context.Context, p *talker) {
	for {
		e, err := p.client.Next(ctx)
		if err != nil {
			if !errors.Is(err, client.ErrClosed) && !errors.Is(err, context.Canceled) {
				c.t.Errorf("%s: its client has ended: %v", p.who, err)
			}
			return
		}
		p.mu.Lock()
		switch e := e.(type) {
		case *wire.RoomEvent:
			p.ledger.Saw(e)
			if at := p.at[e.Room]; e.Seq > at.Seq {
				p.at[e.Room] = wire.Position{Epoch: at.Epoch, Seq: e.Seq}
			}
		case client.PresenceChanged:
			p.here[e.User] = e.Presence
			if c.settled.Load() {
				p.stirs = append(p.stirs, fmt.Sprintf("%s was told at %s: %+v", p.who, time.Now().Format("05.000"), e))
			}
		case client.Joined:
			p.identify()
			p.ledger.Joined(e.Room, e.Epoch, e.Seq)
			p.at[e.Room] = wire.Position{Epoch: e.Epoch, Seq: e.Seq}
		case *wire.Reset:
			p.ledger.Reset(e.Room, e.Epoch, e.Seq)
			p.at[e.Room] = wire.Position{Epoch: e.Epoch, Seq: e.Seq}
		case client.Gap:
			p.ledger.Gap(e.Room, e.Epoch, e.Seq)
			p.at[e.Room] = wire.Position{Epoch: e.Epoch, Seq: e.Seq}
		case client.Lost:
			for _, room := range e.Rooms {
				delete(p.at, room)
			}
			if errors.Is(e.Err, client.ErrSessionGone) {
				c.lost.Add(1)
				p.ledger.Lost("")
				break
			}
			for _, room := range e.Rooms {
				p.ledger.Lost(room)
			}
		}
		p.mu.Unlock()
	}
}

// identify writes down a new session once its first room is joined.
func (p *talker) identify() {
	if s := p.client.Session(); s.Client != p.me {
		p.me = s.Client
		p.ledger.Attached(s.User, s.Client)
	}
}

// speak sends to one room, one message after the other, until the talk is over.
func (c *crowd) speak(p *talker, room string, pause time.Duration, rng *rand.Rand) {
	timer := time.NewTimer(time.Duration(rng.Int64N(int64(pause))))
	defer timer.Stop()
	for {
		select {
		case <-c.talking.Done():
			return
		case <-timer.C:
		}
		c.say(p, room, rng)
		timer.Reset(pause/2 + time.Duration(rng.Int64N(int64(pause))))
	}
}

// say sends one message and waits for its outcome.
func (c *crowd) say(p *talker, room string, rng *rand.Rand) {
	var to *wire.To
	var opts []client.SendOption
	other := c.people[rng.IntN(len(c.people))]
	switch n := rng.IntN(10); {
	case n == 0:
		to = &wire.To{User: &other.user}
		opts = append(opts, client.ToUser(other.user))
	case n == 1:
		id := other.client.Session().Client
		to = &wire.To{Client: &id}
		opts = append(opts, client.ToClient(id))
	}
	ephemeral := rng.IntN(20) == 0
	if ephemeral {
		opts = append(opts, client.Ephemeral())
	}
	m := p.ledger.Sending(room, to, ephemeral)
	for range rng.IntN(40) {
		m.Pad += "0123456789"
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*fleet.Patience)
	defer cancel()
	sent, err := p.client.Send(ctx, room, m, opts...)
	var w *wire.Error
	switch {
	case err == nil:
		p.ledger.Answered(m.ID, sent)
		c.answered.Add(1)
	case ctx.Err() != nil:
		c.t.Errorf("%s: the message %q had no answer in %s: %v", p.who, m.ID, 2*fleet.Patience, err)
	case errors.Is(err, client.ErrUnsettled):
	case errors.As(err, &w) && w.Reason() != wire.Unavailable:
		p.ledger.Refused(m.ID, w.Reason())
		if w.Reason() == wire.NoRecipient {
			break
		}
		p.mu.Lock()
		p.refused = append(p.refused, err)
		p.mu.Unlock()
	}
}

// hear waits until n more messages are answered.
func (c *crowd) hear(n int64) {
	c.t.Helper()
	want := c.answered.Load() + n
	fleet.Eventually(c.t, 2*fleet.Patience, fmt.Sprintf("%d more answers", n), func() error {
		if got := c.answered.Load(); got < want {
			return fmt.Errorf("%d are missing", want-got)
		}
		return nil
	})
}

// hush ends the talk: every message has its outcome.
func (c *crowd) hush() {
	c.t.Helper()
	c.stop()
	c.speakers.Wait()
}

func (p *talker) positions() map[string]wire.Position {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.at)
}

// settle ends the talk, waits until every client has seen what the logs hold
// for it, and checks the ledgers.
func (c *crowd) settle(catchUp time.Duration) ledger.Report {
	c.t.Helper()
	c.hush()
	var logs map[string]ledger.Log
	fleet.Eventually(c.t, catchUp, "everyone has caught up", func() error {
		logs = map[string]ledger.Log{}
		for _, room := range c.rooms {
			logs[room] = truth(c.t, c.redis, room)
		}
		return c.behind(logs)
	})
	var all []*ledger.Ledger
	for _, p := range c.people {
		all = append(all, p.ledger)
		p.mu.Lock()
		for _, err := range p.refused {
			c.t.Errorf("%s was refused: %v", p.who, err)
		}
		p.mu.Unlock()
	}
	r := ledger.Check(all, logs)
	c.calls(logs, r.Excused > 0)
	c.t.Logf("%d messages, %d answered, %d events seen, %d breaks told; %d sessions moved; %d sockets and %d sessions lost",
		r.Messages, r.Answered, r.Seen, r.Excused, c.moved.Load(), c.dropped.Load(), c.lost.Load())
	if err := r.Err(); err != nil {
		c.t.Error(err)
	}
	return r
}

// behind tells who has not seen what.
func (c *crowd) behind(logs map[string]ledger.Log) error {
	for _, p := range c.people {
		at := p.positions()
		p.mu.Lock()
		me := p.me
		p.mu.Unlock()
		for _, room := range p.home {
			log, pos := logs[room], at[room]
			if pos.Epoch != log.Epoch {
				return fmt.Errorf("%s is at epoch %q of %s, which has %q", p.who, pos.Epoch, room, log.Epoch)
			}
			for _, e := range slices.Backward(log.Entries) {
				if e.Seq <= pos.Seq {
					break
				}
				to := e.To
				if e.From.Client != me && (to == nil || (to.User == nil || *to.User == p.user) && (to.Client == nil || *to.Client == me)) {
					return fmt.Errorf("%s is at %d of %s, and %d is for it", p.who, pos.Seq, room, e.Seq)
				}
			}
		}
	}
	return nil
}
