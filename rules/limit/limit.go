// Package limit decides how often something may happen: a token bucket, as a
// value, that is told the time. It keeps no clock, no goroutine and no lock;
// whoever owns a Bucket does.
package limit

import (
	"math"
	"time"
)

// slowest is the longest wait for one token; a smaller rate counts as this one.
const slowest = 24 * time.Hour

// Bucket holds up to burst tokens and gains rate of them a second. It is kept
// as the moment up to which time has been spent: each token costs one interval
// of it, and nobody may spend the future. Whole nanoseconds, so nothing drifts.
type Bucket struct {
	interval time.Duration // what one token costs; rounded up, so never more than rate
	depth    time.Duration // what a full bucket is worth
	spent    time.Time
}

// New is a full bucket. A burst below 1 counts as 1.
func New(rate float64, burst int, now time.Time) Bucket {
	interval := slowest
	if per := math.Ceil(float64(time.Second) / rate); per > 0 && per < float64(slowest) {
		interval = time.Duration(per)
	}
	burst = max(burst, 1)
	// A depth past this many tokens would not fit a Duration; it is years of waiting.
	burst = min(burst, int(math.MaxInt64/4/int64(interval)))
	depth := interval * time.Duration(burst)
	return Bucket{interval: interval, depth: depth, spent: now.Add(-depth)}
}

// Take takes one token. Without one it says how long until there is, and takes
// nothing. A clock that goes back gives no token twice.
func (b *Bucket) Take(now time.Time) (ok bool, retryAfter time.Duration) {
	if full := now.Add(-b.depth); b.spent.Before(full) {
		b.spent = full
	}
	next := b.spent.Add(b.interval)
	if wait := next.Sub(now); wait > 0 {
		return false, wait
	}
	b.spent = next
	return true, 0
}
