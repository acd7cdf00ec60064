package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"godwit/e2e/fault"
	"godwit/internal/redistest"
)

// ear remembers what it hears.
type ear struct {
	mu       sync.Mutex
	heard    map[string][]uint64 // guarded by mu: seqs by room
	words    []Word              // guarded by mu
	inbox    []letter            // guarded by mu
	resets   int                 // guarded by mu
	suspects int                 // guarded by mu
	wake     chan struct{}       // cap 1
}

type letter struct {
	user string
	Inbox
}

func (e *ear) change(f func()) {
	e.mu.Lock()
	f()
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func (e *ear) Heard(room string, m Message, _ bool) {
	e.change(func() { e.heard[room] = append(e.heard[room], m.Head) })
}

func (e *ear) Inbox(user string, m Inbox) {
	e.change(func() { e.inbox = append(e.inbox, letter{user, m}) })
}
func (e *ear) Told(w Word) { e.change(func() { e.words = append(e.words, w) }) }
func (e *ear) Reset()      { e.change(func() { e.resets++ }) }
func (e *ear) Suspect()    { e.change(func() { e.suspects++ }) }

// until waits until the ear is as ok says.
func (e *ear) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		e.mu.Lock()
		good := ok()
		e.mu.Unlock()
		if good {
			return
		}
		select {
		case <-e.wake:
		case <-late:
			t.Fatalf("%s: not in time", what)
		}
	}
}

// listen runs a subscriber with an ear until the test ends.
func listen(t testing.TB, s *Store) (*Subscriber, *ear) {
	t.Helper()
	e := &ear{heard: make(map[string][]uint64), wake: make(chan struct{}, 1)}
	sub := s.NewSubscriber(Ref{Node: "n", Boot: "b"}, e)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { sub.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return sub, e
}

func follow(t *testing.T, sub *Subscriber, rooms ...string) {
	t.Helper()
	for _, room := range rooms {
		select {
		case <-sub.Follow(room):
		case <-time.After(20 * time.Second):
			t.Fatalf("%q is not followed", room)
		}
	}
}

func TestSubscriber_HearsARoomInItsOrderOnceItIsReady(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		sub, e := listen(t, s)
		follow(t, sub, "r")
		ann := member(1, "ann")
		join(t, s, "r", ann)
		join(t, s, "other", ann)
		for range 100 {
			sent(t, s, "r", ann, Draft{Data: []byte("1")})
			sent(t, s, "other", ann, Draft{Data: []byte("1")})
		}
		e.until(t, "101 entries", func() bool { return len(e.heard["r"]) == 101 })
		for i, seq := range e.heard["r"] {
			if seq != uint64(i+1) {
				t.Fatalf("entry %d has seq %d", i, seq)
			}
		}
		if n := len(e.heard["other"]); n > 0 {
			t.Errorf("heard %d entries of a room that is not followed", n)
		}
	})
}

func TestSubscriber_AfterAllComingAndGoingFollowsWhatIsWanted(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		sub, e := listen(t, s)
		const rooms = 2000
		wanted := make([]bool, rooms)
		for range 3 * rooms {
			i := rand.IntN(rooms)
			if wanted[i] = !wanted[i]; wanted[i] {
				sub.Follow(name(i))
			} else {
				sub.Drop(name(i))
			}
		}
		var all []string
		for i := range wanted {
			if wanted[i] {
				all = append(all, name(i))
			}
		}
		follow(t, sub, all...)
		for i := range rooms {
			if err := s.Announce(t.Context(), name(i), "e", uint64(i+1)); err != nil {
				t.Fatal(err)
			}
		}
		e.until(t, "all wanted rooms", func() bool { return len(e.heard) >= len(all) })
		for i := range wanted {
			if heard := len(e.heard[name(i)]) == 1; heard != wanted[i] {
				t.Errorf("room %d: heard %v, wanted %t", i, e.heard[name(i)], wanted[i])
			}
		}
		if e.resets != 0 || sub.Deaf(time.Now()) != 0 {
			t.Errorf("%d resets, deaf for %s; want neither", e.resets, sub.Deaf(time.Now()))
		}
	})
}

func TestSubscriber_WhatIsDroppedBeforeItWasAskedForIsForgotten(t *testing.T) {
	sub := open(t, Config{}).NewSubscriber(Ref{"n", "b"}, &ear{}) // nothing is asked: it does not run
	ready := sub.Follow("r")
	sub.Drop("r")
	select {
	case <-ready:
	default:
		t.Error("whoever asked still waits")
	}
	if cs := sub.classic.channels; len(cs.all)+len(cs.unsaid) != 0 {
		t.Errorf("it keeps %v", cs.all)
	}
}

// BenchmarkFollow is one more room for a node that follows many.
func BenchmarkFollow(b *testing.B) {
	for _, many := range []int{100, 10_000} {
		b.Run(strconv.Itoa(many), func(b *testing.B) {
			sub, _ := listen(b, open(b, Config{URL: redistest.Start(b).URL()}))
			var ready []<-chan struct{}
			for i := range many {
				ready = append(ready, sub.Follow(name(i)))
			}
			for _, r := range ready {
				<-r
			}
			for i := many; b.Loop(); i++ {
				<-sub.Follow(name(i))
				sub.Drop(name(i))
			}
		})
	}
}

func name(i int) string { return fmt.Sprintf("room %d", i) }

func TestSubscriber_HearsTheWordsForItsNode(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		sub, e := listen(t, s)
		follow(t, sub, "any") // so that its own channel is followed, too
		want := Word{What: WordReplaced, Session: "s", Gen: 7}
		if err := s.Tell(t.Context(), Ref{Node: "n", Boot: "earlier"}, Word{What: "to nobody"}); err != nil {
			t.Fatal(err)
		}
		if err := s.Tell(t.Context(), Ref{Node: "n", Boot: "b"}, want); err != nil {
			t.Fatal(err)
		}
		e.until(t, "a word", func() bool { return len(e.words) > 0 })
		if len(e.words) != 1 || e.words[0] != want {
			t.Errorf("words %+v, want %+v", e.words, want)
		}
	})
}

func TestSubscriber_ThatIsKilledHearsAgainAndSaysThatItMissed(t *testing.T) {
	r := redistest.Start(t)
	s := open(t, Config{URL: r.URL()})
	sub, e := listen(t, s)
	for i := range 600 { // more than one SUBSCRIBE names
		sub.Follow(name(i))
	}
	follow(t, sub, name(0), name(599))
	resets, killed := 0, 0 // a busy machine may lose the subscription by itself, too
	reset := func() bool { return e.resets > resets }
	for round := uint64(1); round <= 3; round++ {
		n, err := r.Client().Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub").Int()
		if err != nil {
			t.Fatal(err)
		}
		killed += n
		all := func() bool {
			for i := range 600 {
				if h := e.heard[name(i)]; len(h) == 0 || h[len(h)-1] != round {
					return false
				}
			}
			return true
		}
		for again := true; again; {
			e.until(t, "a reset", reset)
			e.mu.Lock()
			resets = e.resets
			e.mu.Unlock()
			for i := range 600 {
				if err := s.Announce(t.Context(), name(i), "e", round); err != nil {
					t.Fatal(err)
				}
			}
			e.until(t, "all rooms, or another reset", func() bool {
				again = !all()
				return !again || reset()
			})
		}
	}
	if killed == 0 {
		t.Error("killed no subscription")
	}
}

func TestSubscriber_ThatIsDeafFindsOutByItself(t *testing.T) {
	r := redistest.Start(t)
	proxy, err := fault.Listen(r.Addr, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	s := open(t, Config{URL: "redis://" + proxy.Addr()})
	sub, e := listen(t, s)
	follow(t, sub, "r")
	proxy.Set(fault.Spoil{Deaf: true})
	began := time.Now()
	e.until(t, "a reset", func() bool { return e.resets > 0 })
	// The contract's two seconds to fill a hole, and what a busy machine may add.
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("deaf for %s before it was noticed, want less than 2s", took)
	}
	proxy.Set(fault.Spoil{})
	again := time.NewTicker(50 * time.Millisecond) // the probe under way may still be lost
	defer again.Stop()
	for late := time.After(20 * time.Second); ; {
		if err := s.Announce(t.Context(), "r", "e", 1); err != nil {
			t.Fatal(err)
		}
		select {
		case <-again.C:
		case <-late:
			t.Fatal("still deaf")
		}
		e.mu.Lock()
		heard := len(e.heard["r"])
		e.mu.Unlock()
		if heard > 0 {
			return
		}
	}
}
