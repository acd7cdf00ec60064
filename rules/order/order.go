// Package order turns what a node hears of one room, with losses, doubles and
// swaps, into the room's one order.
//
// It decides which entries are next, where there is a hole that must be read
// from the log, and when the order is another one and the room must be reset.
// It does not read the log and knows nobody who listens.
//
//	          Start            hole            Filled
//	Starting -------> Live -----------> Filling -------> Live
//	    ^               |                  |
//	    +---------------+------------------+   another epoch, or a hole that
//	                                           the log no longer has
package order

import "slices"

// MaxPending is how many entries past a hole are kept; what comes after them
// is dropped, and read from the log when the hole is filled.
const MaxPending = 1024

// State is where a track stands.
type State int

// The states of a track.
const (
	Starting State = iota // the position is not known yet; entries wait
	Live                  // the next entry is delivered as it comes
	Filling               // a hole is being read from the log; entries wait
)

// Track is the order of one room as one node knows it. The zero value is
// Starting. It is a value with no lock: its owner guards it.
type Track[T any] struct {
	state   State
	epoch   string
	head    uint64 // last seq delivered
	noticed uint64 // highest seq known to exist
	from    uint64 // start of the hole that is being read
	pending []item[T]

	// While Starting: the highest seq said to exist in the epoch said last.
	ahead      string
	aheadNoted uint64
}

type item[T any] struct {
	epoch string
	seq   uint64
	value T
}

// Step is what follows from one event: deliver these in order; then, if Fill,
// read the log From..To and hand it to Filled; if Reset, the order known so
// far is over: find the room's new position and Start.
type Step[T any] struct {
	Deliver []T
	Fill    bool
	From    uint64
	To      uint64
	Reset   bool
}

// State tells where the track stands.
func (t *Track[T]) State() State { return t.state }

// Position is the epoch and the last seq delivered.
func (t *Track[T]) Position() (epoch string, head uint64) { return t.epoch, t.head }

// Noticed is the newest entry that is known to exist, delivered or not.
func (t *Track[T]) Noticed() (epoch string, seq uint64) {
	if t.state == Starting {
		return t.ahead, t.aheadNoted
	}
	return t.epoch, t.noticed
}

// Start sets the position from which the order goes on.
func (t *Track[T]) Start(epoch string, head uint64) Step[T] {
	t.state, t.epoch, t.head = Live, epoch, head
	t.noticed = head
	if t.ahead == epoch {
		t.noticed = max(head, t.aheadNoted)
	}
	t.ahead, t.aheadNoted = "", 0
	t.pending = slices.DeleteFunc(t.pending, func(i item[T]) bool { return i.epoch != epoch })
	if n := len(t.pending); n > 0 {
		t.noticed = max(t.noticed, t.pending[n-1].seq)
	}
	return t.advance()
}

// Stop forgets the position: entries wait until the next Start.
func (t *Track[T]) Stop() { t.state = Starting }

// Heard is one entry from the fan-out.
func (t *Track[T]) Heard(epoch string, seq uint64, v T) Step[T] {
	if t.state == Starting {
		t.note(epoch, seq)
		t.keep(epoch, seq, v)
		return Step[T]{}
	}
	if epoch != t.epoch {
		t.state = Starting
		t.note(epoch, seq)
		t.keep(epoch, seq, v)
		return Step[T]{Reset: true}
	}
	if seq <= t.head {
		return Step[T]{} // a double
	}
	t.noticed = max(t.noticed, seq)
	if seq == t.head+1 && len(t.pending) == 0 {
		t.head = seq
		step := t.advance()
		step.Deliver = append([]T{v}, step.Deliver...)
		return step
	}
	t.keep(epoch, seq, v)
	return t.advance()
}

// Announced is the head of the room, said without its entry.
func (t *Track[T]) Announced(epoch string, head uint64) Step[T] {
	if t.state == Starting {
		t.note(epoch, head)
		return Step[T]{}
	}
	if epoch != t.epoch {
		t.state = Starting
		t.note(epoch, head)
		return Step[T]{Reset: true}
	}
	t.noticed = max(t.noticed, head) // one said late says nothing new
	return t.advance()
}

// Filled is what the log held of a hole, oldest first, each with its seq. An
// empty or broken answer means that the log no longer has the hole.
func (t *Track[T]) Filled(seqs []uint64, values []T) Step[T] {
	if t.state != Filling {
		return Step[T]{} // the room was reset meanwhile
	}
	t.state = Live
	var out []T
	for i, seq := range seqs {
		if seq <= t.head {
			continue // came by itself meanwhile
		}
		if seq != t.head+1 {
			break
		}
		t.head = seq
		out = append(out, values[i])
	}
	// Only a hole whose start is still missing proves that the log has lost it;
	// one that was partly delivered meanwhile is asked for again.
	if len(out) == 0 && t.gap() && t.head+1 == t.from {
		t.state = Starting
		return Step[T]{Reset: true}
	}
	step := t.advance()
	step.Deliver = append(out, step.Deliver...)
	return step
}

// gap says whether the next entry is known to exist and not at hand.
func (t *Track[T]) gap() bool {
	return t.noticed > t.head && (len(t.pending) == 0 || t.pending[0].seq > t.head+1)
}

// advance delivers what is next and asks for what is missing.
func (t *Track[T]) advance() Step[T] {
	var step Step[T]
	n := 0
	for _, i := range t.pending {
		if i.seq > t.head+1 {
			break
		}
		if i.seq == t.head+1 {
			t.head = i.seq
			step.Deliver = append(step.Deliver, i.value)
		}
		n++
	}
	t.pending = slices.Delete(t.pending, 0, n)
	if len(t.pending) == 0 {
		t.pending = nil // a burst's memory is not kept
	}
	if t.state == Filling || t.head >= t.noticed {
		return step
	}
	t.state = Filling
	t.from = t.head + 1
	step.Fill, step.From, step.To = true, t.from, t.noticed
	if len(t.pending) > 0 {
		step.To = t.pending[0].seq - 1
	}
	return step
}

// note remembers, for the next Start, what is known to exist.
func (t *Track[T]) note(epoch string, seq uint64) {
	if t.ahead != epoch {
		t.ahead, t.aheadNoted = epoch, 0
	}
	t.aheadNoted = max(t.aheadNoted, seq)
}

// keep holds an entry that cannot be delivered yet, in order, once.
func (t *Track[T]) keep(epoch string, seq uint64, v T) {
	at, found := slices.BinarySearchFunc(t.pending, seq, func(i item[T], seq uint64) int {
		switch {
		case i.seq < seq:
			return -1
		case i.seq > seq:
			return 1
		}
		return 0
	})
	if found { // what is heard later is what goes on: the log may have lost the other
		t.pending[at] = item[T]{epoch, seq, v}
		return
	}
	if len(t.pending) >= MaxPending {
		return // it is known to exist: the log has it
	}
	t.pending = slices.Insert(t.pending, at, item[T]{epoch, seq, v})
}
