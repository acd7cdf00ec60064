package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// line stands for the connection of a client: each pipeline waits in it until
// the test says how it ends.
type line struct {
	in  chan []string // the keys of a pipeline that is under way
	out chan error    // what becomes of one of them
}

func (l line) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (l line) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (l line) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		var keys []string
		for _, cmd := range cmds {
			keys = append(keys, cmd.Args()[1].(string))
		}
		l.in <- keys
		var err error
		select {
		case err = <-l.out:
		case <-ctx.Done():
			err = ctx.Err()
		}
		for _, cmd := range cmds {
			if cmd.SetErr(err); err == nil {
				cmd.(*redis.StringCmd).SetVal("of " + cmd.Args()[1].(string))
			}
		}
		return err
	}
}

// callers are many who read at once by way of one line.
type callers struct {
	t    *testing.T
	line line
	rdb  *redis.Client
	wait sync.WaitGroup
}

// newCallers makes them; end waits for all.
func newCallers(t *testing.T) (c *callers, end func()) {
	c = &callers{t: t, line: line{in: make(chan []string), out: make(chan error)}}
	opt := redis.Options{
		Addr:                     "127.0.0.1:0", // which nobody dials
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	one, other := opt, opt
	direct := redis.NewClient(&one)
	direct.AddHook(c.line)
	c.rdb = redis.NewClient(&other)
	c.rdb.AddHook(newAutopipeline(direct, 700*time.Millisecond))
	return c, func() {
		c.wait.Wait()
		if err := errors.Join(c.rdb.Close(), direct.Close()); err != nil {
			t.Error(err)
		}
	}
}

// calling runs body in a bubble, in which every pipeline that may be under way is.
func calling(t *testing.T, body func(t *testing.T, c *callers)) {
	synctest.Test(t, func(t *testing.T) {
		c, end := newCallers(t)
		defer end()
		for i := range pipelinesAtOnce {
			c.get(t.Context(), nil, fmt.Sprintf("first-%d", i))
			c.underWay(fmt.Sprintf("first-%d", i))
		}
		body(t, c)
	})
}

// get reads keys in one pipeline of a caller's own, and has it answered with
// their own values or the error. It returns when the call waits for something.
func (c *callers) get(ctx context.Context, want error, keys ...string) {
	c.wait.Go(func() {
		pipe := c.rdb.Pipeline()
		for _, key := range keys {
			pipe.Get(ctx, key)
		}
		cmds, _ := pipe.Exec(ctx)
		for i, cmd := range cmds {
			if got, err := cmd.(*redis.StringCmd).Result(); !errors.Is(err, want) || err == nil && got != "of "+keys[i] {
				c.t.Errorf("%s is %q, %v, want error %v", keys[i], got, err, want)
			}
		}
	})
	synctest.Wait()
}

// underWay checks what the next pipeline under way has.
func (c *callers) underWay(want ...string) {
	c.t.Helper()
	if got := <-c.line.in; !slices.Equal(got, want) {
		c.t.Errorf("under way are %.80q, want %.80q", got, want)
	}
}

// back lets pipelines that are under way come back.
func (c *callers) back(n int, err error) {
	for range n {
		c.line.out <- err
	}
	synctest.Wait()
}

func TestAutopipeline_TheFirstOfThoseWhoWaitTakesTheOthersAlong(t *testing.T) {
	calling(t, func(t *testing.T, c *callers) {
		c.get(t.Context(), nil, "a")
		c.get(t.Context(), nil, "b1", "b2")
		c.get(t.Context(), nil, "c")
		c.back(1, nil)
		c.underWay("a", "b1", "b2", "c")
		c.get(t.Context(), nil, "d")
		c.back(pipelinesAtOnce, nil)
		c.underWay("d")
		c.back(1, nil)
		for range pipelinesAtOnce { // and nobody waits any more
			c.get(t.Context(), nil, "e")
			c.underWay("e")
		}
		c.back(pipelinesAtOnce, nil)
	})
}

func TestAutopipeline_APipelineTakesNoMoreThanItsMost(t *testing.T) {
	many := func(name string, n int) (keys []string) {
		for i := range n {
			keys = append(keys, fmt.Sprintf("%s-%d", name, i))
		}
		return keys
	}
	calling(t, func(t *testing.T, c *callers) {
		whole, half, rest := many("whole", 3*pipelineMost), many("half", pipelineMost/2), many("rest", pipelineMost/2)
		c.get(t.Context(), nil, whole...)
		c.get(t.Context(), nil, half...)
		c.get(t.Context(), nil, rest...)
		c.get(t.Context(), nil, "over")
		c.back(1, nil)
		c.underWay(whole...) // one caller's are not torn apart
		c.back(1, nil)
		c.underWay(slices.Concat(half, rest)...)
		c.back(1, nil)
		c.underWay("over")
		c.back(pipelinesAtOnce, nil)
	})
}

func TestAutopipeline_WhoGivesUpIsNotSent(t *testing.T) {
	calling(t, func(t *testing.T, c *callers) {
		ctx, giveUp := context.WithCancel(t.Context())
		c.get(ctx, context.Canceled, "a")
		c.get(t.Context(), nil, "b")
		giveUp()
		synctest.Wait()
		c.get(ctx, context.Canceled, "c")
		c.back(1, nil)
		c.underWay("b")
		c.back(pipelinesAtOnce, nil)
	})
}

func TestAutopipeline_WhatIsUnderWayComesBackToWhoGaveUp(t *testing.T) {
	calling(t, func(t *testing.T, c *callers) {
		ctx, giveUp := context.WithCancel(t.Context())
		c.get(ctx, nil, "a")
		c.get(ctx, nil, "b")
		c.get(t.Context(), nil, "c")
		c.back(1, nil)
		c.underWay("a", "b", "c")
		giveUp()
		c.back(pipelinesAtOnce, nil)
	})
}

func TestAutopipeline_AFailureIsOfAllWhoWait(t *testing.T) {
	away := errors.New("connection reset")
	synctest.Test(t, func(t *testing.T) {
		c, end := newCallers(t)
		defer end()
		for range pipelinesAtOnce {
			c.get(t.Context(), away, "first")
			c.underWay("first")
		}
		c.get(t.Context(), away, "a")
		c.get(t.Context(), away, "b")
		c.back(pipelinesAtOnce, away)
		for range pipelinesAtOnce { // the pipelines are free again
			c.get(t.Context(), nil, "c")
			c.underWay("c")
		}
		c.back(pipelinesAtOnce, nil)
	})
}

// The router of a Cluster sends each caller's commands by themselves.
func TestAutopipeline_EachHasItsOwnResult(t *testing.T) {
	undivided(t, Config{}, func(t *testing.T, s *Store) {
		const most, times = 64, 50
		var ran, failed atomic.Int64
		var all sync.WaitGroup
		for i := range most {
			all.Go(func() {
				key, last := fmt.Sprintf("gw:test:%d", i), int64(0)
				s.rdb.Set(t.Context(), key+":text", "x", 0)
				for range times {
					ctx, cancel := context.WithCancel(t.Context())
					if rand.IntN(3) == 0 {
						go cancel()
					}
					pipe := s.rdb.Pipeline()
					n, wrong := pipe.Incr(ctx, key), pipe.HGet(ctx, key+":text", "f")
					pipe.Exec(ctx)
					cancel()
					switch got, err := n.Result(); {
					case err != nil:
						failed.Add(1)
						if !errors.Is(err, context.Canceled) {
							t.Errorf("%s: %v", key, err)
						}
					case got != last+1:
						t.Errorf("%s is %d, want %d", key, got, last+1)
					default:
						ran.Add(1)
						last = got
						if wrong.Err() == nil || !isReply(wrong.Err()) {
							t.Errorf("a text is a hash: %v", wrong.Err())
						}
					}
				}
			})
		}
		all.Wait()
		if ran.Load()+failed.Load() != most*times || ran.Load() < most*times/2 {
			t.Errorf("%d ran, %d were given up, of %d", ran.Load(), failed.Load(), most*times)
		}
	})
}
