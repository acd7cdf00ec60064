package store

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"godwit/internal/redistest"
)

// BenchmarkFailover is a primary that ends while 64 rooms talk, and its replica in
// its place: how many messages were answered, and how many of these are not there.
// A replica that lags has been given nothing for that long when the primary ends.
func BenchmarkFailover(b *testing.B) {
	for _, c := range []struct {
		wait int
		lag  time.Duration
	}{{0, 0}, {0, 200 * time.Millisecond}, {1, 0}, {1, 200 * time.Millisecond}} {
		b.Run(fmt.Sprintf("wait=%d/lag=%s", c.wait, c.lag), func(b *testing.B) {
			var answered, lost, most, rounds uint64
			for b.Loop() {
				b.StopTimer()
				a, l := failOver(b, c.wait, c.lag)
				answered, lost, most, rounds = answered+a, lost+l, max(most, l), rounds+1
				b.StartTimer()
			}
			if c.wait > 0 && lost > 0 {
				b.Errorf("%d messages that the replica had are lost", lost)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(answered)/float64(rounds), "answered/op")
			b.ReportMetric(float64(lost)/float64(rounds), "lost/op")
			b.ReportMetric(float64(most), "most-lost")
		})
	}
}

// failOver talks for a second, and says how much of it was answered, and how much
// of that the replica does not have.
func failOver(b *testing.B, wait int, lag time.Duration) (answered, lost uint64) {
	ctx := b.Context()
	primary, replica := redistest.Start(b), redistest.Start(b)
	host, port, err := net.SplitHostPort(primary.Addr)
	if err != nil {
		b.Fatal(err)
	}
	heir := replica.Client()
	for _, do := range []error{
		primary.Client().ConfigSet(ctx, "repl-diskless-sync-delay", "0").Err(),
		heir.Do(ctx, "REPLICAOF", host, port).Err(),
		primary.Client().Wait(ctx, 1, time.Minute).Err(),
	} {
		if do != nil {
			b.Fatal(do)
		}
	}
	s := open(b, Config{URL: primary.URL(), Wait: wait})
	const rooms = 64
	accepted := make([]uint64, rooms)
	var talkers sync.WaitGroup
	for i := range rooms {
		room, m := name(i), member(uint32(i+1), "ann")
		join(b, s, room, m)
		talkers.Go(func() {
			for cseq := uint64(1); ; cseq++ {
				if _, err := send(s, room, m, Known{}, Draft{CSeq: cseq, Data: fmt.Append(nil, cseq)}); err != nil {
					return
				}
				accepted[i] = cseq
			}
		})
	}
	<-time.After(time.Second)
	if lag > 0 {
		replica.Stop()
		<-time.After(lag)
	}
	primary.Stop()
	defer primary.Cont()
	talkers.Wait() // each until it has no answer
	if lag > 0 {
		replica.Cont()
	}
	if err := heir.Do(ctx, "REPLICAOF", "NO", "ONE").Err(); err != nil {
		b.Fatal(err)
	}
	there := open(b, Config{URL: replica.URL()})
	for i, n := range accepted {
		answered += n
		if have := messages(b, there, name(i)); have < n {
			lost += n - have
		}
	}
	return answered, lost
}
