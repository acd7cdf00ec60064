package store

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"godwit/trace"
)

const (
	// laneCount is how many pipelines may be under way at once. A room has one
	// lane, so its writes keep their order.
	laneCount = 2
	// clusterLanes is that of a Cluster, each with a range of slots: so that with
	// 2, 3, 4, 6, 8 or 12 primaries, as they are made, none has slots of two, and
	// one that is dead holds up nobody else's rooms.
	clusterLanes = 24
	// laneBatch is the most calls of one pipeline: past that, the first waits
	// for the last without a gain.
	laneBatch = 128
	// laneQueue is how many calls may wait for a lane; past that a caller waits
	// for a place, which holds back only its own socket.
	laneQueue = 1024
)

// lane gathers the writes that wait into one pipeline, and has one pipeline
// under way at a time. So the writes of a session to a room never travel in
// two pipelines, which could overtake each other.
type lane struct {
	store *Store
	queue chan *write
	ended chan struct{} // closed by run when it takes no more
	kept  []*write      // owned by run: taken from the queue, laneQueue at most, and before it
}

// write is one call in a lane, or of a message a part of one. done is called
// once, from the lane.
type write struct {
	call     // of a message its script alone
	*message // or nil
	since    time.Time
	span     *trace.Span // nil, but for the few that are followed
	done     func(answer, error)
}

func newLane(s *Store) *lane {
	return &lane{store: s, queue: make(chan *write, laneQueue), ended: make(chan struct{})}
}

func (s *Store) laneCount() int {
	if s.cluster != nil {
		return clusterLanes
	}
	return laneCount
}

func (s *Store) lane(room string) *lane {
	if s.cluster != nil {
		return s.laneAt(keysOfRoom(room).meta())
	}
	return s.lanes[crc16(room)%laneCount]
}

// laneAt is the lane of a key of a Cluster.
func (s *Store) laneAt(key string) *lane { return s.lanes[partOf(key)] }

func partOf(key string) int { return slotOf(key) * clusterLanes / slots }

// Parts is of how many parts the store is, each of which may be away while others
// are not, and Part the one that a room is in.
func (s *Store) Parts() int {
	if s.cluster != nil {
		return clusterLanes
	}
	return 1
}

// Part is the part of the store that has a room.
func (s *Store) Part(room string) int {
	if s.cluster != nil {
		return partOf(keysOfRoom(room).meta())
	}
	return 0
}

// submit hands a write to its lane. done is called exactly once: with the
// script's answer, or with ErrUnavailable when the outcome is unknown or the
// write was not tried.
func (l *lane) submit(ctx context.Context, w *write) {
	w.since = time.Now()
	select {
	case l.queue <- w:
	default:
		t := time.NewTimer(l.store.cfg.Timeout)
		defer t.Stop()
		select {
		case l.queue <- w:
		case <-t.C:
			l.answer(w, nil, unavailable("queue "+w.script.name, context.DeadlineExceeded))
		case <-ctx.Done():
			l.answer(w, nil, unavailable("queue "+w.script.name, context.Cause(ctx)))
		}
	}
	select {
	case <-l.ended: // maybe after the last look at the queue
		l.refuse(errEnded)
	default:
	}
}

var errEnded = errors.New("the store has ended")

// do submits a call and waits for its answer; the caller reads the verdict.
func (l *lane) do(ctx context.Context, c call) (answer, error) {
	type result struct {
		a   answer
		err error
	}
	ch := make(chan result, 1)
	l.submit(ctx, &write{call: c, done: func(a answer, err error) { ch <- result{a, err} }})
	r := <-ch
	return r.a, r.err
}

// run works until ctx ends, then answers what is left as unavailable.
func (l *lane) run(ctx context.Context) {
	batch := make([]*write, 0, laneBatch)
	for {
		n := min(len(l.kept), laneBatch)
		batch = append(batch[:0], l.kept[:n]...)
		l.kept = l.kept[n:]
		if n == 0 {
			select {
			case <-ctx.Done():
				close(l.ended)
				l.refuse(context.Cause(ctx))
				return
			case w := <-l.queue:
				batch = append(batch, w)
			}
		}
		l.flush(ctx, l.gather(batch))
	}
}

// gather takes what waits, and nothing more.
func (l *lane) gather(batch []*write) []*write {
	for len(l.kept) == 0 && len(batch) < laneBatch {
		select {
		case w := <-l.queue:
			batch = append(batch, w)
		default:
			return batch
		}
	}
	return batch
}

func (l *lane) flush(ctx context.Context, batch []*write) {
	groups := l.store.grouped(batch)
	calls := make([]call, len(groups))
	for i, g := range groups {
		calls[i] = g.call
	}
	for _, w := range batch {
		w.span.Happened("pipelined") // until here it waited for the lane
		w.span.Number("godwit.pipeline.calls", int64(len(groups)))
	}
	ctx, cancel := context.WithTimeout(ctx, l.store.cfg.Timeout)
	defer cancel()
	if l.store.cluster != nil {
		l.spread(ctx, groups, calls)
		return
	}
	cmds, err := l.store.pipeline(ctx, l.store.direct, calls)
	if err != nil {
		for _, w := range batch {
			l.answer(w, nil, unavailable("run "+w.script.name, err))
		}
		// Whoever queued behind has waited as long: do not let them wait for
		// a second failure.
		l.refuse(err)
		return
	}
	for i, g := range groups {
		l.settle(g, cmds[i])
	}
}

// spread is flush in a Cluster. Whoever queued behind for a primary that did not
// answer has waited as long.
func (l *lane) spread(ctx context.Context, groups []group, calls []call) {
	c := l.store.cluster
	failed := c.scripts(ctx, calls, l.store.cfg.Wait, func(i int, cmd *redis.Cmd) { l.settle(groups[i], cmd) })
	if len(failed) == 0 {
		return
	}
	for len(l.kept) < laneQueue {
		select {
		case w := <-l.queue:
			l.kept = append(l.kept, w)
			continue
		default:
		}
		break
	}
	l.kept = slices.DeleteFunc(l.kept, func(w *write) bool {
		at, err := c.rdb.MasterForKey(context.WithoutCancel(ctx), w.key())
		if err == nil && !failed[at] {
			return false
		}
		l.answer(w, nil, unavailable("run "+w.script.name, errBehind))
		return true
	})
}

var errBehind = errors.New("what went before it had no answer")

func (l *lane) settle(g group, cmd *redis.Cmd) {
	all, err := read(cmd)
	for i, w := range g.writes {
		var own answer
		why := err
		if why == nil {
			own, why = g.answerOf(i, all)
		}
		l.answer(w, own, unavailable("run "+w.script.name, why))
	}
}

// answer counts how a write went, and says it.
func (l *lane) answer(w *write, a answer, err error) {
	l.store.answered(w.script, w.since, err)
	w.done(a, err)
}

// refuse answers everything that waits.
func (l *lane) refuse(cause error) {
	for {
		select {
		case w := <-l.queue:
			l.answer(w, nil, unavailable("run "+w.script.name, cause))
		default:
			return
		}
	}
}

// Run works the lanes until ctx ends. After that, writes to rooms answer
// ErrUnavailable. Run it once.
func (s *Store) Run(ctx context.Context) error {
	done := make(chan struct{})
	for _, l := range s.lanes {
		go func() {
			defer func() { done <- struct{}{} }()
			l.run(ctx)
		}()
	}
	for range s.lanes {
		<-done
	}
	return nil
}
