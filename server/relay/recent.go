package relay

import (
	"slices"

	"godwit/server/hub"
	"godwit/wire"
)

const (
	// recentMax is how many events a room remembers while somebody catches up,
	// so that the joint of replay and live needs no further read.
	recentMax = 512
	// recentBytes bounds the same in bytes of data.
	recentBytes = 256 << 10
)

// recent is what was delivered of late, in that order, while somebody holds it. The
// entries among it have no hole. Ephemeral events are in no log: who was in
// when they were sent, but had no seat yet, has them from here.
type recent struct {
	holds  int
	events []remembered
	bytes  int
	passed uint64 // ephemeral events that were remembered, ever
}

type remembered struct {
	*wire.RoomEvent
	// Of an ephemeral event: the newest entry that was known when it came, and how
	// many such events came before it.
	behind, nth uint64
}

// keep remembers an event; of an ephemeral one, what it came behind.
func (r *recent) keep(ev *wire.RoomEvent, behind uint64) {
	if r.holds == 0 {
		return
	}
	r.events = append(r.events, remembered{ev, behind, r.passed})
	r.bytes += len(ev.Data)
	if ev.Seq == 0 {
		r.passed++
	}
	for len(r.events) > recentMax || r.bytes > recentBytes && len(r.events) > 1 {
		r.bytes -= len(r.events[0].Data)
		r.events[0] = remembered{}
		r.events = r.events[1:]
	}
}

// has says whether an entry is at hand, and so are all that were delivered after it.
func (r *recent) has(seq uint64) bool {
	return slices.ContainsFunc(r.events, func(e remembered) bool { return e.Seq == seq })
}

func (r *recent) forget() { r.events, r.bytes = nil, 0 }

// Hold keeps what is delivered from here on at hand for a seat, until Release.
func (rm *Room) Hold(seat *hub.Seat) {
	rm.mu.Lock()
	defer rm.mu.Unlock()
	rm.recent.holds++
	seat.Held = rm.recent.passed
}

// Release ends Hold.
func (rm *Room) Release() {
	rm.mu.Lock()
	defer rm.mu.Unlock()
	if rm.recent.holds--; rm.recent.holds == 0 {
		rm.recent.forget()
	}
}

// catchUp gives a member that has sat down what is at hand of what it has not had:
// the entries after its position, and the ephemeral events that came while the room was
// held for it, and behind the entry that was the head when it came in. Called with
// mu held.
func (rm *Room) catchUp(seat *hub.Seat, head uint64) {
	for _, e := range rm.recent.events {
		if e.Seq == 0 && (e.nth < seat.Held || e.behind < head) {
			continue
		}
		told, expelled := seat.Deliver(seat.Epoch, e.RoomEvent)
		if told {
			rm.relay.Stats.Told.Add(1)
		}
		if expelled {
			rm.seats.Remove(seat)
			rm.expelLater([]*hub.Seat{seat})
		}
	}
}
