package redistest

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"godwit/internal/redisset"
)

const (
	setReady = time.Minute
	// NodeTimeout is far above what a busy machine keeps a process waiting: the
	// primaries of what is shared are not replaced.
	NodeTimeout = 30 * time.Second
)

// shared are the sets of this test binary.
var shared struct {
	mu       sync.Mutex
	cluster  *redisset.Cluster
	sentinel *redisset.Sentinel
	dirs     []string
}

// Cluster is the Redis Cluster of this test binary, empty: started by the first
// test that asks, ended by EndSets. Tests that use it do not run in parallel.
func Cluster(t testing.TB) *redisset.Cluster {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), setReady)
	defer cancel()
	var err error
	if shared.cluster == nil {
		if shared.cluster, err = redisset.StartCluster(ctx, options(t)); err != nil {
			t.Fatal(err)
		}
	}
	all, err := shared.cluster.Primaries(ctx)
	if err != nil {
		t.Fatal(err)
	}
	empty(t, ctx, all...)
	return shared.cluster
}

// Sentinel is the same of a primary with replicas and Sentinels.
func Sentinel(t testing.TB) *redisset.Sentinel {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), setReady)
	defer cancel()
	var err error
	if shared.sentinel == nil {
		if shared.sentinel, err = redisset.StartSentinel(ctx, options(t)); err != nil {
			t.Fatal(err)
		}
	}
	primary, err := shared.sentinel.Primary(ctx)
	if err != nil {
		t.Fatal(err)
	}
	empty(t, ctx, primary)
	return shared.sentinel
}

// options are those of a set that is shared. Called with mu held.
func options(t testing.TB) redisset.Options {
	dir, err := os.MkdirTemp("", "godwit-set-")
	if err != nil {
		t.Fatal(err)
	}
	shared.dirs = append(shared.dirs, dir)
	return redisset.Options{Dir: dir, Silent: NodeTimeout}
}

func empty(t testing.TB, ctx context.Context, primaries ...*redisset.Server) {
	t.Helper()
	for _, s := range primaries {
		if err := s.Client.FlushAll(ctx).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// EndSets ends what Cluster and Sentinel have started: for TestMain.
func EndSets() {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.cluster != nil {
		shared.cluster.Close()
	}
	if shared.sentinel != nil {
		shared.sentinel.Close()
	}
	for _, dir := range shared.dirs {
		_ = os.RemoveAll(dir)
	}
	shared.cluster, shared.sentinel, shared.dirs = nil, nil, nil
}
