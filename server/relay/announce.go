package relay

import (
	"context"
	"sync"
	"time"

	"godwit/rules/order"
	"godwit/server/wait"
	"godwit/store"
)

// headlines are the rooms of a part of the store whose newest entry this node wrote, in
// the order in which their heads are due to be said again, so that a part that does not
// answer holds up nobody else's. A room stands here at most once.
type headlines struct {
	kick chan struct{} // cap 1

	mu  sync.Mutex
	due []headline // guarded by mu, oldest first
}

type headline struct {
	room *Room
	at   time.Time
}

// Wrote says that this node appended the entry at head to the room. If nothing
// follows for a while, the node says the head once more, so that a node that
// missed this very entry learns of it.
func (rm *Room) Wrote(head store.Head) {
	rm.mu.Lock()
	defer rm.mu.Unlock()
	rm.wroteOwn(head)
}

// wroteOwn is Wrote with mu held.
func (rm *Room) wroteOwn(head store.Head) {
	if head.Epoch == rm.wrote.Epoch && head.Seq < rm.wrote.Seq {
		return // answers may come in another order
	}
	rm.wrote = head
	if !rm.announced {
		rm.announced, rm.said = true, head
		rm.headlines().add(rm)
	}
}

func newHeadlines(parts int) []*headlines {
	all := make([]*headlines, parts)
	for i := range all {
		all[i] = &headlines{kick: make(chan struct{}, 1)}
	}
	return all
}

// headlines are those of the room's part.
func (rm *Room) headlines() *headlines { return rm.relay.heads[rm.relay.store.Part(rm.name)] }

func (h *headlines) add(rm *Room) {
	h.mu.Lock()
	h.due = append(h.due, headline{rm, time.Now().Add(quiet)})
	h.mu.Unlock()
	wait.Ring(h.kick)
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

// announce says the heads of a part's rooms until ctx ends.
func (h *headlines) announce(ctx context.Context) {
	for {
		rm, wait := h.next(time.Now())
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
		case <-h.kick:
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
	open := rm.relay.open(rm)
	rm.mu.Lock()
	epoch, head := rm.track.Position()
	starting := rm.track.State() == order.Starting
	wrote := rm.wrote
	// It wrote again meanwhile, or does not know yet which order holds.
	later := wrote != rm.said || starting && open
	rm.said, rm.announced = wrote, later
	rm.mu.Unlock()
	switch {
	case later:
		rm.headlines().add(rm)
		return
	case !starting && (wrote.Epoch != epoch || wrote.Seq < head):
		return // somebody else wrote the newest entry, and says so
	}
	if err := rm.relay.store.Announce(ctx, rm.name, wrote.Epoch, wrote.Seq); err != nil {
		rm.relay.log.Warn("head not announced", "room", rm.name, "error", err)
	}
}
