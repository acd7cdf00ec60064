package store

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// shards follows sharded channels, each at the primary that has its slot. The
// library would not: it subscribes to channels of several slots at once when it
// replaces a connection, which is refused, and not again where a slot has moved.
type shards struct {
	sub  *Subscriber
	kick chan struct{} // cap 1: something is parked, or a connection was lost

	mu        sync.Mutex
	at        map[string]*follower // guarded by mu: who follows a channel; nil: it is parked
	parked    map[string]parked    // guarded by mu: what nobody follows yet
	elsewhere map[string]sighting  // guarded by mu: who should follow what another does
	followers map[string]*shard    // guarded by mu: by the address of a primary
	doubted   bool                 // guarded by mu: there is cause for looks

	// owned by run
	homes [pieces]*follower // of the last look
	looks int               // yet to be made at all channels
}

// shard is the connection to one primary.
type shard struct {
	follower *follower
	end      context.CancelFunc
	missing  time.Time // since when it is no primary; zero: it is one
}

// parked is a channel without a follower.
type parked struct {
	wish
	to    string    // the address that a server has named, if one has
	after time.Time // when it may be tried again
}

// sighting is where a channel seems to belong, and since when.
type sighting struct {
	home  *follower
	since time.Time
}

const (
	// lookEvery is how many seconds may pass between two looks at whether every
	// channel is followed where its slot is, if nothing gives cause for one sooner.
	lookEvery = 10
	// looksAgain is how many looks a cause gives.
	looksAgain = 3
	// sure is for how long a channel that is followed seems to belong elsewhere
	// before it is moved, or a primary to be none before it is left: a server that
	// tells may be behind, or cut off.
	sure = probeEvery
)

func newShards(sub *Subscriber) *shards {
	return &shards{
		sub: sub, kick: make(chan struct{}, 1),
		at: make(map[string]*follower), parked: make(map[string]parked),
		elsewhere: make(map[string]sighting), followers: make(map[string]*shard),
	}
}

// doubt says that slots may have gone elsewhere.
func (s *shards) doubt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doubted = true
	ring(s.kick)
}

// follow asks for a channel.
func (s *shards) follow(name string, w wish) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, known := s.at[name]
	if !known {
		f = s.home(name)
		s.at[name] = f
	}
	if f != nil {
		f.follow(name, w)
		return
	}
	s.park(name, parked{wish: w})
}

// drop ends follow.
func (s *shards) drop(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.at[name]; f != nil {
		f.drop(name)
	}
	w := s.parked[name].wish
	w.release()
	delete(s.at, name)
	delete(s.parked, name)
	delete(s.elsewhere, name)
}

// park keeps a channel until it finds a follower. Called with mu held.
func (s *shards) park(name string, p parked) {
	p.wish = p.and(s.parked[name].wish)
	if p.tries == 0 {
		s.doubted = true
	} else {
		p.after = time.Now().Add(min(againFirst<<min(p.tries, 8), againMost))
	}
	s.at[name] = nil
	s.parked[name] = p
	delete(s.elsewhere, name)
	ring(s.kick)
}

// lost takes a channel that its follower cannot follow any more. to is where a
// server says that its slot is, if it does.
func (s *shards) lost(f *follower, name string, w wish, to string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch at, wanted := s.at[name]; {
	case !wanted:
		w.release()
	case at == f:
		s.park(name, parked{wish: w.and(f.take(name)), to: to}) // of who has asked since, too
	case at == nil:
		s.park(name, parked{wish: w, to: to})
	default:
		at.follow(name, w)
	}
}

// home is who should follow a channel; nil: nobody yet. Called with mu held.
func (s *shards) home(name string) *follower {
	if len(s.followers) == 0 {
		return nil
	}
	c, err := s.sub.store.cluster.rdb.MasterForKey(context.Background(), name) // by what is known
	if err != nil {
		return nil
	}
	return s.to(c.Options().Addr)
}

// to is who follows at an address. Called with mu held.
func (s *shards) to(addr string) *follower {
	if sh := s.followers[addr]; sh != nil {
		return sh.follower
	}
	return nil
}

// run keeps a follower for each primary, and each channel with its own, until ctx
// ends.
func (s *shards) run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for nth := 0; ; {
		if nth%lookEvery == 0 {
			s.looks = looksAgain
		}
		all, err := s.primaries(ctx)
		if err == nil {
			s.settle(ctx, all, &running)
		}
		var again <-chan time.Time
		if pause, waits := s.pause(); waits {
			again = time.After(pause)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			nth++
		case <-again:
		case <-s.kick:
		}
	}
}

func (s *shards) primaries(ctx context.Context) ([]*redis.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, s.sub.store.cfg.Timeout)
	defer cancel()
	return s.sub.store.cluster.primaries(ctx)
}

// pause is until when a channel without a follower is tried again, if there is one.
func (s *shards) pause() (pause time.Duration, waits bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pause = againMost
	for _, p := range s.parked {
		pause = min(pause, time.Until(p.after))
	}
	return max(pause, againFirst), len(s.parked) > 0
}

// settle makes the followers those of the primaries there are, and brings each
// channel to its own.
func (s *shards) settle(ctx context.Context, primaries []*redis.Client, running *sync.WaitGroup) {
	if len(primaries) == 0 {
		return // who told knows of none
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begin(ctx, primaries, running)
	gone := s.leave(primaries)
	s.look(gone)
	now := time.Now()
	for name, p := range s.parked {
		if now.Before(p.after) {
			continue
		}
		f := s.to(p.to)
		if p.to = ""; f == nil {
			f = s.home(name)
		}
		if f == nil {
			p.after = now.Add(againMost)
			s.parked[name] = p
			continue
		}
		s.at[name] = f
		delete(s.parked, name)
		f.follow(name, p.wish)
	}
}

// begin makes a follower for each primary that has none. Called with mu held.
func (s *shards) begin(ctx context.Context, primaries []*redis.Client, running *sync.WaitGroup) {
	first := len(s.followers) == 0
	for _, c := range primaries {
		addr := c.Options().Addr
		if s.followers[addr] != nil {
			continue
		}
		f := s.sub.newFollower("")
		f.shard = addr
		if !first { // another may have been lost, with what it had said
			f.channels.owed = owesReset
		}
		ctx, end := context.WithCancel(ctx)
		s.followers[addr] = &shard{follower: f, end: end}
		running.Go(func() {
			f.run(ctx)
			s.sub.hears(f, true) // nothing is asked of it any more
		})
	}
}

// leave ends the followers of those that are primaries no more. Called with mu held.
func (s *shards) leave(primaries []*redis.Client) (gone map[*follower]bool) {
	gone = make(map[*follower]bool)
	there := make(map[string]bool, len(primaries))
	for _, c := range primaries {
		there[c.Options().Addr] = true
	}
	for addr, sh := range s.followers {
		switch {
		case there[addr]:
			sh.missing = time.Time{}
		case sh.missing.IsZero():
			sh.missing = time.Now()
			s.doubted = true
		case time.Since(sh.missing) >= sure:
			sh.end()
			delete(s.followers, addr)
			gone[sh.follower] = true
		}
	}
	return gone
}

// look parks what is followed elsewhere than at the primary of its slot. Called
// with mu held.
func (s *shards) look(gone map[*follower]bool) {
	for i, tag := range pieceTags {
		if f := s.home(pieceKey(tag)); f != s.homes[i] {
			s.homes[i], s.doubted = f, true
		}
	}
	if s.doubted {
		s.doubted, s.looks = false, looksAgain
	}
	if s.looks == 0 && len(gone) == 0 {
		return
	}
	s.looks = max(0, s.looks-1)
	now := time.Now()
	for name, f := range s.at {
		if f == nil {
			continue
		}
		home, lost := s.home(name), gone[f] || f.deaf.Load()
		seen := s.elsewhere[name]
		switch {
		case gone[f]:
		case home == f:
			delete(s.elsewhere, name)
			continue
		case home == nil:
			continue
		case seen.home != home:
			s.elsewhere[name] = sighting{home, now}
			s.doubted = true // look again
			if !lost {
				continue
			}
		case !lost && now.Sub(seen.since) < sure:
			s.doubted = true
			continue
		}
		w := f.take(name)
		if w.owed = max(w.owed, owesLook); lost {
			w.owed = owesReset
		}
		s.park(name, parked{wish: w})
	}
}

// ownOf finds a channel for probes of which a primary has the slot.
func (s *shards) ownOf(ctx context.Context, addr string) (string, bool) {
	there := func(tag string) (string, bool) {
		name := s.sub.ref.probe(tag)
		c, err := s.sub.store.cluster.rdb.MasterForKey(ctx, name)
		return name, err == nil && c.Options().Addr == addr
	}
	for _, tag := range pieceTags {
		if name, ok := there(tag); ok {
			return name, true
		}
	}
	for i := range 16 * slots { // it has few slots; these are in all
		if name, ok := there("m:" + strconv.Itoa(i)); ok {
			return name, true
		}
	}
	return "", false
}
