package main

import (
	"math/bits"
	"sync"
	"time"
)

const (
	spreadParts = 32 // of each power of two: a value is told within 3%
	spreadUnit  = time.Microsecond
)

// spread is how durations are spread, in memory that does not grow with them.
type spread struct {
	mu     sync.Mutex
	parts  [65 * spreadParts]uint64 // guarded by mu
	n, sum uint64                   // guarded by mu: durations, and their weights
	max    time.Duration            // guarded by mu
}

// add counts a duration, with a weight.
func (s *spread) add(d time.Duration, weight uint64) {
	d = max(d, 0)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts[spreadPart(uint64(d/spreadUnit))] += weight
	s.n++
	s.sum += weight
	s.max = max(s.max, d)
}

// spreadPart is where a value is counted: small ones by themselves, others by
// their highest bits.
func spreadPart(v uint64) int {
	if v < 2*spreadParts {
		return int(v)
	}
	shift := bits.Len64(v) - bits.Len64(2*spreadParts-1)
	return shift*spreadParts + int(v>>shift)
}

// spreadTop is the largest value that is counted there.
func spreadTop(part int) uint64 {
	if part < 2*spreadParts {
		return uint64(part)
	}
	shift := part/spreadParts - 1
	return (uint64(part-shift*spreadParts)+1)<<shift - 1
}

// quantiles are what a table shows of a spread.
type quantiles struct {
	Count uint64  `json:"count"`
	P50   float64 `json:"p50_ms"`
	P99   float64 `json:"p99_ms"`
	Max   float64 `json:"max_ms"`
}

func (s *spread) quantiles() quantiles {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := func(share float64) float64 {
		rest := uint64(share * float64(s.sum))
		for part, n := range s.parts {
			if n > rest {
				return ms(min(time.Duration(spreadTop(part))*spreadUnit, s.max))
			}
			rest -= n
		}
		return ms(s.max)
	}
	return quantiles{Count: s.n, P50: at(0.50), P99: at(0.99), Max: ms(s.max)}
}

// ms is a duration in milliseconds, to the hundredth.
func ms(d time.Duration) float64 {
	return float64(d.Round(10*time.Microsecond)) / float64(time.Millisecond)
}
