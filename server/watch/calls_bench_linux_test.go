package watch

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"godwit/internal/redistest"
	"godwit/server/hub"
	"godwit/server/relay"
	"godwit/store"
)

// BenchmarkBeats is 50 callers in each of 20 rooms of one node, on a real
// redis-server, who beat as fast as a node lets them: each room once in 500 ms.
// It tells the node's CPU for a beat, from when the session has read it, and how
// many scripts a room and its flush take.
func BenchmarkBeats(b *testing.B) {
	const rooms, callers = 20, 50
	st, err := store.Open(store.Config{URL: redistest.Start(b).URL(), Logger: discard})
	if err != nil {
		b.Fatal(err)
	}
	calls := NewCalls(st, callTimeout, discard)
	rl := relay.New(st, fine, discard)
	sub := st.NewSubscriber(store.Ref{Node: "n", Boot: "b"}, listener{rl})
	rl.Listen(sub, nobody{})
	rl.Calls(calls.Heard)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{st.Run, sub.Run, rl.Run, calls.Run} {
		running.Go(func() { _ = run(ctx) })
	}
	defer func() {
		cancel()
		running.Wait()
		_ = st.Close()
	}()
	type caller struct {
		room *relay.Room
		who  store.Member
	}
	var all []caller
	for i := range rooms {
		room := rl.Open(fmt.Sprint("room", i))
		<-room.Ready()
		for j := range callers {
			m := store.Member{User: fmt.Sprint("user", j), Client: uint32(1 + i*callers + j), Session: "s", Gen: 1}
			r, err := st.Join(ctx, room.Name(), m, store.Known{})
			if err != nil {
				b.Fatal(err)
			}
			room.Sit(&hub.Seat{Ear: deaf{new(atomic.Int64)}}, r.Epoch, r.Seq, r.Seq)
			all = append(all, caller{room, m})
		}
	}
	var failed atomic.Pointer[error]
	var round sync.WaitGroup
	beat := func(c caller) {
		round.Add(1)
		calls.Beat(c.room, c.who, true, false, func(err error) {
			if err != nil {
				failed.Store(&err)
			}
			round.Done()
		})
	}
	for _, c := range all { // the calls begin
		beat(c)
	}
	round.Wait()
	<-time.After(beatsEvery)
	beats, flushes, writes, before := 0, 0, calls.Writes.Load(), cpu(b)
	for b.Loop() {
		if beats%len(all) == 0 {
			round.Wait()
			flushes += rooms
		}
		beat(all[beats%len(all)])
		beats++
	}
	round.Wait()
	b.ReportMetric(float64(cpu(b)-before)/float64(beats), "cpu-ns/beat")
	b.ReportMetric(float64(calls.Writes.Load()-writes)/float64(flushes), "scripts/room-flush")
	if err := failed.Load(); err != nil {
		b.Fatal(*err)
	}
}

// cpu is what this process has used so far.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
