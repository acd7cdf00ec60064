package store

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/redis/go-redis/v9"
)

// Listener hears what a subscriber hears. Its methods are called by
// one goroutine at a time and must not wait for anything.
type Listener interface {
	// Heard is one message of a room; whole says that everything was heard before
	// it that was said there, or a Reset told of what may be missing.
	Heard(room string, m Message, whole bool)
	// Inbox is what is said to a user, wherever it is attached.
	Inbox(user string, m Inbox)
	// Told is a word from another node.
	Told(w Word)
	// Reset says that messages may have been missed in every room, and the logs may
	// lack what was heard.
	Reset()
	// Suspect says that messages may have been missed. The logs have them.
	Suspect()
}

// serial has a listener told by one at a time.
type serial struct {
	mu  sync.Mutex
	out Listener
}

func (s *serial) Heard(room string, m Message, whole bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.Heard(room, m, whole)
}

func (s *serial) Inbox(user string, m Inbox) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.Inbox(user, m)
}

func (s *serial) Told(w Word) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.Told(w)
}

func (s *serial) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.Reset()
}

func (s *serial) Suspect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.Suspect()
}

// Inbox is one message to a user.
type Inbox struct {
	// Presence is the new value of somebody that the user may see, or its own;
	// nil says that its contacts have changed.
	Presence *Presence
}

// Subscriber is a node's ear: it follows the channels of the rooms and users that
// it is asked to follow. What breaks is replaced, and Reset is called once every
// channel is followed again.
type Subscriber struct {
	store *Store
	ref   Ref
	out   Listener
	Stats EarStats

	classic *follower
	lines   lines   // of a Cluster; owned by classic
	shards  *shards // nil: there are none

	deaf atomic.Int32 // followers that do not hear everything; written with mu held
	ever atomic.Bool  // classic did once

	mu    sync.Mutex
	since time.Time // guarded by mu: when the first of them ceased to
}

// NewSubscriber makes the ear of the node ref. Run starts it.
func (s *Store) NewSubscriber(ref Ref, out Listener) *Subscriber {
	sub := &Subscriber{store: s, ref: ref, out: out}
	sub.classic = sub.newFollower(ref.channel())
	if s.cfg.Sharded.hears() {
		sub.out = &serial{out: out}
		sub.shards = newShards(sub)
	}
	return sub
}

// Follow asks for a room's channel and returns a channel that is closed when
// the node hears it.
func (s *Subscriber) Follow(room string) <-chan struct{} { return s.follow(keysOfRoom(room).channel()) }

// FollowUser is Follow for a user's inbox.
func (s *Subscriber) FollowUser(user string) <-chan struct{} {
	return s.follow(keysOfUser(user).channel())
}

func (s *Subscriber) follow(name string) <-chan struct{} {
	when := newLatch(1)
	if s.shards != nil { // nodes may still publish as before: both are heard
		when = newLatch(2)
		s.shards.follow(name, wish{waiters: []*latch{when}})
	}
	s.classic.follow(name, wish{waiters: []*latch{when}})
	return when.ready
}

// Drop ends Follow.
func (s *Subscriber) Drop(room string) { s.drop(keysOfRoom(room).channel()) }

// DropUser ends FollowUser.
func (s *Subscriber) DropUser(user string) { s.drop(keysOfUser(user).channel()) }

func (s *Subscriber) drop(name string) {
	s.classic.drop(name)
	if s.shards != nil {
		s.shards.drop(name)
	}
}

// hears notes whether a follower hears everything, and says whether it did.
func (s *Subscriber) hears(f *follower, everything bool) (was bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch was = !f.deaf.Swap(!everything); {
	case was == everything:
	case everything:
		if f == s.classic {
			s.ever.Store(true)
		}
		if s.deaf.Add(-1) == 0 {
			s.Stats.deaf += time.Since(s.since)
		}
	default:
		if s.deaf.Add(1) == 1 {
			s.since = time.Now()
		}
	}
	return was
}

// Ever says whether the node has heard Redis since it began: not where it has no
// right to, for instance.
func (s *Subscriber) Ever() bool { return s.ever.Load() }

// Deaf is how long the node has not been sure to hear; 0 when it hears.
func (s *Subscriber) Deaf(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deafLocked(now)
}

func (s *Subscriber) deafLocked(now time.Time) time.Duration {
	if s.deaf.Load() == 0 {
		return 0
	}
	return now.Sub(s.since)
}

// Run follows channels until ctx ends.
func (s *Subscriber) Run(ctx context.Context) error {
	var all sync.WaitGroup
	if s.shards != nil {
		all.Go(func() { s.shards.run(ctx) })
	}
	s.classic.run(ctx)
	all.Wait()
	return nil
}

// connect makes a connection to follow channels on.
func (s *Subscriber) connect(ctx context.Context) (*redis.PubSub, error) {
	if s.store.cluster != nil && s.lines.known == nil {
		// Before anything is heard, so that no new life is taken for the first.
		if _, err := s.sound(ctx, "0"); err != nil {
			return nil, err
		}
	}
	return s.store.ear(ctx, &s.lines)
}

// dispatch hands on what a follower has heard.
func (s *Subscriber) dispatch(f *follower, m *redis.Message) {
	if m.Channel == f.own {
		kind, rest, _ := strings.Cut(m.Payload, " ")
		switch kind {
		case "p":
			select {
			case f.heard <- rest:
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
	s.out.Heard(room, msg, s.whole(f))
}

// whole says whether what a follower hears of a room stands behind nothing that was
// missed: what comes by a classic channel, by none of the sharded ones, either.
func (s *Subscriber) whole(f *follower) bool {
	if f == s.classic {
		return s.deaf.Load() == 0
	}
	return !f.deaf.Load() && !s.classic.deaf.Load()
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
