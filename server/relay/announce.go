package relay

import (
	"context"
	"sync"
	"time"
)

// headlines are the rooms whose newest entry this node wrote, in the order in
// which their heads are due to be said again. A room stands here at most once.
type headlines struct {
	kick chan struct{} // cap 1

	mu  sync.Mutex
	due []headline // guarded by mu, oldest first
}

type headline struct {
	room *Room
	at   time.Time
}

// Wrote says that this node appended seq to the room. If nothing follows for a
// second, the node says the head once more, so that a node that missed this
// very entry learns of it.
func (rm *Room) Wrote(seq uint64) {
	rm.mu.Lock()
	defer rm.mu.Unlock()
	rm.wrote = max(rm.wrote, seq)
	if !rm.announced {
		rm.announced, rm.said = true, rm.wrote
		rm.relay.head.add(rm)
	}
}

func (h *headlines) add(rm *Room) {
	h.mu.Lock()
	h.due = append(h.due, headline{rm, time.Now().Add(quiet)})
	h.mu.Unlock()
	select {
	case h.kick <- struct{}{}:
	default:
	}
}

// next takes the first room whose time has come, or says how long to wait; 0
// is for ever.
func (h *headlines) next(now time.Time) (*Room, time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.due) == 0 {
		h.due = nil
		return nil, 0
	}
	first := h.due[0]
	if wait := first.at.Sub(now); wait > 0 {
		return nil, wait
	}
	h.due = h.due[1:]
	return first.room, 0
}

func (r *Relay) announce(ctx context.Context) {
	for {
		rm, wait := r.head.next(time.Now())
		if rm != nil {
			rm.sayHead(ctx)
			continue
		}
		var due <-chan time.Time
		var t *time.Timer
		if wait > 0 {
			t = time.NewTimer(wait)
			due = t.C
		}
		select {
		case <-ctx.Done():
		case <-due:
		case <-r.head.kick:
		}
		if t != nil {
			t.Stop()
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// sayHead announces the head if this node wrote it and nothing followed.
func (rm *Room) sayHead(ctx context.Context) {
	rm.mu.Lock()
	epoch, head := rm.track.Position()
	seq := rm.wrote
	silent := rm.wrote == rm.said
	rm.said, rm.announced = seq, !silent
	rm.mu.Unlock()
	if !silent {
		rm.relay.head.add(rm) // it wrote again within the second
		return
	}
	if seq < head || epoch == "" {
		return // somebody else wrote the newest entry, and says so
	}
	if err := rm.relay.store.Announce(ctx, rm.name, epoch, seq); err != nil {
		rm.relay.log.Warn("head not announced", "room", rm.name, "error", err)
	}
}
