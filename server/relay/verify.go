package relay

import (
	"context"
	"slices"
	"sync"
	"time"

	"godwit/store"
)

// verifyLoop has the heads of all rooms compared with the log, once in a while and
// when it is rung for. Those that a part of the store did not tell are asked for
// again, and they alone.
func (r *Relay) verifyLoop(ctx context.Context) {
	slow := time.NewTicker(verifyEvery)
	defer slow.Stop()
	var left []*Room
	for {
		var again <-chan time.Time
		if len(left) > 0 {
			again = time.After(retryEvery)
		}
		select {
		case <-ctx.Done():
			return
		case <-slow.C:
			left = r.all()
		case <-r.verify:
			left = r.all()
		case <-again:
		}
		if left = r.compare(ctx, left); len(left) == 0 {
			r.Stats.Verified.Add(1)
		}
	}
}

func (r *Relay) all() []*Room {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*Room, 0, len(r.rooms))
	for _, rm := range r.rooms {
		all = append(all, rm)
	}
	return all
}

// compare compares the heads of rooms with the log, and is those that it could not.
// The parts of the store are asked at once: one that does not answer holds up its
// own rooms alone.
func (r *Relay) compare(ctx context.Context, rooms []*Room) (left []*Room) {
	era := r.era.Load()
	parts := make([][]*Room, len(r.jobs))
	for _, rm := range rooms {
		if rm.Open() {
			at := r.store.Part(rm.name)
			parts[at] = append(parts[at], rm)
		}
	}
	lefts, errs := make([][]*Room, len(parts)), make([]error, len(parts))
	var each sync.WaitGroup
	for i, part := range parts {
		if len(part) > 0 {
			each.Go(func() { lefts[i], errs[i] = r.comparePart(ctx, era, part) })
		}
	}
	each.Wait()
	for i := range parts {
		if left = append(left, lefts[i]...); errs[i] != nil {
			r.log.Warn("heads not compared", "rooms", len(lefts[i]), "error", errs[i])
		}
	}
	return left
}

// comparePart is compare for rooms of one part. Where it tells of none, it is not
// asked for more.
func (r *Relay) comparePart(ctx context.Context, era uint64, rooms []*Room) (left []*Room, failed error) {
	for some := range slices.Chunk(rooms, verifyChunk) {
		if failed != nil && len(left) >= verifyChunk {
			left = append(left, some...)
			continue
		}
		names, known := make([]string, len(some)), make([]store.Known, len(some))
		for i, rm := range some {
			names[i], known[i] = rm.name, rm.position()
		}
		heads, errs := r.store.Heads(ctx, names, known)
		for i, rm := range some {
			if errs[i] != nil {
				left, failed = append(left, rm), errs[i]
				continue
			}
			rm.compare(era, known[i], heads[i])
		}
	}
	return left, failed
}
