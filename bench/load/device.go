package load

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"time"
)

// presence has users go away and come back, one after the other, and counts who
// was told.
func (c *crowd) presence(ctx context.Context) (*Result, error) {
	if err := c.arrive(ctx); err != nil {
		return nil, err
	}
	away, online := request(1, "presence.set", `{"presence":2,"auto":false}`), request(1, "presence.set", `{"presence":3,"auto":false}`)
	turn := 0
	return c.twice(ctx, int64(c.cfg.Members-1), func(part string, seconds float64) (Quantiles, error) {
		return c.paced(ctx, part, c.cfg.Rate, seconds, int64(c.cfg.InFlight*c.cfg.Rooms), func(_ int, due time.Duration) error {
			n, frame := turn%len(c.clients), away
			if turn/len(c.clients)%2 == 1 {
				frame = online
			}
			turn++
			c.changed[n].Store(int64(due))
			c.sent.Add(1)
			return c.clients[n].put(frame)
		})
	})
}

// changeOf is when the change was due of which a notification's user, and what
// follows, tells.
func (c *crowd) changeOf(user []byte) (due time.Duration, ok bool) {
	rest, ok := bytes.CutPrefix(user, []byte(c.cfg.Run+"-"))
	n := number(rest)
	if !ok || n < 1 || n > uint64(len(c.changed)) {
		return 0, false
	}
	return time.Duration(c.changed[n-1].Load()), true
}

// calls has every room in a call, and its members say so in turn. An event about
// a call that begins or ends meanwhile is one that nobody should have seen.
func (c *crowd) calls(ctx context.Context) (*Result, error) {
	if err := c.arrive(ctx); err != nil {
		return nil, err
	}
	beats := make([][]byte, c.cfg.Rooms)
	for i := range beats {
		beats[i] = request(1, "call.beat", fmt.Sprintf(`{"room":%s,"status":1}`, strconv.Quote(c.room(i))))
	}
	for _, cl := range c.clients {
		if err := cl.put(beats[cl.room]); err != nil {
			return nil, err
		}
	}
	if _, err := c.quiet(ctx); err != nil {
		return nil, err
	}
	c.calling.Store(true)
	turn := 0
	return c.twice(ctx, 0, func(part string, seconds float64) (Quantiles, error) {
		return c.paced(ctx, part, c.cfg.Rate, seconds, int64(len(c.clients)), func(int, time.Duration) error {
			cl := c.clients[turn%len(c.clients)]
			turn++
			c.sent.Add(1)
			return cl.put(beats[cl.room])
		})
	})
}
