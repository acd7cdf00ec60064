package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"godwit/wire"
)

// request is one call that is repeated, over sockets and after `unavailable`
// or `rate_limited`, until it is answered. Guarded by Client.mu.
type request struct {
	// frame is the call's text, made anew for each try.
	frame func() ([]byte, error)
	// apply takes the result, in the reader's order, with Client.mu held.
	apply func(result jsontext.Value) error
	// refuse, if set, turns the server's error into the outcome.
	refuse func(e *wire.Error) error
	once   bool // not repeated
	joins  bool // it begins a membership

	inflight  bool
	fenced    *conn // answered moved there: only another socket will do
	tries     int   // how often it was written
	notBefore time.Time
	settled   bool
	err       error
	done      chan struct{} // closed when settled
}

func (r *request) settle(err error) {
	if !r.settled {
		r.settled, r.err = true, err
		close(r.done)
	}
}

// ask is a request with fixed params whose result is read into out.
func ask(method string, params, out any) *request {
	return &request{
		frame: func() ([]byte, error) { return appendCall(nil, method, params) },
		apply: func(res jsontext.Value) error {
			if err := json.Unmarshal(res, out); err != nil {
				return fmt.Errorf("read the answer to %s: %w", method, err)
			}
			return nil
		},
	}
}

// appendCall appends a call's text, as conn.call wants it.
func appendCall(b []byte, method string, params any) ([]byte, error) {
	b = append(b, `"method":"`...)
	b = append(b, method...)
	b = append(b, `","params":`...)
	raw, err := json.Marshal(params)
	if err != nil {
		return nil, fmt.Errorf("write the params of %s: %w", method, err)
	}
	return append(b, raw...), nil
}

// do makes a request and waits for its outcome or the end of ctx. A request
// that was written when ctx ends is not repeated, but its answer is applied.
func (c *Client) do(ctx context.Context, r *request) error {
	c.mu.Lock()
	err := c.askLocked(ctx, r)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	return c.outcome(ctx, r)
}

// askLocked makes a request, of which outcome is to be called, or says why not.
func (c *Client) askLocked(ctx context.Context, r *request) error {
	if err := c.refusedLocked(ctx); err != nil {
		return err
	}
	c.addLocked(r)
	c.callingLocked()
	return nil
}

// outcome is do from where the request is made.
func (c *Client) outcome(ctx context.Context, r *request) error {
	defer c.called()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.settled {
		return r.err
	}
	c.dropLocked(r)
	r.once = true
	return context.Cause(ctx)
}

// overtakenLocked ends a request, if there is one, that a later one makes
// pointless.
func (c *Client) overtakenLocked(r *request) {
	if r != nil {
		c.dropLocked(r)
		r.settle(nil)
	}
}

// refusedLocked is why no call can be made now.
func (c *Client) refusedLocked(ctx context.Context) error {
	switch {
	case c.err != nil:
		return c.err
	case c.closing:
		return ErrClosed
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return nil
}

// addLocked queues a request and writes it if it can go out.
func (c *Client) addLocked(r *request) {
	r.done = make(chan struct{})
	c.requests = append(c.requests, r)
	c.tryLocked(r, time.Now())
}

func (c *Client) dropLocked(r *request) {
	if i := slices.Index(c.requests, r); i >= 0 {
		c.requests = slices.Delete(c.requests, i, i+1)
	}
}

// tryLocked writes r if it may go out now; else it says when.
func (c *Client) tryLocked(r *request, now time.Time) (due time.Time) {
	if c.conn == nil || c.conn == r.fenced || r.inflight || r.settled || r.joins && c.moving.holds() {
		return time.Time{}
	}
	if now.Before(r.notBefore) {
		return r.notBefore
	}
	frame, err := r.frame()
	if err == nil {
		err = c.fitsLocked(len(frame))
	}
	if err != nil {
		c.dropLocked(r)
		r.settle(err)
		return time.Time{}
	}
	k := c.conn
	if k.call(frame, func(res jsontext.Value, err error) { c.answeredRequest(k, r, res, err) }) {
		r.inflight = true
		r.tries++
	}
	return time.Time{}
}

// fitsLocked refuses a frame for which the server would close the socket.
func (c *Client) fitsLocked(n int) error {
	const envelope = 64
	if limit := c.session.Limits.FrameBytes; limit > 0 && n+envelope > limit {
		return wire.Errorf(wire.TooLarge, "the frame would be over %d bytes", limit)
	}
	return nil
}

func (c *Client) answeredRequest(k *conn, r *request, res jsontext.Value, err error) {
	c.mu.Lock()
	r.inflight = false
	var w *wire.Error
	switch {
	case err == nil && r.joins && k != c.conn:
		// The socket that has the session tells where the room stands by now.
		c.mu.Unlock()
		c.wakeRun()
		return
	case err == nil:
		err = r.apply(res)
	case errors.Is(err, errLost):
		if !r.once {
			c.mu.Unlock() // the next attachment repeats it, or the one that is there already
			return
		}
		err = fmt.Errorf("%w: %w", ErrUnsettled, err)
	case Is(err, wire.Moved): // nothing was done here, so any request may be repeated
		r.fenced = k
		c.fencedLocked(k)
		c.mu.Unlock()
		c.wakeRun()
		return
	case errors.As(err, &w) && repeatable(w) && !r.once:
		r.notBefore = time.Now().Add(c.opts.backoff(r.tries, retryAfter(w)))
		c.mu.Unlock()
		c.wakeRun()
		return
	case r.refuse != nil:
		err = r.refuse(w)
	}
	c.dropLocked(r)
	r.settle(err)
	c.mu.Unlock()
}

// pumpLocked writes everything that may go out now and says when it should be
// called again; zero is not before something happens.
func (c *Client) pumpLocked() (due time.Time) {
	now := time.Now()
	earlier := func(t time.Time) {
		if !t.IsZero() && (due.IsZero() || t.Before(due)) {
			due = t
		}
	}
	if c.conn == nil {
		return due
	}
	for _, r := range c.rooms {
		earlier(c.pumpRoomLocked(r, now))
		earlier(c.callLocked(r, now))
	}
	for _, r := range slices.Clone(c.requests) { // a request that fails leaves the list
		earlier(c.tryLocked(r, now))
	}
	return due
}
