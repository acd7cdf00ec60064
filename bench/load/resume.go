package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"
)

// A client that was not let in waits before it tries again, a random part of what
// doubles each time between these.
const (
	resumeAgain = 200 * time.Millisecond
	resumeMost  = 5 * time.Second
	resumeLast  = time.Minute // it gives up, and the run with it
)

// resume has everybody log in at the first address, which the measurer then
// ends, and everybody come back at the others at once.
func (c *crowd) resume(ctx context.Context) (*Result, error) {
	if len(c.cfg.URLs) < 2 {
		return nil, errors.New("nowhere to resume: one address")
	}
	c.comeBack = func(cl *client) error { return c.back(ctx, cl) }
	if err := c.arrive(ctx); err != nil {
		return nil, err
	}
	if err := c.wait(ctx, "warm up", c.cfg.Warm); err != nil {
		return nil, err
	}
	before := c.board.sum()
	c.board.reset()
	c.ended.Store(int64(c.now()))
	began := c.now()
	if err := c.on.Mark(ctx, "kill"); err != nil {
		return nil, err
	}
	for told := c.now(); ; {
		back := c.board.sum().since(before).delivered
		if now := c.now(); now-told > step && back > 0 {
			told = now
			c.on.Progress("resume", int(back), len(c.clients))
		}
		if back >= int64(len(c.clients)) {
			break
		}
		if err := pause(ctx, look); err != nil {
			return nil, err
		}
	}
	took := c.now() - began
	all, err := c.quiet(ctx)
	if err != nil {
		return nil, err
	}
	got := all.since(before)
	return &Result{
		Seconds: took.Seconds(), Accepted: got.delivered, Expected: int64(len(c.clients)), Delivered: got.delivered,
		Strange: got.strange, Disorder: got.disorder, Latency: c.board.latency(), Tries: c.tries.Load(),
	}, c.on.Mark(ctx, "end")
}

// back resumes a session that has lost its socket, at whichever address lets it
// in. One that comes back without all that it missed counts as strange.
func (c *crowd) back(ctx context.Context, cl *client) error {
	lost := time.Duration(c.ended.Load())
	if lost == 0 {
		return errors.New("the socket was lost before its node was ended")
	}
	params := fmt.Sprintf(`{"session":"%s","secret":"%s","positions":{%s:{"epoch":"%s","seq":%d}}}`,
		cl.session, cl.secret, strconv.Quote(c.room(cl.room)), cl.epoch, cl.seq)
	for try := 0; ; try++ {
		c.tries.Add(1)
		answer, err := c.again(ctx, cl, try, params)
		if err == nil {
			cl.tally.mu.Lock()
			defer cl.tally.mu.Unlock()
			cl.tally.counts.delivered++
			if !bytes.Contains(answer, []byte(`"resumed":true`)) || !bytes.Contains(answer, []byte(`"recovered":true`)) {
				cl.tally.counts.strange++
			}
			record(cl.tally.latency, c.now()-lost)
			return nil
		}
		if c.now()-lost > resumeLast {
			return fmt.Errorf("resume, %d times: %w", try+1, err)
		}
		if err := pause(ctx, rand.N(min(resumeAgain<<min(try, 10), resumeMost))); err != nil {
			return err
		}
	}
}

// again tries once.
func (c *crowd) again(ctx context.Context, cl *client, try int, params string) (answer []byte, err error) {
	others := len(c.cfg.URLs) - 1
	if err := cl.dial(ctx, 1+(cl.nth+try)%others); err != nil {
		return nil, err
	}
	return cl.ask("resume", params)
}
