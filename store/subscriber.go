package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/redis/go-redis/v9"
)

const (
	// probeEvery is how often a subscription is asked end to end whether it
	// still hears; probeWithin is how long the answer may take. Together they
	// bound how long a node can be deaf without knowing.
	probeEvery  = time.Second
	probeWithin = 900 * time.Millisecond
	// subscribeChunk is how many channels one SUBSCRIBE names at most.
	subscribeChunk = 512
	// redialEvery is the pause before a lost subscription is tried again.
	redialEvery = 100 * time.Millisecond
)

// Listener hears what a subscriber hears. Its methods are called by the
// subscriber's one goroutine and must not wait for anything.
type Listener interface {
	// Heard is one message of a room.
	Heard(room string, m Message)
	// Inbox is what is said to a user, wherever it is attached.
	Inbox(user string, m Inbox)
	// Told is a word from another node.
	Told(w Word)
	// Reset says that messages may have been missed in every room.
	Reset()
}

// Inbox is one message to a user.
type Inbox struct {
	// Presence is the new value of somebody that the user may see, or its own;
	// nil says that its contacts have changed.
	Presence *Presence
}

// Subscriber is a node's ear: one connection that follows the channels of the
// rooms and users it is asked to follow. A connection that breaks, or that does not hear
// its own probe in time, is replaced by a new one, and Reset is called once
// every channel is followed again.
type Subscriber struct {
	store *Store
	ref   Ref
	out   Listener
	Stats EarStats

	kick chan struct{} // cap 1: channels to follow or to drop
	deaf atomic.Int64  // unix ns since when nothing is heard; 0: hearing

	mu       sync.Mutex
	channels map[string]*channel // guarded by mu
	unsaid   map[string]*channel // guarded by mu: those whose wish the connection was not told
	lacking  int                 // guarded by mu: channels wanted and not heard yet

	// owned by Run
	conn      *redis.PubSub
	heard     chan string // probes that came back
	lines     lines       // of a Cluster
	resetOnce bool        // the first connection is no reset
}

// channel is one room's or user's channel.
type channel struct {
	name   string
	wanted bool
	// sent: the last thing asked of this connection was to subscribe.
	sent bool
	// pending counts the commands of this connection that are not confirmed.
	pending int
	waiters []chan struct{} // closed when it is followed
}

func (c *channel) lacks() bool { return c.wanted && (!c.sent || c.pending > 0) }

// change changes a channel and keeps the books. Called with mu held.
func (s *Subscriber) change(c *channel, how func()) {
	if c.lacks() {
		s.lacking--
	}
	how()
	if c.lacks() {
		s.lacking++
	}
	if c.wanted != c.sent {
		s.unsaid[c.name] = c
	} else {
		delete(s.unsaid, c.name)
	}
	if !c.wanted && !c.sent && c.pending == 0 {
		c.release()
		delete(s.channels, c.name)
	}
}

// NewSubscriber makes the ear of the node ref. Run starts it.
func (s *Store) NewSubscriber(ref Ref, out Listener) *Subscriber {
	return &Subscriber{
		store: s, ref: ref, out: out,
		kick:     make(chan struct{}, 1),
		channels: make(map[string]*channel),
		unsaid:   make(map[string]*channel),
		heard:    make(chan string, 256),
	}
}

// Follow asks for a room's channel and returns a channel that is closed when
// the node hears it.
func (s *Subscriber) Follow(room string) <-chan struct{} { return s.follow(keysOfRoom(room).channel()) }

// FollowUser is Follow for a user's inbox.
func (s *Subscriber) FollowUser(user string) <-chan struct{} {
	return s.follow(keysOfUser(user).channel())
}

func (s *Subscriber) follow(name string) <-chan struct{} {
	ready := make(chan struct{})
	s.mu.Lock()
	c := s.channels[name]
	if c == nil {
		c = &channel{name: name}
		s.channels[name] = c
	}
	s.change(c, func() { c.wanted = true })
	if c.sent && c.pending == 0 {
		close(ready)
	} else {
		c.waiters = append(c.waiters, ready)
	}
	s.mu.Unlock()
	s.wake()
	return ready
}

// Drop ends Follow.
func (s *Subscriber) Drop(room string) { s.drop(keysOfRoom(room).channel()) }

// DropUser ends FollowUser.
func (s *Subscriber) DropUser(user string) { s.drop(keysOfUser(user).channel()) }

func (s *Subscriber) drop(name string) {
	s.mu.Lock()
	if c := s.channels[name]; c != nil {
		s.change(c, func() { c.wanted = false })
	}
	s.mu.Unlock()
	s.wake()
}

// Deaf is how long the node has not been sure to hear; 0 when it hears.
func (s *Subscriber) Deaf(now time.Time) time.Duration {
	if since := s.deaf.Load(); since != 0 {
		return now.Sub(time.Unix(0, since))
	}
	return 0
}

// Hearing says whether everything is heard that was before the last Reset. A
// Listener that asks within Heard knows whether a Reset is still to come.
func (s *Subscriber) Hearing() bool { return s.deaf.Load() == 0 }

func (s *Subscriber) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// Run follows channels until ctx ends, over as many connections as it takes.
func (s *Subscriber) Run(ctx context.Context) error {
	for level := slog.LevelWarn; ctx.Err() == nil; level = slog.LevelDebug {
		s.deaf.CompareAndSwap(0, time.Now().UnixNano())
		err := s.connection(ctx)
		if ctx.Err() != nil {
			return nil
		}
		s.Stats.Lost.Add(1)
		if s.deaf.Load() == 0 {
			level = slog.LevelWarn // it did hear; a store that stays away is said once
		}
		s.store.cfg.Logger.Log(ctx, level, "subscription lost; trying again", "error", err)
		pause := time.NewTimer(redialEvery)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
	return nil
}

// connection works one connection until it fails.
func (s *Subscriber) connection(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if s.store.cluster != nil && s.lines.known == nil {
		// Before anything is heard, so that no new life is taken for the first.
		if _, err := s.sound(ctx, "0"); err != nil {
			return err
		}
	}
	conn, err := s.store.ear(ctx, &s.lines)
	if err != nil {
		return err
	}
	s.conn = conn
	for len(s.heard) > 0 {
		<-s.heard
	}
	s.forget()
	if err := s.subscribe(ctx, []string{s.ref.channel()}); err != nil {
		conn.Close()
		return err
	}
	var writer sync.WaitGroup
	writer.Go(func() { cancel(s.write(ctx)) })
	// A read that waits is ended by closing the connection under it.
	unblock := context.AfterFunc(ctx, func() { conn.Close() })
	err = s.receive(ctx)
	cancel(err)
	writer.Wait()
	if unblock() {
		conn.Close()
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	return err
}

// forget marks every channel as not followed by the new connection.
func (s *Subscriber) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.channels {
		s.change(c, func() { c.sent, c.pending = false, 0 })
	}
	s.wake()
}

// release ends the wait of those who asked for a channel that is dropped.
func (c *channel) release() {
	for _, w := range c.waiters {
		close(w)
	}
	c.waiters = nil
}

// write sends what changed to the connection, and the probes, until one fails.
func (s *Subscriber) write(ctx context.Context) error {
	probe := time.NewTicker(probeEvery)
	defer probe.Stop()
	nth := 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.kick:
			if err := s.flush(ctx); err != nil {
				return err
			}
		case <-probe.C:
			nth++
			if err := s.probe(ctx, nth); err != nil {
				return err
			}
		}
	}
}

// flush subscribes and unsubscribes until the connection follows what is wanted.
func (s *Subscriber) flush(ctx context.Context) error {
	for {
		var add, drop []string
		s.mu.Lock()
		for name, c := range s.unsaid {
			if len(add)+len(drop) == subscribeChunk {
				break
			}
			if c.wanted {
				add = append(add, name)
			} else {
				drop = append(drop, name)
			}
			s.change(c, func() {
				c.sent = c.wanted
				c.pending++
			})
		}
		s.mu.Unlock()
		if len(add)+len(drop) == 0 {
			return nil
		}
		if len(add) > 0 {
			if err := s.subscribe(ctx, add); err != nil {
				return err
			}
		}
		if len(drop) > 0 {
			if err := s.conn.Unsubscribe(ctx, drop...); err != nil {
				return fmt.Errorf("unsubscribe: %w", err)
			}
		}
	}
}

func (s *Subscriber) subscribe(ctx context.Context, names []string) error {
	if err := s.conn.Subscribe(ctx, names...); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	return nil
}

// receive reads the connection until it fails.
func (s *Subscriber) receive(ctx context.Context) error {
	for {
		v, err := s.conn.ReceiveTimeout(ctx, 2*probeEvery)
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() && ctx.Err() == nil {
				continue // silence is the probe's to judge
			}
			return fmt.Errorf("receive: %w", err)
		}
		switch m := v.(type) {
		case *redis.Subscription:
			if err := s.confirm(m); err != nil {
				return err
			}
		case *redis.Message:
			s.dispatch(m)
		}
	}
}

// confirm notes that the connection follows a channel, or no longer does.
func (s *Subscriber) confirm(m *redis.Subscription) error {
	reset, err := s.confirmed(m)
	if reset { // without mu: who is told may hold locks under which it follows
		s.Stats.Resets.Add(1)
		s.out.Reset()
	}
	return err
}

// confirmed notes it, and says whether everything is heard again that was not.
func (s *Subscriber) confirmed(m *redis.Subscription) (reset bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.Channel != s.ref.channel() {
		c := s.channels[m.Channel]
		if c == nil || c.pending == 0 {
			// The client library replaced the connection by itself.
			return false, errors.New("a confirmation that was not asked for")
		}
		s.change(c, func() { c.pending-- })
		if c.pending > 0 {
			return false, nil
		}
		if c.sent {
			c.release()
		}
	}
	if s.deaf.Load() == 0 || s.lacking > 0 {
		return false, nil
	}
	s.Stats.deaf += s.Deaf(time.Now())
	s.deaf.Store(0)
	reset, s.resetOnce = s.resetOnce, true
	return reset, nil
}

func (s *Subscriber) dispatch(m *redis.Message) {
	if m.Channel == s.ref.channel() {
		kind, rest, _ := strings.Cut(m.Payload, " ")
		switch kind {
		case "p":
			select {
			case s.heard <- rest:
			default: // nobody waits for it any more
			}
		case "w":
			var w Word
			if err := json.Unmarshal([]byte(rest), &w); err != nil {
				s.store.cfg.Logger.Warn("word not understood")
				return
			}
			s.out.Told(w)
		}
		return
	}
	if user, ok := userOfChannel(m.Channel); ok {
		s.inbox(user, m.Payload)
		return
	}
	room, ok := roomOfChannel(m.Channel)
	if !ok {
		return
	}
	msg, err := parseMessage(m.Payload)
	if err != nil {
		// The next entry, or the head said again, shows the hole it leaves.
		s.store.cfg.Logger.Warn("message not understood", "room", room, "error", err)
		return
	}
	s.out.Heard(room, msg)
}

func (s *Subscriber) inbox(user, payload string) {
	kind, rest, _ := strings.Cut(payload, " ")
	switch kind {
	case contactsWord:
		s.out.Inbox(user, Inbox{})
	case "p":
		p, err := parsePresence(rest)
		if err != nil {
			s.store.cfg.Logger.Warn("message not understood", "user", user, "error", err)
			return
		}
		s.out.Inbox(user, Inbox{Presence: &p})
	}
}
