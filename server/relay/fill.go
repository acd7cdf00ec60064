package relay

import (
	"context"

	"godwit/rules/order"
)

const fillPage = 256

// hole is what a room misses of an epoch, from a seq to another.
type hole struct {
	epoch    string
	from, to uint64
}

// fill reads a hole from the log until there is none, and with it the entry before
// it, by which the log is known to be the one that was delivered. It says false when
// the store did not answer: h is what is left.
func (rm *Room) fill(ctx context.Context, h *hole) (done bool) {
	for {
		page, err := rm.relay.store.Read(ctx, rm.name, max(h.from, 2)-1, h.to, fillPage+1)
		if err != nil {
			rm.relay.log.Warn("hole not filled", "room", rm.name, "error", err)
			return !rm.Open()
		}
		var step order.Step[timed]
		rm.mu.Lock()
		switch now, _ := rm.track.Position(); {
		case now != h.epoch || rm.track.State() != order.Filling: // the room was reset meanwhile
		case rm.torn(page):
			rm.track.Stop()
			step.Reset = true
		default:
			entries := page.Entries
			if len(entries) > 0 && entries[0].Seq < h.from {
				entries = entries[1:]
			}
			seqs, events := make([]uint64, len(entries)), make([]timed, len(entries))
			for i := range entries {
				seqs[i], events[i] = entries[i].Seq, rm.timed(&entries[i], rm.missing, true)
			}
			rm.relay.Stats.Filled.Add(uint64(len(seqs)))
			step = rm.track.Filled(seqs, events)
		}
		rm.cut = rm.cut || step.Reset
		again := step.Fill
		step.Fill = false
		out := rm.apply(step)
		rm.mu.Unlock()
		rm.expel(out)
		if !again {
			return true
		}
		h.from, h.to = step.From, step.To
	}
}
