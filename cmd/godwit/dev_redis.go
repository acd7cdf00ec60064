package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"godwit/internal/redisset"
)

const (
	// devSilent is how long a primary may be silent before it is replaced: so that
	// who kills one sees that soon.
	devSilent = 3 * time.Second
	// devSetReady bounds the start of a set.
	devSetReady = time.Minute
)

// devKinds are what a fleet can run on.
var devKinds = []string{"single", redisset.KindCluster, redisset.KindSentinel}

// startSet starts a Redis of several processes, which keep their files in dir.
func (f *fleet) startSet(ctx context.Context, kind, dir string) (url string, err error) {
	ctx, cancel := context.WithTimeout(ctx, devSetReady)
	defer cancel()
	f.out.print("redis", "starting a "+kind)
	if f.set, err = redisset.Start(ctx, kind, redisset.Options{Dir: dir, Silent: devSilent}); err != nil {
		return "", fmt.Errorf("start a %s: %w", kind, err)
	}
	return f.set.URL(), nil
}

// kills says what to type that ends a server of the set.
func (f *fleet) kills() (out []string) {
	if f.set == nil {
		return nil
	}
	what := slices.Concat(slices.Repeat([]string{"primary"}, redisset.Shards), slices.Repeat([]string{"replica"}, redisset.Shards))
	if _, ok := f.set.(*redisset.Sentinel); ok {
		what = []string{"primary", "replica", "replica", "sentinel", "sentinel", "sentinel"}
	}
	out = append(out, "", "End a server of Redis, and watch another take its place:")
	for i, s := range f.set.Servers() {
		out = append(out, fmt.Sprintf("  kill -9 %d   # %s %s", s.Pid(), what[i], s.Addr))
	}
	return out
}
