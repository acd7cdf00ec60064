package fleet

import (
	"context"
	"os"
	"testing"
	"time"

	"godwit/internal/redisset"
)

// silent is how long a primary of a set may be silent before it is replaced: far
// above what a busy machine keeps it waiting.
const silent = 3 * time.Second

// On is what a fleet's nodes run on.
type On int

// The kinds of Redis.
const (
	OneRedis On = iota
	Cluster
	Sentinels
)

// startSet starts a Redis of several servers, and is its URL.
func (f *Fleet) startSet(t testing.TB, o Options) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "godwit-redis-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(context.Background(), 2*Patience)
	defer cancel()
	kind := redisset.KindCluster
	if o.On == Sentinels {
		kind = redisset.KindSentinel
	}
	var front func(addr string) (string, error)
	if o.Proxied {
		front = func(addr string) (string, error) { return f.proxy(t, addr, o.Seed) }
	}
	set, err := redisset.Start(ctx, kind, redisset.Options{Dir: dir, Silent: silent, Front: front})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Close)
	f.Cluster, _ = set.(*redisset.Cluster)
	f.Sentinel, _ = set.(*redisset.Sentinel)
	f.Store = set.Client()
	t.Cleanup(func() { f.Store.Close() })
	return set.URL()
}

// KillPubSub closes every subscriber's connection at some servers and tells how
// many there were.
func KillPubSub(t testing.TB, at []*redisset.Server) (killed int64) {
	t.Helper()
	for _, s := range at {
		n, err := s.Client.Do(context.Background(), "CLIENT", "KILL", "TYPE", "pubsub").Int64()
		if err != nil {
			t.Fatal(err)
		}
		killed += n
	}
	return killed
}
