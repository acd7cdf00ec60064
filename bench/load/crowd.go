package load

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	look     = 5 * time.Millisecond   // between two looks at the counts
	quietFor = 300 * time.Millisecond // without a frame: all that was caused has come

	byeWithin = 10 * time.Second
	step      = 100 * time.Millisecond // between two words of progress
)

// settleFor is how long after the last frame what has not come is missing. Tests
// wait less.
var settleFor = 20 * time.Second

// Works are the names of what can be asked for.
var Works = []string{"fanout", "login", "idle", "presence", "calls", "resume", "drain"}

var works = map[string]func(*crowd, context.Context) (*Result, error){
	"fanout": (*crowd).fanout, "login": (*crowd).logins, "idle": (*crowd).idle,
	"presence": (*crowd).presence, "calls": (*crowd).calls, "resume": (*crowd).resume,
	"drain": (*crowd).drain,
}

// Config says what to do.
type Config struct {
	Work string   `json:"work"`
	URLs []string `json:"urls"` // clients take them in turn
	Run  string   `json:"run"`  // begins the names of rooms and users
	// Token is what a user says hello with.
	Token func(user string) (string, error) `json:"-"`
	// Dial opens a connection; nil is TCP.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error) `json:"-"`
	// Roots are what a wss address's certificate is checked with; nil is the machine's.
	Roots *x509.CertPool `json:"-"`

	Rooms    int     `json:"rooms"`
	Members  int     `json:"members"`  // of each room
	Stalled  int     `json:"stalled"`  // clients, spread over the rooms, that read nothing, and whose sockets hold little
	Rate     float64 `json:"rate"`     // sends, changes or beats a second of all together; 0: as fast as answered
	InFlight int     `json:"inflight"` // sends that wait for their answers: a room's; paced: all rooms' together, times the rooms
	Parallel int     `json:"parallel"` // logins at once
	Payload  int     `json:"payload"`  // bytes of data
	Presence bool    `json:"presence"` // clients are online; otherwise invisible
	Bye      bool    `json:"bye"`      // sessions are ended, not left to their grace
	// Warm and Measure are seconds.
	Warm    float64 `json:"warm"`
	Measure float64 `json:"measure"`
}

// Onlooker follows a load.
type Onlooker interface {
	// Mark says that a part begins or ends; the load waits for its return.
	Mark(ctx context.Context, name string) error
	// Progress says how far a part is. It does not wait.
	Progress(part string, done, of int)
}

// Result is what a load has counted between its marks.
type Result struct {
	Clients   int       `json:"clients"`
	Seconds   float64   `json:"seconds"`
	Accepted  int64     `json:"accepted"`        // sends
	Expected  int64     `json:"expected"`        // deliveries that follow from them
	Delivered int64     `json:"delivered"`       // counted by the clients
	Strange   int64     `json:"strange"`         // messages of nobody here
	Disorder  int64     `json:"disorder"`        // events not in order, doubled ones too
	Latency   Quantiles `json:"latency"`         // of deliveries from the send, or of logins
	Late      Quantiles `json:"late"`            // of sends after they were due, paced
	Alone     int       `json:"alone,omitzero"`  // logins that were made one by one
	Tries     int64     `json:"tries,omitzero"`  // to resume, of all together
	Handed    int64     `json:"handed,omitzero"` // sessions that followed an offer
}

// crowd is all clients of a load.
type crowd struct {
	cfg     Config
	on      Onlooker
	board   *board
	began   time.Time
	clients []*client

	sent   atomic.Int64
	follow atomic.Bool // an answered send is followed by the next
	over   atomic.Bool // a socket that ends now is no failure
	// comeBack is what a client does that lost its socket; nil: that is a failure.
	// Set before the first login.
	comeBack func(*client) error
	follows  bool         // clients follow offers; set before the first login
	tries    atomic.Int64 // to resume
	handed   atomic.Int64 // sessions that followed an offer
	ended    atomic.Int64 // when the first address was ended, on the clock of stamps; 0: not yet
	calling  atomic.Bool  // every call has begun: an event about one is an error
	// changed is when each client's last change of its presence was due; nil:
	// nobody counts what is told of it.
	changed []atomic.Int64
	narrow  dialer // of who is stalled; nil: the same as everybody's
	fail    context.CancelCauseFunc

	readers sync.WaitGroup
}

// Run does a work. The counts of a result are whatever they are: Check says
// whether they are right.
func Run(ctx context.Context, cfg Config, on Onlooker) (*Result, error) {
	var narrow dialer
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{Timeout: patience}).DialContext
		narrow = (&net.Dialer{Timeout: patience, Control: narrowed}).DialContext
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	c := &crowd{cfg: cfg, on: on, board: newBoard(), began: time.Now(), narrow: narrow, fail: fail}
	defer c.leave()
	for i := range cfg.Rooms * cfg.Members {
		c.clients = append(c.clients, &client{
			crowd: c, nth: i, room: i % cfg.Rooms, user: cfg.Run + "-" + strconv.Itoa(i+1), tally: &c.board[i%tallies],
		})
	}
	if cfg.Work == "presence" {
		c.changed = make([]atomic.Int64, len(c.clients))
	}
	var r *Result
	var err error
	if work := works[cfg.Work]; work != nil {
		r, err = work(c, ctx)
	} else {
		err = fmt.Errorf("no such work: %s", cfg.Work)
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	r.Clients = len(c.clients)
	return r, nil
}

// Check is nil if what was delivered is what had to be.
func (r *Result) Check() error {
	var wrong []error
	if r.Delivered != r.Expected {
		wrong = append(wrong, fmt.Errorf("%d deliveries follow from %d accepted sends, the clients counted %d", r.Expected, r.Accepted, r.Delivered))
	}
	if r.Strange != 0 {
		wrong = append(wrong, fmt.Errorf("%d messages came that nobody here has sent", r.Strange))
	}
	if r.Disorder != 0 {
		wrong = append(wrong, fmt.Errorf("%d events came twice or out of order", r.Disorder))
	}
	return errors.Join(wrong...)
}

func (c *crowd) room(nth int) string { return c.cfg.Run + "/" + strconv.Itoa(nth+1) }

// now is the clock of stamps.
func (c *crowd) now() time.Duration { return time.Since(c.began) }

// enter lets clients log in, so many at once, and each is read from then on.
// took is told how long each login lasted.
func (c *crowd) enter(ctx context.Context, part string, clients []*client, atOnce int, took func(time.Duration)) error {
	var next, in atomic.Int64
	var workers sync.WaitGroup
	for range min(atOnce, len(clients)) {
		workers.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(clients) {
					return
				}
				began := c.now()
				if err := clients[i].login(ctx); err != nil {
					c.fail(fmt.Errorf("client %d: %w", clients[i].nth+1, err))
					return
				}
				if took != nil {
					took(c.now() - began)
				}
				c.listen(ctx, clients[i])
				if n := in.Add(1); n%64 == 0 || int(n) == len(clients) {
					c.on.Progress(part, int(n), len(clients))
				}
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx)
}

// arrive lets everybody log in, and waits until all of that is over.
func (c *crowd) arrive(ctx context.Context) error {
	if err := c.enter(ctx, "log in", c.clients, c.cfg.Parallel, nil); err != nil {
		return err
	}
	_, err := c.quiet(ctx)
	return err
}

// listen reads what a client is told, until the end.
func (c *crowd) listen(ctx context.Context, cl *client) {
	if cl.stall {
		return
	}
	c.readers.Go(func() {
		err := cl.read(ctx)
		for c.comeBack != nil && !c.over.Load() {
			if err = c.comeBack(cl); err != nil {
				break
			}
			err = cl.read(ctx)
		}
		if !c.over.Load() {
			c.fail(fmt.Errorf("client %d: %w", cl.nth+1, err))
		}
	})
}

// quiet waits until nobody was told anything for a while, and is the counts then.
func (c *crowd) quiet(ctx context.Context) (counts, error) {
	last, since := c.board.sum(), c.now()
	for c.now()-since < quietFor {
		if err := pause(ctx, look); err != nil {
			return last, err
		}
		if all := c.board.sum(); all.frames != last.frames {
			last, since = all, c.now()
		}
	}
	return last, nil
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// leave closes every socket and waits for the readers.
func (c *crowd) leave() {
	c.over.Store(true)
	bye := request(1, "bye", "{}")
	if c.cfg.Bye {
		for _, cl := range c.clients {
			if cl.conn != nil {
				_ = cl.conn.SetDeadline(time.Now().Add(byeWithin))
				_ = cl.put(bye) // the server closes, or the deadline ends it
			}
		}
		c.readers.Wait()
	}
	for _, cl := range c.clients {
		cl.hangUp()
	}
	c.readers.Wait()
}
