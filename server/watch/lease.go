package watch

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"godwit/server/wait"
	"godwit/store"
)

// Lease keeps a node alive in the eyes of the fleet, and tells the node when
// it is not sure to be.
//
//	         renewed              not renewed for 0.9 lease
//	joining ---------> held -----------------------------> fenced
//	                    ^                                    | renewed, and each
//	                    +------------------------------------+ session looked at
type Lease struct {
	store  *store.Store
	ttl    time.Duration
	record func() store.Node
	log    *slog.Logger
	// whole registers again what a wiped store lost; reclaim looks at each
	// session after the lease was over.
	whole   func(context.Context) error
	reclaim func(context.Context) error
	kick    chan struct{} // cap 1

	until atomic.Int64 // unix ns: writes are allowed before it; 0: never held
	good  atomic.Int64 // unix ns since when every renewal succeeded; 0: the last failed

	skewed bool // owned by Run: the clock was far from the store's

	held   atomic.Bool // once: from then on the record may say ready
	once   sync.Once
	joined chan struct{}
}

// NewLease makes the duty; record is the node's record as it is now.
func NewLease(st *store.Store, ttl time.Duration, record func() store.Node, whole, reclaim func(context.Context) error, log *slog.Logger) *Lease {
	return &Lease{
		store: st, ttl: ttl, record: record, whole: whole, reclaim: reclaim, log: log,
		kick: make(chan struct{}, 1), joined: make(chan struct{}),
	}
}

// TTL is the lease's length.
func (l *Lease) TTL() time.Duration { return l.ttl }

// Held says whether the lease has ever been held.
func (l *Lease) Held() bool { return l.held.Load() }

// Joined is closed when the lease is held for the first time, and the fleet has
// been told so.
func (l *Lease) Joined() <-chan struct{} { return l.joined }

// Fenced says that the lease is over, or about to be: nothing may be written.
func (l *Lease) Fenced(now time.Time) bool { return now.UnixNano() >= l.until.Load() }

// Reachable says whether the store answered the last renewal.
func (l *Lease) Reachable() bool { return l.good.Load() != 0 }

// Settled says whether the store has been good for one full lease.
func (l *Lease) Settled(now time.Time) bool {
	good := l.good.Load()
	return good != 0 && now.UnixNano()-good >= int64(l.ttl)
}

// Kick renews now, because the node's record changed.
func (l *Lease) Kick() {
	wait.Ring(l.kick)
}

// Run renews until ctx ends.
func (l *Lease) Run(ctx context.Context) error {
	every := l.ttl / 3
	for {
		wait := every
		if err := l.renew(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if l.good.Swap(0) != 0 {
				l.log.Warn("lease not renewed", "error", err)
			}
			wait = min(every, 250*time.Millisecond)
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-l.kick:
		case <-t.C:
		}
		t.Stop()
	}
}

func (l *Lease) renew(ctx context.Context) error {
	// Counted from before the attempt, so that the node ends it first.
	start := time.Now()
	if err := l.whole(ctx); err != nil {
		return err
	}
	if err := l.store.Renew(ctx, l.record()); err != nil {
		return err
	}
	l.compare(l.store.Ahead())
	l.good.CompareAndSwap(0, start.UnixNano())
	if held := l.until.Load(); held != 0 && start.UnixNano() >= held {
		l.log.Warn("lease was over", "for", start.Sub(time.Unix(0, held)).Round(time.Millisecond).String())
		if err := l.reclaim(ctx); err != nil {
			return err
		}
	}
	l.until.Store(start.Add(l.ttl - l.ttl/10).UnixNano())
	if l.held.CompareAndSwap(false, true) {
		return l.renew(ctx) // the record said joining
	}
	l.once.Do(func() { close(l.joined) })
	return nil
}

// clockSlack is how far a node's clock may be from the store's before somebody
// should know: what nodes compare is by the store's, but logs are not.
const clockSlack = time.Second

// compare warns, once, of a clock that is far from the store's.
func (l *Lease) compare(ahead time.Duration) {
	skewed := ahead.Abs() > clockSlack
	if skewed && !l.skewed {
		l.log.Warn("this node's clock is not the store's", "store_ahead", ahead.Round(time.Millisecond).String())
	}
	l.skewed = skewed
}
