package load

import (
	"context"
	"fmt"
	"time"
)

// talk is the members of one room who send.
type talk struct {
	members []*client
	// heard is how many are told of each send.
	heard int64
}

// fanout sends messages to rooms and counts who was told.
func (c *crowd) fanout(ctx context.Context) (*Result, error) {
	for i := range c.cfg.Stalled { // spread over the rooms, from the last members on
		c.clients[len(c.clients)-1-i].stall = true
	}
	talks := make([]talk, c.cfg.Rooms)
	for _, cl := range c.clients {
		if !cl.stall {
			t := &talks[cl.room]
			t.members = append(t.members, cl)
			t.heard = int64(len(t.members)) - 1
			cl.prepare(c.cfg.Payload)
		}
	}
	if err := c.arrive(ctx); err != nil {
		return nil, err
	}
	return c.twice(ctx, talks[0].heard, func(part string, seconds float64) (Quantiles, error) {
		if c.cfg.Rate == 0 {
			return Quantiles{}, c.flatOut(ctx, part, talks, seconds)
		}
		return c.paced(ctx, part, c.cfg.Rate, seconds, int64(c.cfg.InFlight*len(talks)), func(k int, due time.Duration) error {
			t := talks[k%len(talks)]
			return t.members[k/len(talks)%len(t.members)].send(1, due)
		})
	})
}

// twice does something to warm up, and then between the marks. Each that is
// accepted is told to so many.
func (c *crowd) twice(ctx context.Context, each int64, do func(part string, seconds float64) (late Quantiles, err error)) (r *Result, err error) {
	if c.cfg.Warm > 0 {
		if _, err := c.once(ctx, "warm up", c.cfg.Warm, each, do); err != nil {
			return nil, err
		}
	}
	c.board.reset()
	if err := c.on.Mark(ctx, "begin"); err != nil {
		return nil, err
	}
	if r, err = c.once(ctx, "measure", c.cfg.Measure, each, do); err != nil {
		return nil, err
	}
	return r, c.on.Mark(ctx, "end")
}

// once does something for so long, and waits until all has arrived.
func (c *crowd) once(ctx context.Context, part string, seconds float64, each int64, do func(part string, seconds float64) (late Quantiles, err error)) (*Result, error) {
	before, began := c.board.sum(), c.now()
	c.sent.Store(0)
	late, err := do(part, seconds)
	if err != nil {
		return nil, err
	}
	got, last, err := c.settle(ctx, before, each)
	if err != nil {
		return nil, err
	}
	return &Result{
		Seconds: (last - began).Seconds(), Accepted: got.answered, Expected: got.answered * each, Delivered: got.delivered,
		Strange: got.strange, Disorder: got.disorder, Latency: c.board.latency(), Late: late,
	}, nil
}

// flatOut has each room send the next message as soon as one was answered.
func (c *crowd) flatOut(ctx context.Context, part string, talks []talk, seconds float64) error {
	c.follow.Store(true)
	defer c.follow.Store(false)
	for slot := range c.cfg.InFlight {
		for _, t := range talks {
			if err := t.members[slot%len(t.members)].send(1, c.now()); err != nil {
				return err
			}
		}
	}
	return c.wait(ctx, part, seconds)
}

// wait lets time pass and shows how much.
func (c *crowd) wait(ctx context.Context, part string, seconds float64) error {
	steps := max(int(seconds/step.Seconds()), 1)
	for i := range steps {
		if err := pause(ctx, time.Duration(seconds/float64(steps)*float64(time.Second))); err != nil {
			return err
		}
		c.on.Progress(part, i+1, steps)
	}
	return nil
}

// paced does each of so many acts a second when it is due, whatever became of
// those before, unless too many wait for their answers. One that is late still
// counts from when it was due: that corrects for coordinated omission.
func (c *crowd) paced(ctx context.Context, part string, rate, seconds float64, most int64, act func(k int, due time.Duration) error) (Quantiles, error) {
	late := newHistogram()
	total := int(rate * seconds)
	began, told := c.now(), time.Duration(0)
	answered := c.board.sum().answered
	for k := range total {
		due := began + time.Duration(float64(k)/rate*float64(time.Second))
		if wait := due - c.now(); wait > 0 {
			if err := pause(ctx, wait); err != nil {
				return Quantiles{}, err
			}
		}
		for c.now()-due < behind && int64(k)-(c.board.sum().answered-answered) >= most {
			if err := pause(ctx, look/5); err != nil {
				return Quantiles{}, err
			}
		}
		now := c.now()
		if now-due >= behind {
			return Quantiles{}, fmt.Errorf("%g a second are more than is accepted: one is %s late", rate, now-due)
		}
		record(late, now-due)
		if err := act(k, due); err != nil {
			return Quantiles{}, err
		}
		if now-told > step || k == total-1 {
			told = now
			c.on.Progress(part, k+1, total)
		}
	}
	return quantiles(late), nil
}

// behind is how late a paced send may be before the pace is called too fast.
// Tests wait less.
var behind = 10 * time.Second

// settle waits until all sends were answered and everything has arrived that
// follows, and is what was counted since, and when the last of it came. What
// does not come is missing in the counts.
func (c *crowd) settle(ctx context.Context, before counts, each int64) (got counts, last time.Duration, err error) {
	got, last = c.board.sum().since(before), c.now()
	for got.answered < c.sent.Load() || got.delivered < got.answered*each {
		if c.now()-last > settleFor {
			break
		}
		if err := pause(ctx, look); err != nil {
			return got, last, err
		}
		if now := c.board.sum().since(before); now.frames != got.frames {
			got, last = now, c.now()
		}
	}
	last = c.now()
	all, err := c.quiet(ctx) // nothing may follow
	return all.since(before), last, err
}
