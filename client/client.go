package client

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"godwit/rules/redirect"
	"godwit/wire"
)

// Client is one session. Its methods may be called from any goroutine.
type Client struct {
	opts  Options
	ctx   context.Context // ends when the client does; its owner is run
	end   context.CancelCauseFunc
	wake  chan struct{}  // to run: something may have become due
	ready chan struct{}  // to Next: the queue is not empty
	ended chan struct{}  // closed once err is set
	token chan time.Time // to renew: a new token, and when to replace it
	wg    sync.WaitGroup // run and renew

	// owned by Dial, then by run
	next int // the next address
	// doubt is when a resume was given up without an answer, which a node may
	// still take up, against a later one of ours; zero: none was.
	doubt time.Time

	mu    sync.Mutex
	space sync.Cond // on mu: the queue has room, or its bound was lifted
	// guarded by mu
	session  wire.Session
	secret   string          // empty: no session
	conn     *conn           // where writes go; nil while detached
	at       redirect.Client // decides about offers, and what follows when a socket ends
	offer    *move           // a redirect to begin with
	moving   *move           // the redirect under way; only run sets it
	stream   stream
	requests []*request
	rooms    map[string]*room
	seen     sightings
	whispers whispers
	closing  bool
	err      error // why the client has ended
}

// Dial logs in and returns a client that stays logged in until Close or until
// the server says that it must stop. It tries each URL; where a node answers
// that it is busy (503, unavailable, going away) it waits and tries again until
// ctx ends. ctx bounds the login alone.
//
// A refused login is a *wire.Error or a *CloseError in the error's chain.
func Dial(ctx context.Context, o Options) (*Client, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Client{
		opts:   o,
		wake:   make(chan struct{}, 1),
		ready:  make(chan struct{}, 1),
		ended:  make(chan struct{}),
		token:  make(chan time.Time, 1),
		stream: stream{limit: o.EventBuffer, open: true},
		rooms:  make(map[string]*room),
		seen:   sightings{of: make(map[string]sighting), set: o.Presence},

		whispers: newWhispers(),
	}
	c.space.L = &c.mu
	k, err := c.login(ctx)
	if err != nil {
		return nil, err
	}
	c.ctx, c.end = context.WithCancelCause(context.Background())
	c.report(c.connected(false))
	c.wg.Go(func() { c.run(k) })
	c.wg.Go(c.renew)
	return c, nil
}

// Session is the session object of the last attachment, without its secret.
func (c *Client) Session() wire.Session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session
}

// Positions tells, for each room, how far the application has read: a value to
// keep and to give to Join in another process. It is the last event that Next
// has returned, or where the room's stream began.
func (c *Client) Positions() map[string]wire.Position {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := make(map[string]wire.Position, len(c.rooms))
	for name, r := range c.rooms {
		if r.member {
			m[name] = r.read
		}
	}
	return m
}

// Done is closed when the client has ended; Err is then not nil.
func (c *Client) Done() <-chan struct{} { return c.ended }

// Err is why the client has ended: ErrClosed, or an error whose chain holds a
// *CloseError or a *wire.Error. It is nil while the client lives.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close says bye, which ends the session at once for everyone, waits for that
// until ctx ends, and leaves no goroutine. While detached there is nobody to
// say it to: the session then ends with its grace. Sends that are not answered
// return ErrClosed, with ErrUnsettled where they may have been stored. The
// error is nil when the server has confirmed.
func (c *Client) Close(ctx context.Context) error {
	c.mu.Lock()
	first := !c.closing && c.err == nil
	c.closing = true
	c.stream.open = false // the answer to bye stands behind the events
	c.space.Broadcast()
	m := c.moving
	c.at.Close()
	c.giveUpLocked(ErrClosed)
	c.mu.Unlock()

	if m != nil { // bye is for the node that has the session then
		select {
		case <-m.done:
		case <-ctx.Done():
		}
	}
	c.mu.Lock()
	k := c.conn
	c.mu.Unlock()
	var err error
	if first {
		err = c.bye(ctx, k)
	} else { // that one says bye
		select {
		case <-c.ended:
		case <-ctx.Done():
		}
	}
	c.end(ErrClosed)
	c.wg.Wait()
	return err
}

func (c *Client) bye(ctx context.Context, k *conn) error {
	if k == nil {
		return errors.New("bye: not connected, the session ends with its grace")
	}
	if !k.call([]byte(`"method":"bye","params":{}`), func(_ jsontext.Value, err error) {
		if Is(err, wire.Moved) {
			k.quit(errMovedAway)
		}
	}) {
		return errors.New("bye: connection lost, the session ends with its grace")
	}
	select {
	case <-k.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if e, _ := k.why(); e.Code != wire.CloseBye {
		return e
	}
	return nil
}

// finish ends the client: everything that waits is told why.
func (c *Client) finish(err error) {
	c.mu.Lock()
	c.err = err
	c.stream.open = false
	for _, r := range c.requests {
		r.settle(err)
	}
	c.requests = nil
	for _, r := range c.rooms {
		r.line.fail(err)
		r.hangUpLocked(err)
	}
	c.mu.Unlock()
	c.space.Broadcast()
	close(c.ended)
	c.end(err)
}

// wakeRun asks run to look again at what is due.
func (c *Client) wakeRun() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// over is told that a socket has ended.
func (c *Client) over(k *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == k {
		c.conn = nil
	}
}
