package limit

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func TestBucket_BurstThenRate(t *testing.T) {
	now := epoch
	b := New(10, 3, now)
	for i := range 3 {
		if ok, _ := b.Take(now); !ok {
			t.Fatalf("token %d of the burst was refused", i+1)
		}
	}
	ok, after := b.Take(now)
	if ok || after != 100*time.Millisecond {
		t.Fatalf("past the burst: ok %t, retry after %v; want false, 100ms", ok, after)
	}
	if ok, after = b.Take(now.Add(after - 1)); ok || after != 1 {
		t.Fatalf("1 ns early: ok %t, retry after %v; want false, 1ns", ok, after)
	}
	if ok, _ = b.Take(now.Add(100 * time.Millisecond)); !ok {
		t.Fatal("refused at the time it named")
	}
	if ok, _ = b.Take(now.Add(100 * time.Millisecond)); ok {
		t.Fatal("one interval gave two tokens")
	}
}

func TestBucket_LongRestGivesNoMoreThanTheBurst(t *testing.T) {
	b := New(1000, 5, epoch)
	now := epoch.Add(time.Hour)
	n := 0
	for range 100 {
		if ok, _ := b.Take(now); ok {
			n++
		}
	}
	if n != 5 {
		t.Fatalf("took %d after an hour, want 5", n)
	}
}

func TestBucket_ClockGoingBackGivesNothing(t *testing.T) {
	b := New(1, 1, epoch)
	b.Take(epoch)
	if ok, _ := b.Take(epoch.Add(-time.Hour)); ok {
		t.Fatal("a clock that went back gave a token")
	}
}

func TestBucket_NeverMoreThanBurstAndRateInAnyWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Float64Range(0.5, 5000).Draw(t, "rate")
		burst := rapid.IntRange(1, 50).Draw(t, "burst")
		waits := rapid.SliceOfN(rapid.Int64Range(0, int64(20*time.Millisecond)), 1, 300).Draw(t, "waits")
		b := New(rate, burst, epoch)
		now := epoch
		var taken []time.Time
		for _, w := range waits {
			now = now.Add(time.Duration(w))
			ok, after := b.Take(now)
			if ok {
				taken = append(taken, now)
			} else if after <= 0 {
				t.Fatalf("refused with retry after %v", after)
			}
		}
		for i, from := range taken {
			for j := i; j < len(taken); j++ {
				most := float64(burst) + rate*taken[j].Sub(from).Seconds()
				if n := j - i + 1; float64(n) > most+1e-6 {
					t.Fatalf("%d tokens in %v, at most %.3f", n, taken[j].Sub(from), most)
				}
			}
		}
	})
}

func TestBucket_WhoWaitsAsToldIsServed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := New(rapid.Float64Range(0.001, 1e9).Draw(t, "rate"), rapid.IntRange(1, 10).Draw(t, "burst"), epoch)
		now := epoch
		for range 30 {
			ok, after := b.Take(now)
			if !ok {
				now = now.Add(after)
				if ok, after = b.Take(now); !ok {
					t.Fatalf("refused after the wait, told %v more", after)
				}
			}
		}
	})
}

func TestNew_OddArgumentsStillLimit(t *testing.T) {
	for _, rate := range []float64{0, -1, math.NaN(), math.Inf(1), math.Inf(-1), 1e-12} {
		for _, burst := range []int{-1, 0, 1, math.MaxInt} {
			b := New(rate, burst, epoch)
			if ok, _ := b.Take(epoch); !ok {
				t.Errorf("New(%v, %d): the first token was refused", rate, burst)
			}
			if burst < 2 {
				if ok, after := b.Take(epoch); ok || after <= 0 {
					t.Errorf("New(%v, %d): second token: ok %t after %v", rate, burst, ok, after)
				}
			}
		}
	}
}
