package redistest

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"godwit/internal/redisset"
)

const (
	clusterReady = time.Minute
	// NodeTimeout is far above what a busy machine keeps a process waiting: the
	// shared Cluster's primaries are not replaced.
	NodeTimeout = 30 * time.Second
)

// shared is the one Cluster of this test binary.
var shared struct {
	mu      sync.Mutex
	cluster *redisset.Cluster
	dir     string
}

// Cluster is the Redis Cluster of this test binary, empty: started by the first
// test that asks, ended by EndCluster. Tests that use it do not run in parallel.
func Cluster(t testing.TB) *redisset.Cluster {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), clusterReady)
	defer cancel()
	if shared.cluster == nil {
		dir, err := os.MkdirTemp("", "godwit-cluster-")
		if err != nil {
			t.Fatal(err)
		}
		shared.dir = dir
		if shared.cluster, err = redisset.StartCluster(ctx, dir, NodeTimeout); err != nil {
			t.Fatal(err)
		}
	}
	all := shared.cluster.Client()
	defer all.Close()
	if err := all.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error { return c.FlushAll(ctx).Err() }); err != nil {
		t.Fatal(err)
	}
	return shared.cluster
}

// EndCluster ends what Cluster has started: for TestMain.
func EndCluster() {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.cluster != nil {
		shared.cluster.Close()
	}
	_ = os.RemoveAll(shared.dir) // "" is none
	shared.cluster, shared.dir = nil, ""
}
