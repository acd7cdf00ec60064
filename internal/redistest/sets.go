package redistest

import (
	"context"
	"os"
	"slices"
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

// Cluster is the Redis Cluster of this test binary, empty, its bus too: started by
// the first test that asks, ended by EndSets. Tests that use it do not run in parallel.
func Cluster(t testing.TB) *redisset.Cluster {
	t.Helper()
	c := share(t, &shared.cluster, redisset.StartCluster, (*redisset.Cluster).Primaries)
	ctx, cancel := context.WithTimeout(t.Context(), setReady)
	defer cancel()
	running := slices.DeleteFunc(slices.Clone(c.Servers()), func(s *redisset.Server) bool { return !s.Runs() })
	if err := quiet(ctx, running); err != nil {
		t.Fatal(err)
	}
	return c
}

// Sentinel is the same of a primary with replicas and Sentinels.
func Sentinel(t testing.TB) *redisset.Sentinel {
	t.Helper()
	return share(t, &shared.sentinel, redisset.StartSentinel, func(s *redisset.Sentinel, ctx context.Context) ([]*redisset.Server, error) {
		primary, err := s.Primary(ctx)
		return []*redisset.Server{primary}, err
	})
}

// share starts the set in a place of shared, if there is none, and empties it.
func share[S any](t testing.TB, one **S, start func(context.Context, redisset.Options) (*S, error),
	primaries func(*S, context.Context) ([]*redisset.Server, error),
) *S {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), setReady)
	defer cancel()
	if *one == nil {
		set, err := start(ctx, options(t))
		if err != nil {
			t.Fatal(err)
		}
		*one = set
	}
	all, err := primaries(*one, ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if err := s.Client.FlushAll(ctx).Err(); err != nil {
			t.Fatal(err)
		}
	}
	return *one
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
