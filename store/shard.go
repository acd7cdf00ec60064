package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

// What is special about a follower of sharded channels: it is at one primary, and
// each of its channels may have to go to another.

// connect makes a connection to follow on, and says which channel is the
// follower's own.
func (f *follower) connect(ctx context.Context) (*redis.PubSub, error) {
	if f.shard == "" {
		return f.sub.connect(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, f.sub.store.cfg.Timeout)
	defer cancel()
	var err error
	if f.at, err = f.sub.store.cluster.at(ctx, f.shard); err != nil {
		return nil, fmt.Errorf("find the primary: %w", err)
	}
	own, ok := f.sub.shards.ownOf(ctx, f.shard)
	if !ok {
		return nil, fmt.Errorf("%s has no slots", f.shard)
	}
	if f.own != own && f.own != "" {
		f.drop(f.own)
	}
	f.own = own
	return f.at.Subscribe(ctx), nil
}

// eachShard commands channels one by one: those of a command share their slot.
func eachShard(ctx context.Context, names []string, command func(context.Context, ...string) error) error {
	for _, name := range names {
		if err := command(ctx, name); err != nil {
			return fmt.Errorf("follow sharded channels: %w", err)
		}
	}
	return nil
}

// refused takes an error that is the answer to what was asked first: that its slot
// is elsewhere, and nothing else.
func (f *follower) refused(err error) error {
	to, elsewhere := unexecuted(err)
	f.mu.Lock()
	if len(f.channels.asked) == 0 || !elsewhere || !f.channels.fits(err) {
		f.mu.Unlock()
		if strings.Contains(err.Error(), "unknown command") {
			return fmt.Errorf("sharded channels need Redis 7 or newer: %w", err)
		}
		return err
	}
	first := f.channels.pop()
	waiters, owed := []*latch(nil), owesNothing
	if first.follow {
		waiters, owed = f.channels.take(first.channel.name, false)
	}
	f.mu.Unlock()
	switch name := first.channel.name; {
	case name == f.own:
		return err
	case first.follow:
		f.sub.shards.lost(f, name, wish{waiters: waiters, owed: owed, to: to.addr})
	}
	return nil
}

// moved takes it that the server has ended a subscription, because the slot went
// elsewhere, and says whether that can be.
func (f *follower) moved(name string) bool {
	f.mu.Lock()
	c := f.channels.all[name]
	if c == nil { // it has already answered what this was the answer to
		f.mu.Unlock()
		return true
	}
	if !c.sent || c.pending > 0 || name == f.own {
		f.mu.Unlock()
		return false
	}
	wanted := c.wanted
	waiters, owed := f.channels.take(name, false)
	f.mu.Unlock()
	if wanted {
		f.sub.shards.lost(f, name, wish{waiters: waiters, owed: max(owed, owesLook)})
	}
	return true
}
