package store

import (
	"context"
	"strconv"
	"time"
)

// Order is what an operator asks of a node. It stands in the node's record, so
// that it is not lost with the word that announces it.
type Order struct {
	ID     string // a node obeys an id once
	What   string
	Budget time.Duration // of a drain; 0: the node's own
}

// What an order asks. The names are those of Node.Knows.
const (
	OrderDrain = "drain"
	OrderStop  = "stop" // ends a drain: the node takes sockets again
)

// Drain is how a node's last drain goes, as the node tells it.
type Drain struct {
	Order   string // the last one that the node obeyed
	By      string
	State   string
	Budget  time.Duration
	Elapsed time.Duration // since it began; of one that is over: it took
	Moved   int           // handed over
	Left    int           // still attached
	Refused int           // of the offers
	Resumed int           // told bye
	Rate    float64       // sessions a second that go, lately
	ETA     time.Duration // until nobody is left
}

// States of a drain, and who began it.
const (
	DrainRunning = "running"
	DrainDone    = "done"    // nobody is left, or the budget is over; the node stays as it is
	DrainStopped = "stopped" // the node takes sockets again

	ByOperator = "operator"
	BySignal   = "signal" // the process ends after it
)

// Ask writes an order into the record of a node that lives; Tell says so. May
// be repeated.
//
// Errors: ErrGone, ErrUnavailable.
func (s *Store) Ask(ctx context.Context, ref Ref, o Order) error {
	a, err := s.run(ctx, orderScript, []string{ref.leaseKey(), ref.recordKey()}, o.ID, o.What, o.Budget.Milliseconds())
	if err != nil {
		return err
	}
	return verdict(a)
}

// Asked reads the last order to a node; the zero Order when there is none. May
// be repeated.
func (s *Store) Asked(ctx context.Context, ref Ref) (Order, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	f, err := s.rdb.HMGet(ctx, ref.recordKey(), "order", "order_what", "order_budget").Result()
	if err != nil {
		return Order{}, unavailable("read order", err)
	}
	return orderOf(f), nil
}

func orderOf(f []any) Order {
	a := answer(f)
	return Order{ID: a.text(0), What: a.text(1), Budget: millis(a.text(2))}
}

func millis(text string) time.Duration {
	ms, _ := strconv.ParseInt(text, 10, 64) // absent: 0
	return time.Duration(ms) * time.Millisecond
}

// WriteDrain tells how a node's drain goes; it stands as long as the node's
// record. May be repeated.
func (s *Store) WriteDrain(ctx context.Context, ref Ref, d Drain) error {
	_, err := s.run(ctx, progressScript, []string{ref.drainKey()},
		s.recordLife(),
		"order", d.Order, "by", d.By, "state", d.State,
		"budget", d.Budget.Milliseconds(), "elapsed", d.Elapsed.Milliseconds(),
		"moved", d.Moved, "left", d.Left, "refused", d.Refused, "resumed", d.Resumed,
		"rate", strconv.FormatFloat(d.Rate, 'f', 2, 64), "eta", d.ETA.Milliseconds())
	return err
}

// DrainOf reads the last order to a node and how its last drain goes; the zero
// Drain when there is none. May be repeated.
func (s *Store) DrainOf(ctx context.Context, ref Ref) (Order, Drain, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	pipe := s.rdb.Pipeline()
	order := pipe.HMGet(ctx, ref.recordKey(), "order", "order_what", "order_budget")
	drain := pipe.HGetAll(ctx, ref.drainKey())
	if _, err := pipe.Exec(ctx); err != nil {
		return Order{}, Drain{}, unavailable("read drain", err)
	}
	f := drain.Val()
	n := func(field string) int {
		v, _ := strconv.Atoi(f[field]) // absent: 0
		return v
	}
	rate, _ := strconv.ParseFloat(f["rate"], 64)
	return orderOf(order.Val()), Drain{
		Order: f["order"], By: f["by"], State: f["state"],
		Budget: millis(f["budget"]), Elapsed: millis(f["elapsed"]),
		Moved: n("moved"), Left: n("left"), Refused: n("refused"), Resumed: n("resumed"),
		Rate: rate, ETA: millis(f["eta"]),
	}, nil
}
