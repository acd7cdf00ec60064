package store

import (
	"context"
	"maps"
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
	parked    map[string]*wish     // guarded by mu: what nobody follows yet
	elsewhere map[string]*follower // guarded by mu: who should, by the last look, what another follows
	followers map[string]*shard    // guarded by mu: by the address of a primary
	seen      bool                 // guarded by mu: the primaries are known

	// owned by run
	homes [pieces]*follower // of the last look
	looks int               // yet to be made at all channels
}

// shard is the connection to one primary.
type shard struct {
	follower *follower
	end      context.CancelFunc
}

// wish is a channel without a follower.
type wish struct {
	waiters []*latch
	owed    debt
	to      string // the address that a server has named, if one has
}

const (
	// lookEvery is how many seconds may pass between two looks at whether every
	// channel is followed where its slot is, if nothing gives cause for one sooner.
	lookEvery = 10
	// looksAgain is how many looks a cause gives: a server may be behind, so a
	// channel that is followed is moved when two have said so.
	looksAgain = 3
)

func newShards(sub *Subscriber) *shards {
	return &shards{
		sub: sub, kick: make(chan struct{}, 1),
		at: make(map[string]*follower), parked: make(map[string]*wish),
		elsewhere: make(map[string]*follower), followers: make(map[string]*shard),
	}
}

func (s *shards) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// follow asks for a channel, and opens the latch when it is followed.
func (s *shards) follow(name string, when *latch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.at[name]
	if f == nil && s.parked[name] == nil {
		f = s.home(name)
		s.at[name] = f
	}
	if f != nil {
		f.follow(name, when)
		return
	}
	s.parkLocked(name, wish{waiters: []*latch{when}})
}

// drop ends follow.
func (s *shards) drop(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.at[name]; f != nil {
		f.drop(name)
	}
	if w := s.parked[name]; w != nil {
		release(w.waiters)
	}
	delete(s.at, name)
	delete(s.parked, name)
	delete(s.elsewhere, name)
}

// parkLocked keeps a channel until it finds a follower. Called with mu held.
func (s *shards) parkLocked(name string, w wish) {
	if known := s.parked[name]; known != nil {
		w.waiters = append(known.waiters, w.waiters...)
		w.owed = max(w.owed, known.owed)
	}
	s.at[name] = nil
	s.parked[name] = &w
	delete(s.elsewhere, name)
	s.wake()
}

// lost takes a channel that its follower cannot follow any more.
func (s *shards) lost(f *follower, name string, w wish) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at[name] != f { // dropped meanwhile, and maybe asked for again
		release(w.waiters)
		return
	}
	waiters, owed := f.take(name) // of who has asked since
	w.waiters, w.owed = append(w.waiters, waiters...), max(w.owed, owed)
	s.parkLocked(name, w)
}

// home is who should follow a channel; nil: nobody yet. Called with mu held.
func (s *shards) home(name string) *follower {
	if !s.seen {
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
		if s.waits() {
			again = time.After(againMost)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			nth++
		case <-again:
		case <-s.kick:
			s.looks = looksAgain
		}
	}
}

func (s *shards) primaries(ctx context.Context) ([]*redis.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, s.sub.store.cfg.Timeout)
	defer cancel()
	return s.sub.store.cluster.primaries(ctx)
}

// waits says whether a channel has no follower.
func (s *shards) waits() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.parked) > 0
}

// settle makes the followers those of the primaries there are, and brings each
// channel to its own.
func (s *shards) settle(ctx context.Context, primaries []*redis.Client, running *sync.WaitGroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := maps.Clone(s.followers)
	for _, c := range primaries {
		addr := c.Options().Addr
		delete(gone, addr)
		if s.followers[addr] == nil {
			f := s.sub.newFollower("")
			f.shard = addr
			ctx, end := context.WithCancel(ctx)
			s.followers[addr] = &shard{f, end}
			running.Go(func() {
				f.run(ctx)
				s.sub.hears(f, true) // nothing is asked of it any more
			})
		}
	}
	s.seen = len(s.followers) > 0
	for addr, sh := range gone {
		sh.end()
		delete(s.followers, addr)
	}
	s.look(gone)
	for name, w := range s.parked {
		f := s.to(w.to)
		if w.to = ""; f == nil {
			f = s.home(name)
		}
		if f != nil {
			f.adopt(name, w)
			s.at[name] = f
			delete(s.parked, name)
		}
	}
}

// look parks what is followed elsewhere than at the primary of its slot. Called
// with mu held.
func (s *shards) look(gone map[string]*shard) {
	left := make(map[*follower]bool, len(gone))
	for _, sh := range gone {
		left[sh.follower] = true
	}
	for i, tag := range pieceTags {
		if f := s.home(pieceKey(tag)); f != s.homes[i] {
			s.homes[i], s.looks = f, looksAgain
		}
	}
	if s.looks == 0 && len(left) == 0 {
		return
	}
	s.looks = max(0, s.looks-1)
	for name, f := range s.at {
		if f == nil {
			continue
		}
		home, lost := s.home(name), f.deaf.Load()
		switch {
		case left[f]:
			lost = true
		case home == f:
			delete(s.elsewhere, name)
			continue
		case home == nil:
			continue
		case !lost && s.elsewhere[name] != home:
			s.elsewhere[name] = home
			continue
		}
		waiters, owed := f.take(name)
		if lost {
			owed = owesReset
		} else {
			owed = max(owed, owesLook)
		}
		s.parkLocked(name, wish{waiters: waiters, owed: owed})
	}
}

// ownOf finds a channel for probes of which a primary has the slot.
func (s *shards) ownOf(ctx context.Context, addr string) (string, bool) {
	there := func(tag string) (string, bool) {
		name := "gw:{" + tag + "}:probe:" + s.sub.ref.Node + "/" + s.sub.ref.Boot
		c, err := s.sub.store.cluster.rdb.MasterForKey(ctx, name)
		return name, err == nil && c.Options().Addr == addr
	}
	for _, tag := range pieceTags {
		if name, ok := there(tag); ok {
			return name, true
		}
	}
	for i := range slots { // it has few slots
		if name, ok := there("m:" + strconv.Itoa(i)); ok {
			return name, true
		}
	}
	return "", false
}
