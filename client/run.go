package client

import (
	"time"

	"godwit/rules/redirect"
)

// lingerWait bounds how long a socket is read after another has replaced it. A
// node that lives closes it at once; one that does not is not waited for.
const lingerWait = 10 * time.Second

// run keeps the session attached until it ends. It alone decides about sockets:
// there is one redirect or one reattach at a time, never both.
func (c *Client) run(k *conn) {
	var old *conn // the socket before, still read
	for k != nil {
		since := time.Now()
		if m := c.serve(k, old); m != nil {
			old, k = k, m.to
			c.report(m.redirected())
			continue
		}
		old, k = nil, c.reattach(k, since)
	}
}

// serve drives what is due by time while k has the session, and the redirect
// that leads away from it. The result is the redirect that has brought another
// socket; nil says that k has ended, and that no other socket is left.
func (c *Client) serve(k, old *conn) *move {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	linger := time.NewTimer(lingerWait)
	defer linger.Stop()
	stopping := c.ctx.Done()
	ended := k.done // nil once it was seen
	var m *move
	for {
		c.mu.Lock()
		due := c.pumpLocked()
		if m == nil && old == nil && ended != nil {
			m = c.beginLocked()
		}
		if ended != nil && c.at.State() == redirect.Resuming {
			k.quit(errMovedAway)
		}
		c.mu.Unlock()
		timer.Stop()
		var tick <-chan time.Time
		if !due.IsZero() {
			timer.Reset(time.Until(due))
			tick = timer.C
		}
		var moved, left <-chan struct{}
		if m != nil {
			moved = m.done
		}
		if old != nil {
			left = old.done
		}
		select {
		case <-ended:
			ended = nil
			c.lost(m, k)
			if m == nil {
				c.leave(old)
				return nil
			}
		case <-moved:
			if c.settleMove(m) {
				return m
			}
			if m = nil; ended == nil {
				return nil
			}
		case <-left:
			old = nil
			c.mu.Lock()
			c.at.OldLost()
			c.mu.Unlock()
		case <-linger.C:
			if old != nil {
				c.drop(old)
			}
		case <-stopping:
			stopping = nil
			k.abort()
		case <-c.wake:
		case <-tick:
		}
	}
}

// leave ends the socket before, if it is still there, and waits for that.
func (c *Client) leave(old *conn) {
	if old != nil {
		c.drop(old)
		<-old.done
	}
}
