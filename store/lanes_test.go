package store

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"godwit/internal/redistest"
)

func TestLane_EveryWriteIsAnsweredOnceWhenTheStoreEnds(t *testing.T) {
	s, err := Open(Config{Timeout: 10 * time.Second}) // a busy machine takes its time for the first pipeline
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithCancel(context.Background())
	var running, writers sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	ann := member(1, "ann")
	join(t, s, "r", ann)
	const writes = 2000
	answers := make(chan error, 2*writes)
	begun, begin := context.WithTimeout(t.Context(), 30*time.Second)
	defer begin()
	writers.Go(func() {
		for range writes {
			s.Send(ctx, "r", ann, Known{}, Draft{Data: []byte("1")}, func(_ Sent, err error) {
				if err == nil {
					begin() // the first of many
				}
				answers <- err
			})
		}
	})
	<-begun.Done()
	cancel()
	running.Wait()
	writers.Wait()
	good := 0
	for i := range writes {
		select {
		case err := <-answers:
			if err == nil {
				good++
			} else if !errors.Is(err, ErrUnavailable) {
				t.Fatalf("answer %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%d of %d writes were answered", i, writes)
		}
	}
	if len(answers) > 0 || good == 0 {
		t.Errorf("%d answers too many, %d writes succeeded", len(answers), good)
	}
}

func TestLane_AStoreThatHangsRefusesAllThatWaitWithinASecond(t *testing.T) {
	r := redistest.Start(t)
	s := open(t, Config{URL: r.URL()})
	ann := member(1, "ann")
	join(t, s, "r", ann)
	r.Stop()
	defer r.Cont()
	var late time.Duration
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 20 * laneBatch { // more than one pipeline, more than the queue holds
		all.Add(1)
		asked := time.Now()
		s.Send(t.Context(), "r", ann, Known{}, Draft{Data: []byte("1")}, func(_ Sent, err error) {
			defer all.Done()
			if !errors.Is(err, ErrUnavailable) {
				t.Errorf("answer %v, want unavailable", err)
			}
			mu.Lock()
			defer mu.Unlock()
			late = max(late, time.Since(asked))
		})
	}
	all.Wait()
	// The contract's second, and what a busy machine may add.
	if late > 3*time.Second {
		t.Errorf("the last answer took %s, want less than 1s", late)
	}
}

func TestLane_ARoomsWritesRunAndAreAnsweredInTheOrderAsked(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		ann := member(1, "ann")
		rooms := []string{"r0", "r1", "r2", "r3"}
		const writes = 10 * laneBatch // of each room, many pipelines
		type answer struct {
			asked uint64
			sent  Sent
			err   error
		}
		answers := make(map[string]chan answer)
		for _, room := range rooms {
			join(t, s, room, ann)
			answers[room] = make(chan answer, writes)
		}
		for i := range uint64(writes) {
			for _, room := range rooms {
				// A write that overtook another would answer a gap.
				s.Send(t.Context(), room, ann, Known{}, Draft{CSeq: i + 1, Data: []byte("1")}, func(sent Sent, err error) {
					answers[room] <- answer{i + 1, sent, err}
				})
			}
		}
		for _, room := range rooms {
			for i := range uint64(writes) {
				a := <-answers[room]
				if a.err != nil || a.asked != i+1 || a.sent.Seq != i+2 {
					t.Fatalf("%s: answer %d is for write %d: seq %d, %v", room, i+1, a.asked, a.sent.Seq, a.err)
				}
			}
		}
	})
}

// BenchmarkSend is one message into a room's log, many senders at once.
func BenchmarkSend(b *testing.B) {
	for name, url := range map[string]func() string{
		"embedded": func() string { return "" },
		"redis":    func() string { return redistest.Start(b).URL() },
	} {
		b.Run(name, func(b *testing.B) {
			s := open(b, Config{URL: url()})
			ann := member(1, "ann")
			join(b, s, "r", ann)
			data := []byte(`"hello"`)
			b.ReportAllocs()
			b.SetParallelism(64)
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					if _, err := send(s, "r", ann, Known{}, Draft{Data: data}); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
