package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"godwit/e2e/ledger"
)

const (
	soakAtOnce  = 32 // logins, and other calls of many clients
	soakCall    = 30 * time.Second
	soakCatchUp = 30 * time.Second
	soakBye     = 10 * time.Second // and soakByeEach for every client
	soakByeEach = 5 * time.Millisecond
	// soakUnseen is how much of a room's talk some member may have to see yet
	// before the room waits for it, in time and at least in entries.
	soakUnseen        = 2 * time.Minute
	soakUnseenEntries = 4096
	soakPad           = 200 // bytes of padding of a message, at most
	soakFlaws         = 20  // that are described
	soakOnline        = 3   // how present everybody is, from its login to its end
)

// crowd is the clients of a soak: they talk in rooms until they are told to
// stop, and each room's tape holds the fleet to its promises meanwhile.
type crowd struct {
	o      soakOptions
	secret string
	began  time.Time
	rooms  []string
	tapes  []*ledger.Tape
	called []bool // which rooms are in a call; set before the talk
	people []*person
	// entered has a token for each place that somebody has got, and for each who was
	// told how present all its neighbours are; cap is their number.
	entered chan struct{}
	spoken  chan struct{} // closed when the first message is answered
	once    sync.Once

	talking  context.Context // ends the talk
	hush     context.CancelFunc
	sending  context.Context // ends what is sent
	giveUp   context.CancelFunc
	reading  context.Context // ends the readers
	mute     context.CancelFunc
	speakers sync.WaitGroup
	readers  sync.WaitGroup

	handed, resumed, lost     atomic.Int64 // sessions
	resets, unrecovered, held atomic.Int64
	stirs                     atomic.Int64 // changes of presence that were told, and nothing had changed

	latency, around spread // from send to receive: of all, and of what came around a move
	usual, pauses   spread // the quiet around any moment, and around a move
	resumes         spread // from the loss of a socket to the session's next one

	mu sync.Mutex
	// guarded by mu
	move  *exodus
	flaws []string
	odd   []string            // the first of the stirs
	back  [soakTenths + 1]int // who was elsewhere by which tenth of the budget, and after it
}

// soakTenths are the parts of the budget by which it is told who moved when.
const soakTenths = 10

// exodus is the clients of a node that goes away, until they are elsewhere.
type exodus struct {
	began time.Time
	away  map[*person]bool // guarded by crowd.mu
	done  chan struct{}    // closed when nobody is away
}

func newCrowd(o soakOptions, run, secret string) *crowd {
	c := &crowd{o: o, secret: secret, began: time.Now(), spoken: make(chan struct{})}
	c.talking, c.hush = context.WithCancel(context.Background())
	c.sending, c.giveUp = context.WithCancel(context.Background())
	c.reading, c.mute = context.WithCancel(context.Background())
	unseen := max(soakUnseenEntries, min(int(o.rate/float64(o.rooms)*soakUnseen.Seconds()), 1<<20))
	for i := range o.rooms {
		c.rooms = append(c.rooms, run+"/"+strconv.Itoa(i+1))
		c.tapes = append(c.tapes, ledger.NewTape(c.rooms[i], unseen))
	}
	c.called = make([]bool, o.rooms)
	tokens := 0
	for i := range o.clients {
		p := &person{
			crowd: c, who: "c" + strconv.Itoa(i+1), user: run + "-c" + strconv.Itoa(i+1),
			seats: map[string]*seat{}, online: map[string]bool{},
		}
		p.take(i % o.rooms)
		if i%4 == 0 && o.rooms > 1 { // some have more than one room to carry over
			p.take((i + 1) % o.rooms)
		}
		tokens += len(p.home)
		c.people = append(c.people, p)
	}
	members := c.members()
	for _, p := range c.people {
		near := map[*person]bool{}
		for _, room := range p.home {
			for _, other := range members[room] {
				near[other] = true
			}
		}
		if p.near = len(near) - 1; p.near > 0 {
			tokens++
		}
	}
	c.entered = make(chan struct{}, tokens)
	return c
}

// enter logs everybody in and waits until each has heard that it has joined, and
// how present the others in its rooms are.
func (c *crowd) enter(ctx context.Context, urls func(nth int) []string) error {
	g, first := errgroup.WithContext(ctx) // ends with the first that fails
	g.SetLimit(soakAtOnce)
	for i, p := range c.people {
		g.Go(func() error {
			if err := p.login(first, urls(i)); err != nil {
				return fmt.Errorf("%s: %w", p.who, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	late := time.NewTimer(soakCall)
	defer late.Stop()
	for range cap(c.entered) {
		select {
		case <-c.entered:
		case <-late.C:
			return errors.New("somebody has joined, and its client does not tell of it, or not who is there")
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// call puts the first two of every room that has two into its call, for the rest
// of the run.
func (c *crowd) call(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, soakCall)
	defer cancel()
	g, first := errgroup.WithContext(ctx)
	g.SetLimit(soakAtOnce)
	for room, members := range c.members() {
		if len(members) < 2 {
			continue
		}
		c.called[room] = true
		for _, p := range members[:2] {
			g.Go(func() error {
				if _, err := p.client.Call(first, c.rooms[room]); err != nil {
					return fmt.Errorf("%s: %w", p.who, err)
				}
				return nil
			})
		}
	}
	return g.Wait()
}

// members are the people of each room.
func (c *crowd) members() [][]*person {
	members := make([][]*person, len(c.rooms))
	for _, p := range c.people {
		for _, room := range p.home {
			members[room] = append(members[room], p)
		}
	}
	return members
}

// talk lets everybody speak, each with choices of its own.
func (c *crowd) talk(rng *rand.Rand) {
	pause := time.Duration(float64(c.o.clients) / c.o.rate * float64(time.Second))
	for i, p := range c.people {
		own := rand.New(rand.NewPCG(rng.Uint64(), uint64(i)))
		c.speakers.Go(func() { p.speak(pause, own) })
	}
}

// leaving begins to watch for those who are at a node to be elsewhere.
func (c *crowd) leaving(node string) (*exodus, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := &exodus{began: time.Now(), away: map[*person]bool{}, done: make(chan struct{})}
	for _, p := range c.people {
		if p.at() == node {
			m.away[p] = true
		}
	}
	n := len(m.away)
	if n == 0 {
		close(m.done)
	}
	c.move = m
	return m, n
}

// arrived notes that somebody is attached, here or there.
func (c *crowd) arrived(p *person, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.move; m != nil && m.away[p] {
		delete(m.away, p)
		c.back[min(max(0, now.Sub(m.began))*soakTenths/c.o.budget, soakTenths)]++
		if len(m.away) == 0 {
			close(m.done)
		}
	}
}

// settled waits until nobody of an exodus is away; a flaw says who still is.
func (c *crowd) settled(ctx context.Context, m *exodus, within time.Duration) error {
	late := time.NewTimer(within)
	defer late.Stop()
	select {
	case <-m.done:
		return nil
	case <-late.C:
	case <-ctx.Done():
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := range m.away {
		return fmt.Errorf("%d clients are not back after %s, %s among them", len(m.away), within, p.who)
	}
	return nil
}

// flaw notes what must not be and has no count of its own.
func (c *crowd) flaw(format string, args ...any) { c.note(&c.flaws, format, args...) }

// stir notes that somebody was told of a change of presence that was none.
func (c *crowd) stir(format string, args ...any) {
	c.stirs.Add(1)
	c.note(&c.odd, format, args...)
}

// note describes one more of a kind, if it is among the first.
func (c *crowd) note(kind *[]string, format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(*kind) < soakFlaws {
		*kind = append(*kind, fmt.Sprintf(format, args...))
	}
}

// end ends the talk and is what the tapes have found. With all, it first waits
// until every message has its answer and everybody has seen everything, or has
// had the time to; the end of ctx ends that, and nothing is held against who is
// still on the way.
func (c *crowd) end(ctx context.Context, all bool) ledger.Tally {
	c.hush()
	if all {
		late, cancel := context.WithTimeout(ctx, soakCall)
		stop := context.AfterFunc(late, c.giveUp)
		c.speakers.Wait()
		stop()
		cancel()
		c.catchUp(ctx)
	}
	c.giveUp()
	c.speakers.Wait()
	all = all && ctx.Err() == nil
	var sum ledger.Tally
	for _, t := range c.tapes {
		sum = sum.Add(t.Finish(all))
	}
	return sum
}

// catchUp asks how far each room's log goes, and waits until its members have
// seen all of it or the time is over.
func (c *crowd) catchUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, soakCatchUp)
	defer cancel()
	members := c.members()
	var g errgroup.Group
	g.SetLimit(soakAtOnce)
	for i, t := range c.tapes {
		g.Go(func() error {
			info, err := members[i][0].client.Info(ctx, c.rooms[i])
			switch {
			case ctx.Err() != nil:
				return nil
			case err != nil:
				c.flaw("%s: %v", members[i][0].who, err)
			case !info.More && len(info.Members) != len(members[i]):
				c.flaw("room %s has %d members, and there should be %d", c.rooms[i], len(info.Members), len(members[i]))
			case info.InCall != c.called[i]:
				c.flaw("room %s is in a call: %t", c.rooms[i], info.InCall)
			}
			t.Head(info.Epoch, info.Seq)
			_ = t.CaughtUp(ctx) // who is late by then is found by Finish
			return nil
		})
	}
	_ = g.Wait() // none fails
}

// close ends the sessions, as far as somebody is there to be told, and then
// everything of the crowd.
func (c *crowd) close() {
	c.hush()
	c.giveUp()
	c.speakers.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), soakBye+time.Duration(len(c.people))*soakByeEach)
	defer cancel()
	var g errgroup.Group
	g.SetLimit(2 * soakAtOnce)
	for _, p := range c.people {
		if p.client != nil {
			g.Go(func() error {
				_ = p.client.Close(ctx) // its node may be gone
				return nil
			})
		}
	}
	_ = g.Wait() // none fails
	c.mute()
	c.readers.Wait()
}
