package load

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	lowest   = int64(time.Microsecond)
	highest  = int64(5 * time.Minute)
	exactly  = 3  // decimal digits of a duration that are kept
	tallies  = 16 // so that readers seldom wait for each other
	perMilli = 1e6
)

// Quantiles is how durations were spread.
type Quantiles struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50_ms"`
	P99   float64 `json:"p99_ms"`
	P999  float64 `json:"p999_ms"`
	Max   float64 `json:"max_ms"`
}

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(lowest, highest, exactly) }

// record counts a duration; one that is out of range counts as the end of it.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(int64(d), 0), highest)) // in range
}

func quantiles(h *hdrhistogram.Histogram) Quantiles {
	at := func(percent float64) float64 { return float64(h.ValueAtPercentile(percent)) / perMilli }
	return Quantiles{Count: h.TotalCount(), P50: at(50), P99: at(99), P999: at(99.9), Max: float64(h.Max()) / perMilli}
}

// counts are what clients have counted.
type counts struct {
	frames    int64 // text frames of any kind
	answered  int64 // requests that were accepted
	delivered int64 // messages of the work, or notices where it is about these
	strange   int64 // messages that nobody of the work has sent
	disorder  int64 // events whose seq is not past the one before
}

func (a *counts) add(b counts) {
	a.frames += b.frames
	a.answered += b.answered
	a.delivered += b.delivered
	a.strange += b.strange
	a.disorder += b.disorder
}

func (a counts) since(b counts) counts {
	return counts{
		frames: a.frames - b.frames, answered: a.answered - b.answered, delivered: a.delivered - b.delivered,
		strange: a.strange - b.strange, disorder: a.disorder - b.disorder,
	}
}

// tally is what some of the clients count together.
type tally struct {
	mu      sync.Mutex
	counts  counts                  // guarded by mu
	latency *hdrhistogram.Histogram // guarded by mu
}

// board is the tallies of all.
type board [tallies]tally

func newBoard() *board {
	var b board
	for i := range b {
		b[i].latency = newHistogram()
	}
	return &b
}

// sum is what was counted up to now.
func (b *board) sum() (all counts) {
	for i := range b {
		t := &b[i]
		t.mu.Lock()
		all.add(t.counts)
		t.mu.Unlock()
	}
	return all
}

// reset forgets the durations.
func (b *board) reset() {
	for i := range b {
		t := &b[i]
		t.mu.Lock()
		t.latency.Reset()
		t.mu.Unlock()
	}
}

// latency is the durations since the reset.
func (b *board) latency() Quantiles {
	all := newHistogram()
	for i := range b {
		t := &b[i]
		t.mu.Lock()
		all.Merge(t.latency)
		t.mu.Unlock()
	}
	return quantiles(all)
}
