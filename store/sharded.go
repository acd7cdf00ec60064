package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Sharded says whether what concerns a room or a user goes by sharded channels,
// which only their own primary of a Cluster carries, and not by channels that its
// bus brings to every server. Nodes that differ by one step understand each other.
type Sharded string

// The steps, in their order.
const (
	ShardedOff  Sharded = "off"  // the default
	ShardedHear Sharded = "hear" // hears both, and publishes as with off
	ShardedOn   Sharded = "on"   // hears both, and publishes on sharded channels
)

// hearsShards and tellsShards are what a node's record says of it, see Node.Knows.
const (
	hearsShards = "hears-shards"
	tellsShards = "tells-shards"
)

func (m Sharded) hears() bool { return m == ShardedHear || m == ShardedOn }
func (m Sharded) tells() bool { return m == ShardedOn }

// Knows is what a node's record is to say of its channels.
func (m Sharded) Knows() string {
	switch m {
	case ShardedHear:
		return hearsShards
	case ShardedOn:
		return hearsShards + " " + tellsShards
	}
	return ""
}

// fits says why a node does not understand another, which knows something.
func (m Sharded) fits(other Node) error {
	knows := strings.Fields(other.Knows)
	switch {
	case m.tells() && !slices.Contains(knows, hearsShards):
		return fmt.Errorf("node %s does not hear sharded channels: with GODWIT_REDIS_SHARDED=on the others need hear or on, so have all nodes run with hear first", other.Node)
	case !m.hears() && slices.Contains(knows, tellsShards):
		return fmt.Errorf("node %s publishes on sharded channels, which this one does not hear: GODWIT_REDIS_SHARDED has to be hear here, and the others', before it is off", other.Node)
	}
	return nil
}

// Sharded says how this store's nodes are told.
func (s *Store) Sharded() Sharded { return s.cfg.Sharded }

// Fits says whether a node understands all that are alive. Errors: ErrUnavailable,
// or why not, which may pass: the lease of a node that died ends. May be repeated.
func (s *Store) Fits(ctx context.Context) error {
	if s.cluster == nil {
		return nil
	}
	nodes, err := s.Nodes(ctx)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if !n.Alive {
			continue
		}
		if err := s.cfg.Sharded.fits(n); err != nil {
			return err
		}
	}
	return nil
}

// tell queues what is told on the channel of a room or a user.
func (s *Store) tell(ctx context.Context, pipe redis.Cmdable, channel, text string) *redis.IntCmd {
	if s.cfg.Sharded.tells() {
		return pipe.SPublish(ctx, channel, text)
	}
	return pipe.Publish(ctx, channel, text)
}
