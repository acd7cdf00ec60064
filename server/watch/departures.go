package watch

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"godwit/server/wait"
	"godwit/store"
)

const (
	departureWorkers = 8
	departureRetry   = 200 * time.Millisecond
)

// Departures brings what became of sessions to the store: detached, or ended.
// It keeps what the store could not be told until it can. It holds at most one
// departure a session.
type Departures struct {
	store *store.Store
	ref   store.Ref
	log   *slog.Logger
	kick  chan struct{} // cap departureWorkers

	mu    sync.Mutex
	queue []departure     // guarded by mu
	busy  int             // guarded by mu: being told right now
	idle  []chan struct{} // guarded by mu: closed when nothing is left
}

type departure struct {
	sid    string
	gen    uint64
	end    bool
	reason string
}

// NewDepartures makes the duty for the node ref.
func NewDepartures(st *store.Store, ref store.Ref, log *slog.Logger) *Departures {
	return &Departures{store: st, ref: ref, log: log, kick: make(chan struct{}, departureWorkers)}
}

// Detach keeps a session for its grace. It does not wait.
func (d *Departures) Detach(sid string, gen uint64) { d.add(departure{sid: sid, gen: gen}) }

// End ends a session now; gen 0 ends it whoever holds it. It does not wait.
func (d *Departures) End(sid string, gen uint64, reason string) {
	d.add(departure{sid: sid, gen: gen, end: true, reason: reason})
}

func (d *Departures) add(dep departure) {
	d.mu.Lock()
	d.queue = append(d.queue, dep)
	d.mu.Unlock()
	wait.Ring(d.kick)
}

// Run works until ctx ends.
func (d *Departures) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for range departureWorkers {
		all.Go(func() { d.work(ctx) })
	}
	all.Wait()
	return nil
}

// Flush waits until every departure is told, or ctx ends.
func (d *Departures) Flush(ctx context.Context) error {
	d.mu.Lock()
	if len(d.queue)+d.busy == 0 {
		d.mu.Unlock()
		return nil
	}
	done := make(chan struct{})
	d.idle = append(d.idle, done)
	d.mu.Unlock()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Len is how many departures the store has not been told of.
func (d *Departures) Len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.queue) + d.busy
}

func (d *Departures) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.kick:
		}
		for {
			dep, ok := d.take()
			if !ok {
				break
			}
			err := d.tell(ctx, dep)
			d.put(dep, errors.Is(err, store.ErrUnavailable))
			if errors.Is(err, store.ErrUnavailable) {
				d.log.Debug("departure waits for the store", "session", dep.sid, "error", err)
				if !wait.Pause(ctx, departureRetry) {
					return
				}
			}
		}
	}
}

func (d *Departures) take() (departure, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.queue) == 0 {
		d.queue = nil
		return departure{}, false
	}
	dep := d.queue[0]
	d.queue = d.queue[1:]
	d.busy++
	return dep, true
}

// put ends the work on a departure, or queues it again.
func (d *Departures) put(dep departure, again bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.busy--
	if again {
		d.queue = append(d.queue, dep)
	}
	if len(d.queue)+d.busy == 0 {
		for _, done := range d.idle {
			close(done)
		}
		d.idle = nil
	}
}

func (d *Departures) tell(ctx context.Context, dep departure) error {
	var err error
	switch {
	case !dep.end:
		err = d.store.Detach(ctx, d.ref, dep.sid, dep.gen)
	case dep.gen == 0:
		err = d.store.End(ctx, dep.sid, store.Always, dep.reason)
	default:
		err = d.store.End(ctx, dep.sid, store.IfOwn(d.ref, dep.gen), dep.reason)
	}
	if err != nil && !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, store.ErrMoved) && !errors.Is(err, store.ErrGone) {
		d.log.Error("departure failed", "session", dep.sid, "error", err)
	}
	return err
}
