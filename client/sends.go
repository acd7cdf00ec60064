package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"godwit/wire"
)

// SendOption says more about one message.
type SendOption func(*message)

type message struct {
	to        wire.To
	kind      *uint8
	ephemeral bool
	once      bool
}

// ToUser addresses every device of that user in the room. With ToClient both
// must match.
func ToUser(user string) SendOption { return func(m *message) { m.to.User = &user } }

// ToClient addresses one device.
func ToClient(id uint32) SendOption { return func(m *message) { m.to.Client = &id } }

// Type sets the message's type, which is passed on and never interpreted.
func Type(t uint8) SendOption { return func(m *message) { m.kind = &t } }

// Ephemeral sends a message that is not stored, has no place in the room's
// order, reaches who is attached now, and is not repeated.
func Ephemeral() SendOption { return func(m *message) { m.ephemeral, m.once = true, true } }

// NoRepeat sends without a number and once: when the answer is lost the error
// is ErrUnsettled, after `unavailable` the server's. It has no order among the
// other sends to the room.
func NoRepeat() SendOption { return func(m *message) { m.once = true } }

// Send appends a message to a room's log and returns its place. data is any
// value that marshals to JSON; a wire.Raw is passed on byte for byte.
//
// Sends to one room take effect in the order of the calls, also when they
// overlap; calls from several goroutines are pipelined. A send is repeated over
// lost connections, `unavailable`, `rate_limited` and `gap` until it is
// answered, and is stored once. A send that the server refuses is a *wire.Error
// in the chain and was not stored.
//
// When ctx ends first: a send that was never written is withdrawn, and the error
// is the cause of ctx. One that was written has taken a place in the count, so
// it stays in the room's queue and is repeated until it is settled, for later
// sends cannot overtake it; the error is then ErrUnsettled with the cause of ctx.
//
// ErrUnsettled without an end of ctx says that the session or the membership
// was gone before the answer came: the send may have been stored and is not
// repeated.
func (c *Client) Send(ctx context.Context, name string, data any, opts ...SendOption) (wire.Sent, error) {
	var m message
	for _, o := range opts {
		o(&m)
	}
	body, size, err := m.body(name, data)
	if err != nil {
		return wire.Sent{}, fmt.Errorf("send to %q: %w", name, err)
	}
	var sent wire.Sent
	if m.once {
		sent, err = c.sendOnce(ctx, body)
	} else {
		sent, err = c.sendCounted(ctx, name, body, size)
	}
	if err != nil {
		return wire.Sent{}, fmt.Errorf("send to %q: %w", name, err)
	}
	return sent, nil
}

// body is the members of the params but cseq, and the size of data.
func (m *message) body(name string, data any) (b []byte, size int, err error) {
	raw, ok := data.(wire.Raw)
	if !ok {
		if raw, err = json.Marshal(data); err != nil {
			return nil, 0, fmt.Errorf("write data as json: %w", err)
		}
	} else if !raw.IsValid() {
		return nil, 0, errors.New("data is not valid json")
	}
	b = make([]byte, 0, 64+len(name)+len(raw))
	b = append(b, `"room":`...)
	if b, err = jsontext.AppendQuote(b, name); err != nil {
		return nil, 0, fmt.Errorf("room name: %w", err)
	}
	b = append(b, `,"data":`...)
	b = append(b, raw...)
	if m.to.User != nil || m.to.Client != nil {
		to, err := json.Marshal(m.to)
		if err != nil {
			return nil, 0, fmt.Errorf("address: %w", err)
		}
		b = append(append(b, `,"to":`...), to...)
	}
	if m.kind != nil {
		b = strconv.AppendUint(append(b, `,"type":`...), uint64(*m.kind), 10)
	}
	if m.ephemeral {
		b = append(b, `,"ephemeral":true`...)
	}
	return b, len(raw), nil
}

// sendFrame is the call's text.
func sendFrame(body []byte, cseq uint64) []byte {
	b := make([]byte, 0, 64+len(body))
	b = append(b, `"method":"room.send","params":{`...)
	b = append(b, body...)
	if cseq != 0 {
		b = strconv.AppendUint(append(b, `,"cseq":`...), cseq, 10)
	}
	return append(b, '}')
}

func (c *Client) sendOnce(ctx context.Context, body []byte) (wire.Sent, error) {
	var sent wire.Sent
	r := ask("room.send", nil, &sent)
	r.frame = func() ([]byte, error) { return sendFrame(body, 0), nil }
	r.once = true
	err := c.do(ctx, r)
	switch {
	case err == nil:
		return sent, nil
	case ctx.Err() != nil && r.tries > 0 && errors.Is(err, context.Cause(ctx)):
		err = fmt.Errorf("%w: %w", ErrUnsettled, err)
	}
	return wire.Sent{}, err // the answer may still write to sent
}

func (c *Client) sendCounted(ctx context.Context, name string, body []byte, size int) (wire.Sent, error) {
	s := &send{body: body, done: make(chan struct{})}
	c.mu.Lock()
	r := c.rooms[name]
	err := c.refusedLocked(ctx)
	switch limit := c.session.Limits.MessageBytes; {
	case err != nil:
	case r == nil || r.leaving > 0:
		err = notMember(name)
	case limit > 0 && size > limit:
		err = wire.Errorf(wire.TooLarge, "data has %d bytes, at most %d are allowed", size, limit)
	case len(r.line.queue) >= MaxUnanswered:
		err = ErrQueueFull
	default:
		err = c.fitsLocked(len(sendFrame(body, 1<<63)))
	}
	if err != nil {
		c.mu.Unlock()
		return wire.Sent{}, err
	}
	r.line.queue = append(r.line.queue, s)
	c.pumpRoomNowLocked(r)
	c.callingLocked()
	c.mu.Unlock()
	defer c.called()

	select {
	case <-s.done:
		return s.sent, s.err
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case s.settled:
		return s.sent, s.err
	case slices.Index(r.line.queue, s) >= r.line.numbered:
		r.line.settle(s, context.Cause(ctx))
		return wire.Sent{}, s.err
	}
	return wire.Sent{}, fmt.Errorf("%w: it is still being repeated: %w", ErrUnsettled, context.Cause(ctx))
}

// pumpRoomLocked writes the sends that may go out now and says when to try again.
func (c *Client) pumpRoomLocked(r *room, now time.Time) (due time.Time) {
	l := &r.line
	if c.conn == nil || !r.member {
		return time.Time{}
	}
	for _, s := range l.take(now) {
		k, try := c.conn, s.try+1
		if !k.call(sendFrame(s.body, s.cseq), func(res jsontext.Value, err error) { c.answeredSend(k, r, s, try, res, err) }) {
			break
		}
		s.try = try
		l.wrote(s)
	}
	if len(l.queue) > 0 && now.Before(l.notBefore) {
		return l.notBefore
	}
	return time.Time{}
}

// pumpRoomNowLocked is pumpRoomLocked outside of run.
func (c *Client) pumpRoomNowLocked(r *room) {
	if due := c.pumpRoomLocked(r, time.Now()); !due.IsZero() {
		c.wakeRun()
	}
}

// answeredSend takes the outcome of one try of s, on k.
func (c *Client) answeredSend(k *conn, r *room, s *send, try int, res jsontext.Value, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := &r.line
	late := try != s.try
	if !late {
		l.back(s)
	}
	var w *wire.Error
	switch {
	case s.settled:
	case err == nil:
		var sent wire.Sent
		l.late(s)
		if err := json.Unmarshal(res, &sent); err != nil {
			l.settle(s, fmt.Errorf("%w: read the answer: %w", ErrUnsettled, err))
			break
		}
		l.accept(s, sent)
	case late:
	case errors.As(err, &w):
		if w.Reason() == wire.Moved {
			c.fencedLocked(k)
		}
		c.refusedSendLocked(l, s, w)
	default: // the socket ended first
		s.open = true
	}
	if r.gone && !s.settled {
		l.settle(s, s.failure(notMember(r.name)))
	}
	c.pumpRoomNowLocked(r)
}

// refusedSendLocked reads the server's error: repeat, or the outcome.
func (c *Client) refusedSendLocked(l *line, s *send, w *wire.Error) {
	now := time.Now()
	switch w.Reason() {
	case wire.Gap:
		l.gap(s, w.Data.Expect)
		if l.rounds > 1 { // the count does not settle: do not spin
			c.pauseLocked(l, now, 0)
		}
	case wire.Unavailable:
		s.open = true
		c.pauseLocked(l, now, retryAfter(w))
	case wire.RateLimited:
		l.slow()
		c.pauseLocked(l, now, retryAfter(w))
	case wire.Moved: // another socket repeats it
		c.pauseLocked(l, now, c.opts.MaxBackoff)
	case wire.NotMember:
		l.refuse(s, s.failure(w))
	default:
		l.refuse(s, w)
	}
}

// pauseLocked keeps a line's next round back, by one wait for all the answers
// of a round.
func (c *Client) pauseLocked(l *line, now time.Time, floor time.Duration) {
	if now.Before(l.notBefore) {
		l.pause(now.Add(floor))
		return
	}
	l.pause(now.Add(c.opts.backoff(l.rounds, floor)))
}

// failure is err, or says that the outcome is not known.
func (s *send) failure(err error) error {
	if s.open || s.inflight {
		return fmt.Errorf("%w: %w", ErrUnsettled, err)
	}
	return err
}
