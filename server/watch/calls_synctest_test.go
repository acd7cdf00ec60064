package watch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2/server"

	"godwit/server/hub"
	"godwit/server/relay"
	"godwit/store"
	"godwit/wire"
)

const callTimeout = 15 * time.Second

// station is a node's relay and calls, with the lobby open.
type station struct {
	*Calls
	w     *world
	relay *relay.Relay
	lobby *relay.Room
	asked atomic.Int64 // how often its members were to make themselves known again
}

// listener passes what is heard on to the relay.
type listener struct{ *relay.Relay }

func (listener) Inbox(string, store.Inbox) {}
func (listener) Told(store.Word)           {}
func (l listener) Reset()                  { l.Relay.Suspect() }
func (l listener) Suspect()                { l.Relay.Suspect() }

// nobody keeps no roster.
type nobody struct{}

func (nobody) Entry(string, string, *wire.RoomEvent) {}
func (nobody) Renewed(string)                        {}
func (nobody) Presence(store.Presence)               {}
func (nobody) Suspect()                              {}

func (w *world) station(name string) *station {
	w.Helper()
	s := &station{w: w, Calls: NewCalls(w.store, callTimeout, discard)}
	s.relay = relay.New(w.store, fine, discard)
	sub := w.store.NewSubscriber(store.Ref{Node: name, Boot: "b"}, listener{s.relay})
	s.relay.Listen(sub, nobody{})
	s.relay.Calls(s.Heard)
	w.run(sub.Run)
	w.run(s.relay.Run)
	w.run(s.Run)
	s.lobby = s.relay.Open("lobby")
	<-s.lobby.Ready()
	return s
}

// sit lets the node hear the lobby for a member, and tells how its call stands.
func (s *station) sit(m store.Member) {
	s.w.Helper()
	r, err := s.w.store.Join(s.w.Context(), "lobby", m, store.Known{})
	if err != nil {
		s.w.Fatal(err)
	}
	s.lobby.Sit(&hub.Seat{Ear: deaf{&s.asked}}, r.Epoch, r.Seq, r.Seq)
	s.lobby.Call(r)
}

// deaf is a member that hears nothing, and counts how often it is to make itself known again.
type deaf struct{ asked *atomic.Int64 }

func (deaf) Deliver(*wire.RoomEvent)    {}
func (deaf) Reset(wire.Reset)           {}
func (deaf) Expelled(string, *hub.Seat) {}
func (d deaf) Rejoin(context.Context, string, store.Known) (store.Room, error) {
	d.asked.Add(1)
	return store.Room{}, store.ErrGone
}

// says has a member's word taken, and waits for its outcome.
func (s *station) says(m store.Member, in, soon bool) error {
	done := make(chan error, 1)
	s.Beat(s.lobby, m, in, soon, func(err error) { done <- err })
	return <-done
}

// flags lists the changes of the flag in the lobby's log.
func (w *world) flags() (flags []bool) {
	w.Helper()
	page, err := w.store.Read(w.Context(), "lobby", 1, 10_000, 10_000)
	if err != nil {
		w.Fatal(err)
	}
	for _, e := range page.Entries {
		if e.InCall != nil {
			flags = append(flags, *e.InCall)
		}
	}
	return flags
}

func (w *world) wantFlags(want ...bool) {
	w.Helper()
	if got := w.flags(); !slices.Equal(got, want) {
		w.Fatalf("the flag became %v, want %v", got, want)
	}
}

var aOwner, bOwner = store.Ref{Node: "a", Boot: "b"}, store.Ref{Node: "b", Boot: "b"}

func TestCalls_AFloodOfBeatsIsAFewWrites(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.station("a")
		ann, bob := w.begin(aOwner, 1, "ann"), w.begin(aOwner, 2, "bob")
		s.sit(ann)
		before := s.Writes.Load()
		for range 1000 {
			for _, m := range []store.Member{ann, bob} {
				s.Beat(s.lobby, m, true, false, func(error) {})
			}
			time.Sleep(5 * time.Millisecond)
		}
		if n := s.Writes.Load() - before; n > 12 || n < 9 || s.Beats.Load() != 2000 {
			t.Errorf("%d writes for %d beats in 5s, want one in 500ms", n, s.Beats.Load())
		}
		time.Sleep(time.Second)
		w.wantFlags(true)
	})
}

// More rooms than are written at once, whose members beat at no common time.
func TestCalls_BeatsOfAllRoomsAreWrittenInRounds(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.station("a")
		const rooms = 3 * callWrites
		type caller struct {
			room *relay.Room
			who  store.Member
		}
		var all []caller
		for i := range rooms {
			c := caller{s.relay.Open(fmt.Sprint("room", i)), store.Member{User: "ann", Client: uint32(i + 1), Session: "s", Gen: 1}}
			<-c.room.Ready()
			if _, err := w.store.Join(t.Context(), c.room.Name(), c.who, store.Known{}); err != nil {
				t.Fatal(err)
			}
			all = append(all, c)
		}
		var mu sync.Mutex
		written := map[time.Time]bool{}
		w.redis.Server().SetPreHook(func(_ *server.Peer, cmd string, _ ...string) bool {
			mu.Lock()
			defer mu.Unlock()
			if cmd == "EVALSHA" {
				written[time.Now()] = true
			}
			return false
		})
		answers := make(chan error, 2*rooms)
		for range 2 { // each room beats once a second
			for _, c := range all {
				began := time.Now()
				s.Beat(c.room, c.who, true, false, func(err error) {
					if late := time.Since(began); late > beatsEvery {
						err = fmt.Errorf("it waited for %s", late)
					}
					answers <- err
				})
				time.Sleep(time.Second / rooms)
			}
		}
		for range 2 * rooms {
			if err := <-answers; err != nil {
				t.Fatal(err)
			}
		}
		if n := s.Writes.Load(); len(written) > 5 || n != 2*rooms {
			t.Errorf("%d scripts for %d beats, at %d times; want one each, and a round each 500ms of 2s", n, 2*rooms, len(written))
		}
	})
}

func TestCalls_TheLastWordCountsAndEachIsAnswered(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.station("a")
		ann, bob, cy := w.begin(aOwner, 1, "ann"), w.begin(aOwner, 2, "bob"), w.begin(aOwner, 3, "cy")
		s.sit(cy)
		answers := make(chan error, 9)
		done := func(err error) { answers <- err }
		began := time.Now()
		s.Beat(s.lobby, ann, true, false, done)
		s.Beat(s.lobby, bob, true, false, done)
		s.Beat(s.lobby, bob, false, false, done)
		s.Beat(s.lobby, store.Member{Client: 9, Gen: 1}, true, false, done)
		var failed []error
		for range 4 {
			if err := <-answers; err != nil {
				failed = append(failed, err)
			}
		}
		if len(failed) != 1 || !errors.Is(failed[0], store.ErrNotMember) || time.Since(began) > 600*time.Millisecond {
			t.Errorf("failed: %v, after %s", failed, time.Since(began))
		}
		w.wantFlags()
		began = time.Now()
		if err := s.says(bob, true, true); err != nil || time.Since(began) > 10*time.Millisecond {
			t.Errorf("soon: %v after %s", err, time.Since(began))
		}
		w.wantFlags(true)
	})
}

// Every node that has a member looks, so that the room learns of it whoever dies.
func TestCalls_WhoIsLateIsOutWhicheverNodesAreLeft(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.station("a"), w.station("b")
		ann, bob, cy := w.begin(aOwner, 1, "ann"), w.begin(aOwner, 2, "bob"), w.begin(bOwner, 3, "cy")
		a.sit(ann)
		b.sit(cy)
		if err := a.says(ann, true, true); err != nil {
			t.Fatal(err)
		}
		time.Sleep(7 * time.Second)
		if err := a.says(bob, true, true); err != nil {
			t.Fatal(err)
		}
		a.relay.Close(a.lobby) // nobody looks there any more
		of := a.Writes.Load()
		time.Sleep(8*time.Second - time.Millisecond)
		w.wantFlags(true)
		time.Sleep(300 * time.Millisecond)
		w.wantFlags(true, false)
		time.Sleep(time.Minute)
		w.wantFlags(true, false)
		if n := a.Writes.Load(); n != of {
			t.Errorf("%d looks at a room that nobody here is in", n-of)
		}
		for name, s := range map[string]*station{"a": a, "b": b} {
			before := s.Writes.Load()
			time.Sleep(time.Minute)
			s.mu.Lock()
			n, known := s.Writes.Load()-before, len(s.rooms)
			s.mu.Unlock()
			if n != 0 || known != 0 {
				t.Errorf("%s: %d writes for a room without a call, %d rooms known", name, n, known)
			}
		}
	})
}

func TestCalls_WhileOthersBeatANodeLooksOnceATimeout(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.station("a"), w.station("b")
		ann, bob, cy := w.begin(aOwner, 1, "ann"), w.begin(aOwner, 2, "bob"), w.begin(bOwner, 3, "cy")
		a.sit(ann)
		b.sit(cy)
		before := b.Writes.Load()
		for range 30 { // two minutes
			if err := errors.Join(a.says(ann, true, true), a.says(bob, true, true)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(4 * time.Second)
		}
		if n := b.Writes.Load() - before; n < 8 || n > 13 {
			t.Errorf("%d looks in two minutes, want one every 11s or so", n)
		}
		w.wantFlags(true)
	})
}

func TestCalls_BeatsThatWaitForTheStoreCountFromWhenTheyCame(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.station("a")
		ann, bob := w.begin(aOwner, 1, "ann"), w.begin(aOwner, 2, "bob")
		s.sit(ann)
		if err := errors.Join(s.says(ann, true, true), s.says(bob, true, true)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		w.away(true)
		time.Sleep(10 * time.Second)
		for _, m := range []store.Member{ann, bob} {
			if err := s.says(m, true, true); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("answered %v, want unavailable", err)
			}
		}
		time.Sleep(5 * time.Second) // by now both would be late without that
		w.away(false)
		time.Sleep(9 * time.Second)
		w.wantFlags(true)
		time.Sleep(2 * time.Second) // 15s after they came
		w.wantFlags(true, false)
	})
}

func TestCalls_WhoLeavesTakesBackWhatIsNotWritten(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.station("a")
		ann, bob := w.begin(aOwner, 1, "ann"), w.begin(aOwner, 2, "bob")
		s.sit(ann)
		if err := errors.Join(s.says(ann, true, true), s.says(ann, true, false)); err != nil { // the next round is in half a second
			t.Fatal(err)
		}
		told := make(chan error, 1)
		s.Beat(s.lobby, bob, true, false, func(err error) { told <- err })
		s.Forget("lobby", bob.Client)
		if err := <-told; !errors.Is(err, store.ErrNotMember) {
			t.Errorf("told %v", err)
		}
		time.Sleep(time.Second)
		w.wantFlags()
		w.away(true)
		s.Beat(s.lobby, bob, true, true, func(error) {})
		time.Sleep(100 * time.Millisecond) // it waits to be tried again
		s.Forget("lobby", bob.Client)
		w.away(false)
		time.Sleep(5 * time.Second)
		w.wantFlags()
	})
}

// The store has the beat, and its answer is on the way, when its client leaves.
func TestCalls_WhoLeavesMeanwhileIsNotWrittenAgain(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.station("a")
		ann, bob := w.begin(aOwner, 1, "ann"), w.begin(aOwner, 2, "bob")
		s.sit(ann)
		if err := s.says(ann, true, true); err != nil {
			t.Fatal(err)
		}
		asked, leave := make(chan struct{}), make(chan struct{})
		var once sync.Once
		w.redis.Server().SetPreHook(func(p *server.Peer, cmd string, _ ...string) bool {
			if cmd != "EVALSHA" {
				return false
			}
			once.Do(func() { close(asked) })
			<-leave
			p.WriteError("LOADING not now")
			return true
		})
		s.Beat(s.lobby, bob, true, true, func(error) {})
		<-asked
		s.Forget("lobby", bob.Client)
		w.redis.Server().SetPreHook(nil)
		close(leave)
		time.Sleep(5 * time.Second)
		w.wantFlags()
	})
}

func TestCalls_OldWordOfACallChangesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.station("a")
		ann, bob := w.begin(aOwner, 1, "ann"), w.begin(aOwner, 2, "bob")
		s.sit(ann)
		if err := errors.Join(s.says(ann, true, true), s.says(bob, true, true)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond) // the entry was heard, and is not what tells it again
		s.Heard(s.lobby, s.head(), true)
		s.Heard(s.lobby, store.Head{Epoch: s.head().Epoch, Seq: 1}, false) // there was none then
		time.Sleep(callTimeout + time.Second)
		w.wantFlags(true, false)
		before := s.Writes.Load()
		s.Heard(s.lobby, s.head(), true)
		s.Heard(s.lobby, s.head(), false) // before the node has looked
		time.Sleep(time.Minute)
		if n := s.Writes.Load() - before; n != 0 {
			t.Errorf("%d looks at a call that is over", n)
		}
	})
}

// head is the lobby's newest entry.
func (s *station) head() store.Head {
	s.w.Helper()
	r, err := s.w.store.Info(s.w.Context(), "lobby")
	if err != nil {
		s.w.Fatal(err)
	}
	return store.Head{Epoch: r.Epoch, Seq: r.Seq}
}

func TestCalls_ABeatThatFindsNoRoomHasItMadeAgain(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.station("a")
		ann := w.begin(aOwner, 1, "ann")
		s.sit(ann)
		w.redis.FlushAll()
		began := time.Now()
		answer := make(chan error, 1)
		s.Beat(s.lobby, ann, true, true, func(err error) { answer <- err })
		time.Sleep(100 * time.Millisecond)
		if n := s.asked.Load(); n != 1 {
			t.Errorf("the member was asked %d times to make itself known, want once, at once", n)
		}
		w.begin(aOwner, 1, "ann") // as the reset of a session does
		if err := <-answer; err != nil || time.Since(began) > 500*time.Millisecond {
			t.Errorf("answered %v after %s, want the beat to be taken", err, time.Since(began))
		}
		w.redis.FlushAll()
		began = time.Now()
		if err := s.says(ann, true, true); !errors.Is(err, store.ErrWiped) || time.Since(began) < 800*time.Millisecond || time.Since(began) > 1200*time.Millisecond {
			t.Errorf("answered %v after %s, want the room to be missed after 900ms", err, time.Since(began))
		}
	})
}

func TestCalls_WhatWaitsAtTheEndIsAnswered(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.station("a")
		ann := w.begin(aOwner, 1, "ann")
		s.sit(ann)
		short := NewCalls(w.store, callTimeout, discard)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- short.Run(ctx) }()
		answers := make(chan error, 2)
		done := func(err error) { answers <- err }
		short.Beat(s.lobby, ann, true, false, done)
		if err := <-answers; err != nil {
			t.Fatal(err)
		}
		short.Beat(s.lobby, ann, true, false, done) // so soon after the first it waits
		cancel()
		<-ended
		short.Beat(s.lobby, ann, true, true, done)
		for range 2 {
			if err := <-answers; !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("answered %v, want unavailable", err)
			}
		}
	})
}

// The store's last answer comes when the duty has ended, and is that it has lost
// the room: nobody makes it again.
func TestCalls_WhatIsOnItsWayAtTheEndIsAnswered(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.station("a")
		ann := w.begin(aOwner, 1, "ann")
		s.sit(ann)
		short := NewCalls(w.store, callTimeout, discard)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- short.Run(ctx) }()
		asked, goOn := make(chan struct{}), make(chan struct{})
		var once sync.Once
		w.redis.Server().SetPreHook(func(_ *server.Peer, cmd string, _ ...string) bool {
			if cmd == "EVALSHA" {
				once.Do(func() { close(asked) })
				<-goOn
			}
			return false
		})
		answer := make(chan error, 1)
		short.Beat(s.lobby, ann, true, true, func(err error) { answer <- err })
		<-asked
		cancel()
		<-ended
		w.redis.FlushAll()
		w.redis.Server().SetPreHook(nil)
		close(goOn)
		select {
		case err := <-answer:
			if err == nil {
				t.Error("answered as taken")
			}
		case <-time.After(time.Minute):
			t.Error("it was not answered")
		}
	})
}
