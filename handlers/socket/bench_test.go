package socket

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkFrame is one item as the bytes that are written for it.
func BenchmarkFrame(b *testing.B) {
	for _, size := range []int{100, 1000, 10_000} {
		for _, compress := range []bool{false, true} {
			if compress && size < compressFrom {
				continue
			}
			b.Run(fmt.Sprintf("%dB/deflate=%t", size, compress), func(b *testing.B) {
				o := newOutbox(nil, 0, &Stats{})
				o.compress = compress
				it := text(live, strings.Repeat(`{"user":"ann","data":"words"} `, size/30+1)[:size])
				var buf []byte
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for b.Loop() {
					buf = o.frame(buf[:0], it)
				}
			})
		}
	}
}

// BenchmarkOutbox_Burst is many events that wait while one write is under way:
// what joining them costs for each burst.
func BenchmarkOutbox_Burst(b *testing.B) {
	const burst = 200
	o, g, r := newBox(b, 1<<30)
	it := text(live, strings.Repeat("x", 200))
	b.ReportAllocs()
	for b.Loop() {
		g.gate.Lock()
		for range burst {
			o.put(it)
		}
		g.gate.Unlock()
		for range burst {
			if _, err := r.Discard(len(it.payload) + 4); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(o.stats.FramesOut.Load())/float64(max(1, o.stats.Writes.Load())), "frames/write")
}
