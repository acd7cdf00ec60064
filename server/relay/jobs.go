package relay

import (
	"context"
	"sync"

	"godwit/server/wait"
)

// jobWorkers is how many jobs of a part of the store are under way at once, and
// jobWorkersOfMany the same where there are many parts.
const (
	jobWorkers       = 8
	jobWorkersOfMany = 2
)

// job is what a room has to ask the store. It says false when the store did not
// answer, and is tried again.
type job func(context.Context) (done bool)

// jobs are those of the rooms of one part of the store, so that a part that does
// not answer holds up nobody else's. One that failed leaves its worker to others;
// of those that failed one at a time is tried, until one succeeds.
type jobs struct {
	kick   chan struct{} // cap: the number of workers
	resume chan struct{} // cap 1

	mu     sync.Mutex
	fresh  []job // guarded by mu; of a room with failed at most a hole, a reset and who is put out
	failed []job // guarded by mu
}

func newJobs(parts int) []*jobs {
	workers := jobWorkers
	if parts > 1 {
		workers = jobWorkersOfMany
	}
	all := make([]*jobs, parts)
	for i := range all {
		all[i] = &jobs{kick: make(chan struct{}, workers), resume: make(chan struct{}, 1)}
	}
	return all
}

// spawn queues a job. Those of one room may run side by side.
func (rm *Room) spawn(j job) {
	rm.relay.jobs[rm.relay.store.Part(rm.name)].add(j)
}

func (q *jobs) add(all ...job) {
	q.mu.Lock()
	q.fresh = append(q.fresh, all...)
	q.mu.Unlock()
	for range min(len(all), cap(q.kick)) {
		wait.Ring(q.kick)
	}
}

func (q *jobs) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.kick:
		}
		for j := take(q, &q.fresh); j != nil && ctx.Err() == nil; j = take(q, &q.fresh) {
			if !j(ctx) {
				q.back(j)
			}
		}
	}
}

// retry tries what has failed.
func (q *jobs) retry(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.resume:
		}
		for wait.Pause(ctx, retryEvery) {
			j := take(q, &q.failed)
			if j == nil {
				break
			}
			if !j(ctx) {
				q.back(j)
				continue
			}
			q.mu.Lock() // the store is back
			others := q.failed
			q.failed = nil
			q.mu.Unlock()
			q.add(others...)
		}
	}
}

// back takes a job that has failed.
func (q *jobs) back(j job) {
	q.mu.Lock()
	q.failed = append(q.failed, j)
	q.mu.Unlock()
	wait.Ring(q.resume)
}

// take takes the first job of a list of q's.
func take(q *jobs, of *[]job) job {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(*of) == 0 {
		*of = nil // a burst's memory is not kept
		return nil
	}
	j := (*of)[0]
	*of = (*of)[1:]
	return j
}
