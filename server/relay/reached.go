package relay

import (
	"slices"

	"godwit/rules/order"
)

// reach is somebody who waits until the room is so far.
type reach struct {
	seq  uint64
	done chan struct{} // closed when it is, or its order is over
}

// Reached is closed when the node has delivered what the room had up to its head,
// as it was read from the store once the room was Ready: the Roster knows of each
// join and leave up to there. Where the node has no order yet, it begins at the
// head. It is closed, too, when the order is another one: then all is read again.
func (rm *Room) Reached(epoch string, head uint64) <-chan struct{} {
	rm.mu.Lock()
	defer rm.mu.Unlock()
	if rm.track.State() == order.Starting && !rm.resetting {
		rm.begin(epoch, head)
	}
	done := make(chan struct{})
	have, now := rm.track.Position()
	if rm.resetting || have != epoch || now >= head {
		close(done)
		return done
	}
	rm.reaches = append(rm.reaches, reach{head, done})
	return done
}

// reached ends the wait of those who waited for the position. Called with mu held.
func (rm *Room) reached() {
	if len(rm.reaches) == 0 {
		return
	}
	_, now := rm.track.Position()
	rm.reaches = slices.DeleteFunc(rm.reaches, func(r reach) bool {
		if !rm.resetting && now < r.seq {
			return false
		}
		close(r.done)
		return true
	})
}
