package client

import (
	"context"
	"time"
)

// IdleOptions say what an idle timer does. After is required.
type IdleOptions struct {
	// After is how long the user must do nothing to be idle.
	After time.Duration
	// Active and Idle are what the device is set to, as by SetAutoPresence: 0 is
	// 3, online, and 2, away.
	Active, Idle uint8
}

// Idle sets a device's presence by whether somebody uses it: Idle when nobody
// has for a while, Active from the beginning and at the next Touch. What the user has set on this
// device, by SetPresence, it leaves alone.
type Idle struct {
	client *Client
	opts   IdleOptions
	touch  chan struct{} // cap 1
}

// NewIdle makes an idle timer; Run works it. The user is taken to be active.
func NewIdle(c *Client, o IdleOptions) *Idle {
	if o.Active == 0 {
		o.Active = 3
	}
	if o.Idle == 0 {
		o.Idle = 2
	}
	return &Idle{client: c, opts: o, touch: make(chan struct{}, 1)}
}

// Touch says that the user has done something. It does not wait, and may be
// called from any goroutine, at every key.
func (i *Idle) Touch() {
	select {
	case i.touch <- struct{}{}:
	default:
	}
}

// Run works until ctx ends, which is no error, or the client does.
func (i *Idle) Run(ctx context.Context) error {
	t := time.NewTimer(i.opts.After)
	defer t.Stop()
	idle := false
	set := func() error {
		value := i.opts.Active
		if idle {
			value = i.opts.Idle
		}
		if err := i.client.setPresence(ctx, value, byIdle); err != nil && ctx.Err() == nil {
			return err
		}
		return nil
	}
	if err := set(); err != nil {
		return err
	}
	for {
		var now bool
		select {
		case <-ctx.Done():
			return nil
		case <-i.client.Done():
			return i.client.Err()
		case <-i.touch:
			t.Reset(i.opts.After)
			now = false
		case <-t.C:
			now = true
		}
		if now == idle {
			continue
		}
		idle = now
		if err := set(); err != nil {
			return err
		}
	}
}
