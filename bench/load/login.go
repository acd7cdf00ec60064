package load

import (
	"context"
	"sync"
	"time"
)

// aloneMost is how many logins are made one by one.
const aloneMost = 100

// restFor is how long nothing happens, so that what a server does by itself can
// be told from what logins cost.
const restFor = 2 * time.Second

// logins lets everybody log in and join: first some one by one, then the others
// many at once.
func (c *crowd) logins(ctx context.Context) (*Result, error) {
	alone := min(aloneMost, len(c.clients)/2)
	for _, part := range []struct {
		begin, name string
		do          func() error
	}{
		{"rest", "rest", func() error { return c.wait(ctx, "rest", restFor.Seconds()) }},
		{"alone", "log in, one by one", func() error {
			if err := c.enter(ctx, "log in, one by one", c.clients[:alone], 1, nil); err != nil {
				return err
			}
			_, err := c.quiet(ctx)
			return err
		}},
	} {
		if err := c.on.Mark(ctx, part.begin); err != nil {
			return nil, err
		}
		if err := part.do(); err != nil {
			return nil, err
		}
	}
	if err := c.on.Mark(ctx, "begin"); err != nil {
		return nil, err
	}
	began := c.now()
	var mu sync.Mutex
	each := newHistogram()
	err := c.enter(ctx, "log in, many at once", c.clients[alone:], c.cfg.Parallel, func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		record(each, d)
	})
	if err != nil {
		return nil, err
	}
	r := &Result{Seconds: (c.now() - began).Seconds(), Latency: quantiles(each), Alone: alone, Accepted: int64(len(c.clients) - alone)}
	if _, err := c.quiet(ctx); err != nil { // others are told of them
		return nil, err
	}
	return r, c.on.Mark(ctx, "end")
}

// idle lets everybody log in and join, and then nothing happens.
func (c *crowd) idle(ctx context.Context) (*Result, error) {
	if err := c.on.Mark(ctx, "empty"); err != nil {
		return nil, err
	}
	if err := c.arrive(ctx); err != nil {
		return nil, err
	}
	if err := c.wait(ctx, "warm up", c.cfg.Warm); err != nil {
		return nil, err
	}
	if err := c.on.Mark(ctx, "begin"); err != nil {
		return nil, err
	}
	began := c.now()
	if err := c.wait(ctx, "idle", c.cfg.Measure); err != nil {
		return nil, err
	}
	return &Result{Seconds: (c.now() - began).Seconds()}, c.on.Mark(ctx, "end")
}
