package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"godwit/rules/redirect"
	"godwit/wire"
)

const (
	// joinWait is how long a join under way may hold up a handover.
	joinWait = time.Second
	// maxMoveDials is how often one offer is dialled where a balancer may have
	// led us to the node that we are to leave.
	maxMoveDials = 6
	// maxOfferLife bounds what an offer says of its life.
	maxOfferLife = time.Hour
)

// Why the client refuses an offer, other than for the reason of an error or for
// what the node did.
const (
	refusedURL  = "url"  // not an origin to follow to
	refusedBusy = "busy" // another redirect is under way
)

// move is one offer, and what is done about it. Where the client stands with it
// is Client.at, which decides. A nil move is none.
type move struct {
	offer wire.Redirect
	from  *conn         // where it was offered, and the session is
	since time.Time     // when it was offered
	until time.Time     // the end of the offer's life
	done  chan struct{} // closed when the attempt is over
	err   error         // why it failed; only after done

	// guarded by Client.mu
	cancel    context.CancelCauseFunc  // set when it begins
	holding   bool                     // joins wait: positions are being told
	to        *conn                    // where the answer has come
	positions map[string]wire.Position // as told in handover
	left      map[string]wire.Position // rooms that we were put out of since
	nodes     [2]string                // from, to
	took      time.Duration
}

// RequestRedirect asks to be moved to a node, "" is any other. Its nil says that
// an offer follows, on which the client acts by itself: OnState tells of
// Redirected. The error wraps ErrNoTarget when no node can take the session; it
// is ErrUnsettled when the answer was lost, for a request is not repeated.
func (c *Client) RequestRedirect(ctx context.Context, node string) error {
	r := ask("redirect.request", wire.RedirectRequest{Node: node}, new(wire.Empty))
	r.once = true
	err := c.do(ctx, r)
	switch {
	case err == nil:
		return nil
	case Is(err, wire.NoTarget):
		return fmt.Errorf("request redirect: %w: %w", ErrNoTarget, err)
	}
	return fmt.Errorf("request redirect: %w", err)
}

// offered takes an offer that came on k. run acts on it.
func (c *Client) offered(k *conn, o *wire.Redirect) {
	now := time.Now()
	life := min(time.Duration(max(0, o.ExpiresInMS))*time.Millisecond, maxOfferLife)
	m := &move{offer: *o, from: k, since: now, until: now.Add(life), done: make(chan struct{})}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case k != c.conn || c.opts.NoRedirect || c.closing:
		// Not of the node that has the session, or not wanted: it times out.
		return
	case !mayFollow(k.url, o.URL, c.session.Origins):
		c.opts.Logger.Warn("redirect to a foreign origin refused", "url", o.URL)
		c.refuseLocked(k, o.ID, refusedURL)
		return
	}
	switch c.at.Offer(o.ID, m.until) {
	case redirect.Take:
		c.offer = m
		c.wakeRun()
	case redirect.Busy:
		c.refuseLocked(k, o.ID, refusedBusy)
	}
}

// withdrawn takes the end of an offer.
func (c *Client) withdrawn(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at.Withdrawn(id) {
		c.giveUpLocked(errors.New("the offer was withdrawn"))
	}
}

// refuseLocked tells the node that an offer comes to nothing.
func (c *Client) refuseLocked(k *conn, id, reason string) {
	frame, err := appendCall(nil, "redirect.refuse", wire.RedirectRefuse{ID: id, Reason: reason})
	if err != nil {
		return // an id is a JSON string
	}
	k.call(frame, func(_ jsontext.Value, err error) {
		if Is(err, wire.Moved) { // the claim had won, and its answer is lost
			c.mu.Lock()
			defer c.mu.Unlock()
			c.fencedLocked(k)
		}
	})
}

// fencedLocked notes that k has answered moved: the session is elsewhere, by a
// handover whose answer is still to come or is lost.
func (c *Client) fencedLocked(k *conn) {
	if k == c.conn {
		c.at.Fenced()
		c.giveUpLocked(errMovedAway)
		c.wakeRun()
	}
}

// beginLocked starts with the offer that waits.
func (c *Client) beginLocked() *move {
	m := c.offer
	if m == nil || !c.at.Begin(m.offer.ID) {
		return nil
	}
	c.offer = nil
	ctx, cancel := context.WithCancelCause(c.ctx)
	m.cancel = cancel
	c.moving = m
	c.opts.Logger.Info("redirect offered", "reason", m.offer.Reason, "url", m.offer.URL)
	c.wg.Go(func() { c.follow(ctx, m) })
	return m
}

// follow dials the offer's node until it has answered or there is no point.
func (c *Client) follow(ctx context.Context, m *move) {
	defer close(m.done)
	defer m.cancel(nil)
	life, stop := context.WithDeadline(ctx, m.until)
	defer stop()
	for n := 0; ; n++ {
		var again bool
		if again, m.err = c.handover(ctx, life, m); !again || n+1 == maxMoveDials || !m.dialAgain(m.err) {
			return
		}
		_, floor := judge(m.err, false)
		if !sleep(life, c.opts.backoff(n, floor)) {
			return
		}
	}
}

// dialAgain says whether the next dial may lead to another node, or to one that
// has room by then. Where the offer leads to the origin that we are on, or is for any
// node, that is several nodes' address, of which one that cannot take us, or has just
// gone, is not the last. Any other is one node's: whoever offers it knows of more, once
// refused.
func (m *move) dialAgain(err error) bool {
	if Is(err, wire.SameNode) {
		return true
	}
	if !sameOrigin(m.offer.URL, m.from.url) && !forAnyone(m.offer.Token) {
		return false
	}
	if Is(err, wire.Capacity) {
		return true
	}
	var h *HTTPError
	if !errors.As(err, &h) {
		return false
	}
	switch h.Status {
	case http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// handover is one try. The frame goes out within the offer's life; its answer
// may come later, until ctx ends. A nil error says that switched has run; with
// another, again says whether there may be a next try.
func (c *Client) handover(ctx, life context.Context, m *move) (again bool, err error) {
	c.mu.Lock()
	m.positions = nil
	c.mu.Unlock()
	dialling, stop := context.WithTimeout(life, redirect.DialWithin)
	k, err := dial(dialling, &c.opts, m.offer.URL, c.notice, c.over)
	stop()
	if err != nil {
		return true, err
	}
	c.settleJoins(life, m)

	c.mu.Lock()
	if err = context.Cause(life); err == nil && !c.at.Ask(m.offer.ID, time.Now()) {
		err = context.DeadlineExceeded // the same, a moment before the timer
	}
	if err == nil {
		m.positions, m.left = c.positionsLocked(), nil
		fit(m.positions, c.session.Limits.FrameBytes-len(m.offer.Token))
	}
	c.mu.Unlock()
	if err == nil {
		answering, stop := context.WithTimeout(ctx, redirect.AnswerWithin)
		defer stop()
		h := wire.Handover{ID: m.offer.ID, Token: m.offer.Token, Positions: m.positions, Caps: c.opts.caps()}
		err = k.introduce(answering, "handover", h, func(res jsontext.Value) error { return c.switched(m, k, res) })
	}
	c.mu.Lock()
	m.holding = false
	again = c.at.Unanswered(m.offer.ID)
	done := m.to == k // whatever came after: it is run that looks after k now
	c.mu.Unlock()
	if done {
		return false, nil
	}
	c.wakeRun() // for the joins
	c.drop(k)
	<-k.done
	return again, err
}

// settleJoins keeps new joins back, and waits for those under way: of a room
// that handover does not name, the new node would not know what we have seen.
func (c *Client) settleJoins(ctx context.Context, m *move) {
	c.mu.Lock()
	m.holding = true
	var joins []*request
	for _, r := range c.requests {
		if r.joins && r.inflight {
			joins = append(joins, r)
		}
	}
	c.mu.Unlock()
	ctx, stop := context.WithTimeout(ctx, joinWait)
	defer stop()
	for _, r := range joins {
		select {
		case <-r.done:
		case <-ctx.Done():
		}
	}
}

// switched takes the answer to handover, in k's reader: from here on k has the
// session, and the old socket is read until it ends.
func (c *Client) switched(m *move, k *conn, res jsontext.Value) error {
	var s wire.Session
	if err := json.Unmarshal(res, &s); err != nil {
		return fmt.Errorf("read the session object: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case s.Session != c.session.Session:
		return errors.New("the answer is of another session")
	case s.Gen < c.session.Gen:
		return errOldGen
	case !c.at.Answered(m.offer.ID):
		return errors.New("no longer waited for")
	}
	k.pipe.setIdle(idle(&s))
	m.to, m.holding = k, false
	m.nodes, m.took = [2]string{c.session.Node, s.Node}, time.Since(m.since)
	m.from.epochs, k.epochs = make(map[string]string), make(map[string]string)
	for name, r := range c.rooms {
		m.from.epochs[name] = r.pos.Epoch
		r.line.recall()
	}
	s.Secret = ""
	c.session, c.conn = s, k
	for _, r := range s.Rooms {
		k.epochs[r.Room] = r.Epoch
	}
	c.resumedLocked(s.Rooms, m)
	c.attachedLocked(k, &s)
	c.pumpLocked()
	// Not repeated: the old node looks for itself when it hears nothing.
	if frame, err := appendCall(nil, "handover.done", wire.HandoverDone{ID: m.offer.ID}); err == nil {
		k.call(frame, func(jsontext.Value, error) {})
	}
	return nil
}

// lost notes that k, which the session was on, has ended; m is the redirect that
// leads away from it, if one does.
func (c *Client) lost(m *move, k *conn) {
	closed, _ := k.why()
	c.mu.Lock()
	defer c.mu.Unlock()
	if m == nil || m.to == nil {
		c.at.Lost(afterClose(closed.Code) != again)
		c.giveUpLocked(closed)
	}
}

// giveUpLocked stops what the client no longer follows.
func (c *Client) giveUpLocked(cause error) {
	if c.moving != nil && !c.at.Follows() {
		c.moving.cancel(cause)
	}
}

// settleMove ends a redirect. True says that it has brought another socket.
func (c *Client) settleMove(m *move) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.moving = nil
	if m.to != nil {
		c.opts.Logger.Info("session redirected", "session", c.session.Session, "from", m.nodes[0], "node", m.nodes[1],
			"reason", m.offer.Reason, "took", m.took)
		return true
	}
	c.opts.Logger.Info("redirect came to nothing", "error", m.err)
	if c.at.Failed(m.offer.ID, time.Now()) {
		c.refuseLocked(m.from, m.offer.ID, m.refusal())
	}
	return false
}

// refusal is the word for why the last try has failed.
func (m *move) refusal() string {
	var w *wire.Error
	switch {
	case errors.As(m.err, &w) && w.Reason() != "":
		return string(w.Reason())
	case m.positions != nil:
		return wire.RefusedClosed
	}
	return wire.RefusedDial
}

func (m *move) redirected() Redirected {
	return Redirected{From: m.nodes[0], To: m.nodes[1], Reason: m.offer.Reason, Took: m.took}
}

// holds says whether joins have to wait.
func (m *move) holds() bool { return m != nil && m.holding }

// noteLeft remembers that the old socket has told of our leaving a room.
func (m *move) noteLeft(room string, at wire.Position) {
	if m != nil && m.to == nil {
		if m.left == nil {
			m.left = make(map[string]wire.Position)
		}
		m.left[room] = at
	}
}

// hasLeft says whether the answer was written before we were put out of a room,
// of which we know by the old socket.
func (m *move) hasLeft(s *wire.SessionRoom) bool {
	if m == nil {
		return false
	}
	at, ok := m.left[s.Room]
	return ok && at.Epoch == s.Epoch && s.Seq < at.Seq
}

// hasPassed says whether nothing is missing in a room that the new node could
// not recover: the old socket had delivered all that there was. A head below
// what handover named is of a log that was rolled back.
func (m *move) hasPassed(at wire.Position, s *wire.SessionRoom) bool {
	if m == nil || at.Epoch != s.Epoch || at.Seq < s.Seq {
		return false
	}
	told, ok := m.positions[s.Room]
	return !ok || told.Epoch != s.Epoch || told.Seq <= s.Seq
}

// silence says that the old socket's order is no longer the room's.
func (m *move) silence(room string) {
	if m != nil {
		m.from.epochs[room] = noEpoch
	}
}
