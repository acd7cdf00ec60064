package relay

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"godwit/internal/redisset"
	"godwit/internal/redistest"
	"godwit/rules/address"
	"godwit/server/hub"
	"godwit/store"
	"godwit/wire"
)

// listener is a member that writes down how far it has heard.
type listener struct {
	silent
	heard chan uint64
}

func (l listener) Deliver(ev *wire.RoomEvent) { l.heard <- ev.Seq }

// until waits until the member has heard an entry.
func (l listener) until(t *testing.T, what string, seq uint64) {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		select {
		case got := <-l.heard:
			if got >= seq {
				return
			}
		case <-late:
			t.Fatalf("%s: %d is not heard", what, seq)
		}
	}
}

func TestRelay_APrimaryThatHangsHoldsUpNobodyElsesRooms(t *testing.T) {
	c := redistest.Cluster(t)
	st, err := store.Open(store.Config{URL: c.URL(), Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	r := New(st, func(context.Context) error { return nil }, slog.New(slog.DiscardHandler))
	r.Listen(st.NewSubscriber(store.Ref{Node: "n", Boot: "b"}, nil), nil) // it hears what the test says
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = st.Run(ctx) })

	all, err := c.Primaries(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rooms, epochs, ears := make(map[*redisset.Server][]*Room), make(map[*Room]string), make(map[*Room]listener)
	said := func(rm *Room) uint64 {
		t.Helper()
		ch := make(chan store.Sent, 1)
		st.Send(t.Context(), rm.name, store.Member{User: "ann", Client: 1, Session: "ann", Gen: 1}, store.Known{}, store.Draft{}, func(s store.Sent, err error) {
			if err != nil {
				t.Error(err)
			}
			ch <- s
		})
		return (<-ch).Seq
	}
	const each = jobWorkers + 2
	for i := 0; len(rooms[all[0]]) < each || len(rooms[all[1]]) < 1; i++ {
		rm := r.Open(fmt.Sprintf("room %d", i))
		at, err := c.Primary(t.Context(), "gw:{r:"+rm.name+"}:meta")
		if err != nil {
			t.Fatal(err)
		}
		rooms[at] = append(rooms[at], rm)
		in, err := st.Join(t.Context(), rm.name, store.Member{User: "ann", Client: 1, Session: "ann", Gen: 1}, store.Known{})
		if err != nil {
			t.Fatal(err)
		}
		epochs[rm], ears[rm] = in.Epoch, listener{heard: make(chan uint64, 100)}
		rm.Sit(&hub.Seat{Ear: ears[rm], Reader: address.Reader{User: "bob", Client: 2, Open: true}}, in.Epoch, in.Seq, in.Seq)
		said(rm)
	}
	running.Go(func() { _ = r.Run(ctx) })

	hangs, goesOn := rooms[all[0]], rooms[all[1]][0]
	channel := all[1].Client.Subscribe(t.Context(), "gw:{r:"+goesOn.name+"}:ev")
	defer channel.Close()
	if _, err := channel.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	replica, err := c.Replica(t.Context(), all[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*redisset.Server{replica, all[0]} { // nobody takes over
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		defer s.Cont()
	}
	for _, rm := range hangs {
		rm.Wrote(store.Head{Epoch: epochs[rm], Seq: 2}) // and is to say so once more
	}
	goesOn.Wrote(store.Head{Epoch: epochs[goesOn], Seq: 2})
	within, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	if m, err := channel.ReceiveMessage(within); err != nil || m.Payload != "h "+epochs[goesOn]+" 2" {
		t.Errorf("a head that is said again: %v, %v", m, err)
	}
	for _, rm := range hangs {
		r.Heard(rm.name, store.Message{Epoch: epochs[rm], Head: 2}, true)
	}
	r.Suspect()
	ears[goesOn].until(t, "a compared head", 2)
	r.Heard(goesOn.name, store.Message{Epoch: epochs[goesOn], Head: said(goesOn)}, true)
	ears[goesOn].until(t, "a hole", 3)
	for _, s := range []*redisset.Server{replica, all[0]} {
		if err := s.Cont(); err != nil {
			t.Fatal(err)
		}
	}
	for _, rm := range hangs {
		ears[rm].until(t, "a hole, once the store is back", 2)
	}
}
