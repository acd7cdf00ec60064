// Package measure counts and times what happens in a node, for whoever runs it.
//
// It owns the numbers and how they are gathered without a lock and without
// memory: what it is asked for on a message's way is a few atomic additions. It
// knows nothing of what the numbers mean, of their names, or of how they are
// shown: each package keeps its own, and handlers/metrics shows all of them.
package measure

import (
	"slices"
	"sync/atomic"
	"time"
)

// Bounds are the upper ends of a Histogram's buckets. From what a node does by
// itself up to what a client waits for.
var Bounds = [...]time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second,
}

// Histogram is how long something took. The zero value is empty.
type Histogram struct {
	buckets [len(Bounds) + 1]atomic.Uint64 // each alone; the last has no bound
	sum     atomic.Int64                   // ns
}

// Observe adds one.
func (h *Histogram) Observe(d time.Duration) {
	i := 0
	for i < len(Bounds) && d > Bounds[i] {
		i++
	}
	h.buckets[i].Add(1)
	h.sum.Add(int64(d))
}

// Reading is a Histogram at one moment: how many took no longer than each of the
// Bounds, how many there are, and how long they took together.
type Reading struct {
	Within [len(Bounds)]uint64
	Count  uint64
	Sum    time.Duration
}

// Read reads it. What is observed meanwhile may be in the count and not in the sum.
func (h *Histogram) Read() (r Reading) {
	for i := range h.buckets {
		r.Count += h.buckets[i].Load()
		if i < len(r.Within) {
			r.Within[i] = r.Count
		}
	}
	r.Sum = time.Duration(h.sum.Load())
	return r
}

// Other is where a Set counts what it was not made for.
const Other = "other"

// Set counts by a word, out of a few that it was made for: what clients say
// never makes a new one.
type Set struct {
	words  []string
	counts map[string]*atomic.Uint64 // not changed after New
}

// NewSet makes a Set of words, and Other.
func NewSet(words ...string) *Set {
	s := &Set{words: append(slices.Clone(words), Other), counts: make(map[string]*atomic.Uint64)}
	for _, w := range s.words {
		s.counts[w] = new(atomic.Uint64)
	}
	return s
}

// Add counts one.
func (s *Set) Add(word string) {
	n := s.counts[word]
	if n == nil {
		n = s.counts[Other]
	}
	n.Add(1)
}

// Read calls f with every word, in the order of New, and how often it was.
func (s *Set) Read(f func(word string, n uint64)) {
	for _, w := range s.words {
		f(w, s.counts[w].Load())
	}
}
