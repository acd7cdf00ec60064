package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"godwit/wire"
)

const (
	// attachWait bounds one try: dial, upgrade and the answer to the first frame.
	attachWait = 10 * time.Second
	// doubtFor is how long a node may take to take a resume up whose client has
	// gone elsewhere.
	doubtFor = 30 * time.Second
	// settledAfter is how long a socket must have lived for the back-off to
	// start anew; otherwise a node that takes and drops us would be dialled in
	// a tight loop.
	settledAfter = 5 * time.Second
	// idleSlack is added to two pings of silence before a socket counts as dead.
	idleSlack = 5 * time.Second
	// maxStale is how many tokens in a row may be refused as expired.
	maxStale = 3
)

// login is the first attachment. It gives up when every address has failed in
// a way that waiting does not mend, and when ctx ends.
func (c *Client) login(ctx context.Context) (*conn, error) {
	for n := 0; ; n++ {
		var errs []error
		var floor time.Duration
		busy := false
		for range c.opts.URLs {
			k, err := c.attach(ctx)
			if err == nil {
				return k, nil
			}
			errs = append(errs, err)
			next, after := judge(err, true)
			if next == stop || ctx.Err() != nil || misdirected(err) {
				return nil, fmt.Errorf("log in: %w", err)
			}
			busy = busy || answered(err)
			floor = max(floor, after)
		}
		if !busy {
			return nil, fmt.Errorf("log in: %w", errors.Join(errs...))
		}
		if !sleep(ctx, c.opts.backoff(n, floor)) {
			return nil, fmt.Errorf("log in: %w: %w", context.Cause(ctx), errors.Join(errs...))
		}
	}
}

// misdirected says that the address is wrong, or not open to us. Once logged in
// the client knows better and goes on trying.
func misdirected(err error) bool {
	var h *HTTPError
	return errors.As(err, &h) && h.Status < 500 && h.Status != http.StatusTooManyRequests
}

// answered says whether a node was there to refuse.
func answered(err error) bool {
	var h *HTTPError
	var w *wire.Error
	var cl *CloseError
	return errors.As(err, &h) || errors.As(err, &w) || errors.As(err, &cl)
}

// reattach gets the session a new socket after old has ended, however long it
// takes. Nil says that the client has ended.
func (c *Client) reattach(old *conn, since time.Time) *conn {
	var err error
	closed, floor := old.why()
	err = closed
	next := afterClose(closed.Code)
	if closed.Code == wire.CloseReplaced && time.Since(c.doubt) < doubtFor {
		next = again // maybe no other client has it, but a resume of ours that came late
	}
	c.doubt = time.Time{}
	n := 0
	if time.Since(since) < settledAfter {
		n = 1
	}
	stale := 0
	for ; ; n++ {
		if c.stopped() {
			c.finish(ErrClosed)
			return nil
		}
		if Is(err, wire.TokenExpired) {
			stale++
		}
		if next == stop || stale > maxStale {
			c.finish(err)
			c.opts.Logger.Warn("session ended", "error", err)
			c.report(disconnected(err, 0, true))
			return nil
		}
		if next == hello {
			c.forget()
		}
		wait := c.opts.backoff(n, floor)
		c.opts.Logger.Info("connection lost", "error", err, "retry_in", wait)
		c.report(disconnected(err, wait, false))
		if !sleep(c.ctx, wait) {
			continue
		}
		fresh := !c.hasSession()
		k, e := c.attach(c.ctx)
		if e == nil {
			c.report(c.connected(!fresh))
			return k
		}
		err = e
		next, floor = judge(e, fresh)
		if next == stop && fresh && Is(e, wire.TokenExpired) {
			next = again // Token may have a better one by now
		}
	}
}

// judge says what to do after a failed attach, and after how long.
func judge(err error, fresh bool) (verdict, time.Duration) {
	var w *wire.Error
	if errors.As(err, &w) {
		return afterRefusal(w, fresh), retryAfter(w)
	}
	var cl *CloseError
	if errors.As(err, &cl) {
		return afterClose(cl.Code), 0
	}
	var r *refused
	if errors.As(err, &r) {
		return again, r.after
	}
	return again, 0
}

// attach dials the next address and logs in there: resume while there is a
// session, else hello.
func (c *Client) attach(ctx context.Context) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, attachWait)
	defer cancel()
	addr := c.opts.URLs[c.next%len(c.opts.URLs)]
	c.next++ // whatever happens: the one that failed us is not the first to try

	method, params, token, err := c.firstFrame(ctx)
	if err != nil {
		return nil, err
	}
	k, err := dial(ctx, &c.opts, addr, c.notice, c.over)
	if err != nil {
		return nil, err
	}
	err = k.introduce(ctx, method, params, func(res jsontext.Value) error { return c.attached(k, res) })
	if err != nil {
		if method == "resume" && !errors.As(err, new(*wire.Error)) {
			c.doubt = time.Now()
		}
		c.over(k) // it may have been attached when the time was up
		k.abort()
		<-k.done
		return nil, err
	}
	if token != "" {
		c.gotToken(token)
	}
	return k, nil
}

// introduce says the first frame on k and waits until take, in k's reader, has
// had the answer. On an error it leaves k as it is.
func (k *conn) introduce(ctx context.Context, method string, params any, take func(res jsontext.Value) error) error {
	frame, err := appendCall(nil, method, params)
	if err != nil {
		return err
	}
	result := make(chan error, 1)
	if k.call(frame, func(res jsontext.Value, err error) {
		if err == nil {
			err = take(res)
		}
		result <- err
	}) {
		select {
		case err = <-result:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	} else {
		err = errLost
	}
	if errors.Is(err, errLost) {
		<-k.done
		err, _ = k.why()
	}
	if err != nil {
		return fmt.Errorf("%s at %s: %w", method, k.url, err)
	}
	return nil
}

// firstFrame is what to say first, with the token that a hello carries.
func (c *Client) firstFrame(ctx context.Context) (method string, params any, token string, err error) {
	c.mu.Lock()
	secret, s, presence := c.secret, c.session, c.seen.set
	positions := c.positionsLocked()
	c.mu.Unlock()
	if secret != "" {
		fit(positions, s.Limits.FrameBytes)
		return "resume", wire.Resume{Session: s.Session, Secret: secret, Positions: positions, Caps: c.opts.caps()}, "", nil
	}
	token, err = c.opts.Token(ctx)
	if err != nil {
		return "", nil, "", fmt.Errorf("get a token: %w", err)
	}
	return "hello", wire.Hello{Token: token, Device: c.opts.Device, Presence: presence, Caps: c.opts.caps()}, token, nil
}

// caps is what the client can do beyond the least.
func (o *Options) caps() []string {
	if o.NoRedirect {
		return nil
	}
	return []string{"redirect"}
}

// positionsLocked is how far each room has come.
func (c *Client) positionsLocked() map[string]wire.Position {
	m := make(map[string]wire.Position, len(c.rooms))
	for name, r := range c.rooms {
		if r.member {
			m[name] = r.pos
		}
	}
	return m
}

// fit leaves out positions until they fit in a frame of limit bytes: the
// server answers recovered:false for the rest, where a frame over the limit
// would end the client.
func fit(positions map[string]wire.Position, limit int) {
	if limit <= 0 {
		return
	}
	const perRoom, rest = 80, 512 // the other members of a position, of the frame
	size := rest
	for name, p := range positions {
		size += 2*len(name) + len(p.Epoch) + perRoom // a name's quotes may be escaped
		if size > limit {
			delete(positions, name)
		}
	}
}

// attached takes the answer to a first frame. It runs in k's reader, so that
// what follows on k finds the session in place.
func (c *Client) attached(k *conn, res jsontext.Value) error {
	var s wire.Session
	if err := json.Unmarshal(res, &s); err != nil {
		return fmt.Errorf("read the session object: %w", err)
	}
	k.pipe.setIdle(idle(&s))

	c.mu.Lock()
	defer c.mu.Unlock()
	fresh := c.secret == ""
	if !fresh && s.Gen < c.session.Gen {
		return errOldGen
	}
	if s.Secret != "" {
		c.secret = s.Secret
	}
	s.Secret = ""
	c.session = s
	c.conn = k
	c.at.Resumed()
	if fresh {
		c.startOverLocked()
	} else {
		c.emitLocked(Resumed{s.Node, s.Rooms}, nil, wire.Position{})
		c.resumedLocked(s.Rooms, nil)
	}
	c.attachedLocked(k, &s)
	c.pumpLocked()
	return nil
}

// idle is how long a node may be silent before its socket counts as dead.
func idle(s *wire.Session) time.Duration {
	return 2*time.Duration(s.Timers.PingMS)*time.Millisecond + idleSlack
}

// forget drops a session that has ended; the next first frame is a hello.
func (c *Client) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.secret = ""
}

func (c *Client) hasSession() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.secret != ""
}

// stopped says that there must be no further socket.
func (c *Client) stopped() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing || c.ctx.Err() != nil
}

func (c *Client) report(s State) { c.opts.OnState(s) }

func (c *Client) connected(resumed bool) Connected {
	c.mu.Lock()
	s := c.session
	c.mu.Unlock()
	c.opts.Logger.Info("session attached", "session", s.Session, "node", s.Node, "gen", s.Gen, "resumed", resumed)
	return Connected{Session: s, Resumed: resumed, Rooms: s.Rooms}
}

func disconnected(err error, wait time.Duration, final bool) Disconnected {
	d := Disconnected{Err: err, RetryIn: wait, Final: final}
	var cl *CloseError
	if errors.As(err, &cl) {
		d.Code = cl.Code
	}
	return d
}

// sleep waits for d; false says that ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
