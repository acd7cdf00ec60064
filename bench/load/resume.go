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
// kills, and everybody come back at the others at once.
func (c *crowd) resume(ctx context.Context) (*Result, error) { return c.lose(ctx, "kill") }

// drain is the same with a node that is told to go: its clients follow where
// they are sent, and who is told bye resumes.
func (c *crowd) drain(ctx context.Context) (*Result, error) { return c.lose(ctx, "term") }

func (c *crowd) lose(ctx context.Context, by string) (*Result, error) {
	if len(c.cfg.URLs) < 2 {
		return nil, errors.New("nowhere to go on: one address")
	}
	c.comeBack = func(cl *client) error { return c.back(ctx, cl) }
	c.follows = by == "term"
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
	if err := c.on.Mark(ctx, by); err != nil {
		return nil, err
	}
	for told := c.now(); ; {
		back := c.board.sum().since(before).delivered
		if now := c.now(); now-told > step && back > 0 {
			told = now
			c.on.Progress("go on elsewhere", int(min(back, int64(len(c.clients)))), len(c.clients))
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
		Strange: got.strange, Disorder: got.disorder, Latency: c.board.latency(), Tries: c.tries.Load(), Handed: c.handed.Load(),
	}, c.on.Mark(ctx, "end")
}

// back resumes a session that has lost its socket, at whichever address lets it
// in. One that comes back without all that it missed counts as strange.
func (c *crowd) back(ctx context.Context, cl *client) error {
	lost := time.Duration(c.ended.Load())
	if lost == 0 {
		return errors.New("the socket was lost before its node was ended")
	}
	params := fmt.Sprintf(`{"session":"%s","secret":"%s","positions":%s}`, cl.session, cl.secret, cl.positions())
	for try := 0; ; try++ {
		c.tries.Add(1)
		answer, err := c.again(ctx, cl, try, params)
		if err == nil {
			cl.wentOn(answer)
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

// wentOn counts a session that is attached elsewhere, with all that it missed.
func (cl *client) wentOn(answer []byte) {
	t := cl.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.delivered++
	if !bytes.Contains(answer, []byte(`"resumed":true`)) || !bytes.Contains(answer, []byte(`"recovered":true`)) {
		t.counts.strange++
	}
	record(t.latency, cl.crowd.now()-time.Duration(cl.crowd.ended.Load()))
}

func (cl *client) positions() string {
	return fmt.Sprintf(`{%s:{"epoch":"%s","seq":%d}}`, strconv.Quote(cl.crowd.room(cl.room)), cl.epoch, cl.seq)
}

// move follows an offer. The old socket is there until the new one serves; where
// that fails, it goes on.
func (cl *client) move(ctx context.Context, offer []byte) {
	old, in, have := cl.conn, cl.in, cl.have
	c := cl.crowd
	conn, left, err := open(ctx, c.cfg.Dial, c.cfg.Roots, string(word(offer, `"url":"`)))
	if err != nil {
		return
	}
	cl.use(conn, left)
	answer, err := cl.ask("handover", fmt.Sprintf(`{"id":"%s","token":"%s","caps":["redirect"],"positions":%s}`,
		word(offer, `"id":"`), word(offer, `"token":"`), cl.positions()))
	if err != nil {
		conn.Close()
		cl.use(old, nil)
		cl.in, cl.have = in, have
		return
	}
	cl.wentOn(answer)
	c.handed.Add(1)
	_, _ = cl.ask("handover.done", fmt.Sprintf(`{"id":"%s"}`, word(offer, `"id":"`))) // or the source's timer ends it
	old.Close()
}
