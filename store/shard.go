package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

// What is special about a follower of sharded channels: it is at one primary, and
// each of its channels may have to go to another.

// endedMost is how many channels a server may end before the connection is
// replaced: the library keeps their names for as long as it lasts.
const endedMost = 10_000

var errEndedMost = errors.New("renewed after many slots have moved")

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
	f.own, f.ended = own, 0
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

// refused takes an error that the server has answered: that the slot of what was
// asked first is elsewhere. It answers so, too, where it has just ended by itself
// what it was asked to end; that was taken for the answer, and this is for nothing.
func (f *follower) refused(err error) error {
	to, elsewhere := unexecuted(err)
	if !elsewhere {
		if strings.Contains(err.Error(), "unknown command") {
			return fmt.Errorf("sharded channels need Redis 7 or newer: %w", err)
		}
		return err
	}
	f.mu.Lock()
	if !f.channels.fits(to.slot) {
		f.mu.Unlock()
		return nil
	}
	first := f.channels.pop()
	name, w := first.channel.name, wish{}
	if first.follow {
		w = f.channels.take(name, false)
		w.tries++
	}
	f.mu.Unlock()
	switch {
	case name == f.own:
		return err
	case first.follow:
		f.sub.shards.lost(f, name, w, to.addr)
		return f.ends()
	}
	return nil
}

// moved takes it that the server has ended a subscription, because the slot went
// elsewhere. The error says that this cannot be.
func (f *follower) moved(name string) error {
	f.mu.Lock()
	c := f.channels.all[name]
	if c == nil { // it has already answered what this was the answer to
		f.mu.Unlock()
		return nil
	}
	if !c.followed() || name == f.own {
		f.mu.Unlock()
		return errUnasked
	}
	wanted := c.wanted
	w := f.channels.take(name, false)
	f.mu.Unlock()
	if wanted {
		w.owed = max(w.owed, owesLook)
		f.sub.shards.lost(f, name, w, "")
	}
	return f.ends()
}

// ends counts a channel that the server has ended.
func (f *follower) ends() error {
	if f.ended++; f.ended > endedMost {
		return errEndedMost
	}
	return nil
}
