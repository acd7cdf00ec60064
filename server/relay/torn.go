package relay

import (
	"slices"

	"godwit/rules/order"
	"godwit/server/hub"
	"godwit/store"
)

// A failover may lose entries that were delivered here, and who has not heard
// them writes others in their place. Seqs do not show that, where one follows that
// is next: the time of the newest entry delivered does, held against the log's.
// Until that was done, what is heard is taken for news of the log alone, and read
// from there with the entry before it.

// begin starts the order at a position. Called with mu held.
func (rm *Room) begin(epoch string, head uint64) {
	rm.ts, rm.trusted = 0, rm.relay.era.Load()
	if rm.early.Epoch == epoch && rm.early.Seq == head {
		rm.ts = rm.early.TS
	}
	rm.early = store.Known{}
	rm.expelLater(rm.apply(rm.track.Start(epoch, head)))
}

// sound says whether an entry may be delivered as it was heard, if it is next.
// Called with mu held.
func (rm *Room) sound(m store.Message, whole bool) bool {
	if rm.track.State() == order.Starting {
		if m.Head >= rm.early.Seq || m.Epoch != rm.early.Epoch {
			rm.early = store.Known{Epoch: m.Epoch, Seq: m.Head, TS: m.Entry.TS}
		}
		return whole
	}
	if rm.replaced(m) {
		rm.doubted = rm.relay.Suspect() // the log tells which it is
	}
	if !whole || rm.trusted < max(rm.doubted, rm.relay.anew.Load()) {
		return false
	}
	if epoch, head := rm.track.Position(); rm.ts == 0 && m.Epoch == epoch && m.Head == head {
		rm.ts = m.Entry.TS // of the one at which the order began
	}
	return true
}

// behind says that a message is of the epoch that the last reset has left: as a
// rule it was only late. Called with mu held.
func (rm *Room) behind(m store.Message) bool {
	epoch, _ := rm.track.Position()
	return rm.left != "" && m.Epoch == rm.left && m.Epoch != epoch && rm.track.State() != order.Starting
}

// replaced says that an entry may stand where the node has delivered another: it
// has another time, or is later than a newer one. A failover lost that one, and
// this one's writer did not know of it; or the store's clock was set back, and it is
// the same once more. Called with mu held.
func (rm *Room) replaced(m store.Message) bool {
	epoch, head := rm.track.Position()
	switch {
	case m.Epoch != epoch || rm.ts == 0:
		return false
	case m.Head == head:
		return m.Entry.TS != rm.ts
	default:
		return m.Head < head && m.Entry.TS > rm.ts
	}
}

// torn says that a part of the log is of another order than what was delivered.
// Called with mu held.
func (rm *Room) torn(page store.Page) bool {
	epoch, head := rm.track.Position()
	return page.Epoch != epoch || rm.ts != 0 && slices.ContainsFunc(page.Entries, func(e store.Entry) bool {
		return e.Seq == head && e.TS != rm.ts
	})
}

// compare holds the room's position, known, against the log's head, as both were
// in an era.
func (rm *Room) compare(era uint64, known store.Known, head store.Head) {
	var out []*hub.Seat
	rm.mu.Lock()
	defer func() {
		rm.mu.Unlock()
		rm.expel(out)
	}()
	if rm.track.State() == order.Starting {
		return // nobody sits here yet, or a reset is under way
	}
	epoch, at := rm.track.Position()
	switch {
	case epoch != known.Epoch:
		// It went on while the log was read; the next round compares again.
	case head.Epoch != epoch, head.Seq < known.Seq, head.TS != 0 && known.TS != 0 && head.TS != known.TS:
		rm.cut = true
		rm.resetFrom(known) // what came since then may be of the other order
	default:
		rm.trusted = era
		if rm.ts == 0 && at == known.Seq {
			rm.ts = head.TS
		}
		out = rm.apply(rm.track.Announced(head.Epoch, head.Seq))
	}
}
