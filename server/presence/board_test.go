package presence

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	rule "godwit/rules/presence"
	"godwit/server/wait"
	"godwit/store"
	"godwit/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// board is one on a store of its own.
func board(t *testing.T) (*Board, *store.Store) {
	t.Helper()
	st, err := store.Open(store.Config{Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	b := New(st, slog.New(slog.DiscardHandler))
	sub := st.NewSubscriber(store.Ref{Node: "n", Boot: "b"}, ear{b})
	b.Listen(sub)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{st.Run, sub.Run, b.Run} {
		running.Go(func() { _ = run(ctx) })
	}
	t.Cleanup(func() {
		cancel()
		running.Wait()
		st.Close()
	})
	return b, st
}

type ear struct{ *Board }

func (ear) Heard(string, store.Message, bool) {}
func (ear) Told(store.Word)                   {}
func (ear) Reset()                            {}
func (ear) Suspect()                          {}

// eye is an open view and what it was told.
type eye struct {
	*View
	t *testing.T

	mu   sync.Mutex
	said []*wire.Presence // guarded by mu
	more chan struct{}    // cap 1
}

func (e *eye) Presence(p *wire.Presence, _ bool) {
	e.mu.Lock()
	e.said = append(e.said, p)
	e.mu.Unlock()
	wait.Ring(e.more)
}

// eyeOf is a session of the user.
func eyeOf(t *testing.T, b *Board, user string) *eye {
	t.Helper()
	e := &eye{t: t, more: make(chan struct{}, 1)}
	e.View = b.Attach(user, e)
	t.Cleanup(e.Close)
	<-e.Heard()
	lists, err := b.store.Contacts(t.Context(), []string{user})
	if err != nil {
		t.Fatal(err)
	}
	e.Load(store.Presence{User: user}, lists[0])
	if _, _, whole := e.Snapshot(t.Context()); !whole {
		t.Fatal("the snapshot is not whole")
	}
	e.Open()
	return e
}

// told waits until exactly this was told, in order, "user value".
func (e *eye) told(want ...string) {
	e.t.Helper()
	late := time.After(20 * time.Second)
	for {
		e.mu.Lock()
		var got []string
		for _, p := range e.said {
			got = append(got, fmt.Sprintf("%s %d", p.User, p.Presence))
		}
		e.mu.Unlock()
		if slices.Equal(got, want) {
			return
		}
		select {
		case <-e.more:
			if len(got) < len(want) {
				continue
			}
		case <-late:
		}
		e.t.Fatalf("told %q, want %q", got, want)
	}
}

// is sets a user's device in the store.
func is(t *testing.T, st *store.Store, user string, client uint32, value uint8) store.Presence {
	t.Helper()
	set := rule.Set{Value: value}
	_, p, err := st.AttachDevice(t.Context(), store.Member{User: user, Client: client, Session: user, Gen: 1}, store.Attaching{Set: &set})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func contacts(t *testing.T, st *store.Store, user string, list ...string) {
	t.Helper()
	if err := st.PutContacts(t.Context(), user, list); err != nil {
		t.Fatal(err)
	}
}

func TestBoard_AnOldMessageIsDropped(t *testing.T) {
	b, st := board(t)
	contacts(t, st, "bob", "ann")
	bob := eyeOf(t, b, "bob")
	first := is(t, st, "ann", 1, 3)
	second := is(t, st, "ann", 1, 1)
	bob.told("ann 3", "ann 1")
	b.Presence(first) // again, by a slower way
	b.Presence(second)
	b.Presence(store.Presence{User: "ann", Value: 2, PV: second.PV})
	is(t, st, "ann", 1, 2)
	bob.told("ann 3", "ann 1", "ann 2")
}

func entry(seq uint64, kind wire.Kind, user string, client uint32) *wire.RoomEvent {
	return &wire.RoomEvent{Seq: seq, Kind: kind, From: wire.Member{User: user, Client: client}}
}

func TestBoard_WhoIsToldThatItSeesSomebodyNoMoreMayBeToldAnew(t *testing.T) {
	b, st := board(t)
	contacts(t, st, "bob", "ann")
	is(t, st, "ann", 1, 3)
	bob := eyeOf(t, b, "bob") // whose snapshot had ann
	r, err := st.Join(t.Context(), "r", store.Member{User: "bob", Client: 9, Session: "bob", Gen: 1}, store.Known{})
	if err != nil {
		t.Fatal(err)
	}
	bob.Enter("r")
	contacts(t, st, "bob")
	bob.told("ann 0")
	b.Entry("r", r.Epoch, entry(r.Seq+1, wire.KindJoin, "ann", 1))
	bob.told("ann 0", "ann 3")
	if off, on := bob.said[0].PV, bob.said[1].PV; on <= off {
		t.Errorf("pv %d, and then %d: a client drops it", off, on)
	}
}

// A change of ann's is heard just before bob's list, read earlier, is without her.
func TestBoard_WhoIsRemovedIsToldOfAsNewerThanAChangeThatOvertookIt(t *testing.T) {
	b, st := board(t)
	contacts(t, st, "bob", "ann")
	is(t, st, "ann", 1, 3)
	bob := eyeOf(t, b, "bob")
	b.Presence(store.Presence{User: "ann", Value: 1, PV: uint64(time.Now().Add(time.Hour).UnixMilli())})
	contacts(t, st, "bob")
	bob.told("ann 1", "ann 0")
	if before, after := bob.said[0].PV, bob.said[1].PV; after <= before {
		t.Errorf("pv %d, and then %d: a client drops it", before, after)
	}
}

// After a wipe a user's node has a while to register it again, however often
// somebody looks meanwhile.
func TestBoard_WhoIsMissingInTheStoreIsWaitedFor(t *testing.T) {
	b, st := board(t)
	contacts(t, st, "bob", "ann")
	bob := eyeOf(t, b, "bob")
	b.Presence(store.Presence{User: "ann", Value: 3, PV: 10}) // of whom the store knows nothing
	b.mu.Lock()
	ann := b.users["ann"]
	b.mu.Unlock()
	look := func() {
		t.Helper()
		if err := b.readUsers(t.Context(), []*user{ann}); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		look()
	}
	bob.told("ann 3")
	b.mu.Lock()
	ann.missed = ann.missed.Add(-missingFor)
	b.mu.Unlock()
	look()
	bob.told("ann 3", "ann 0")
}

// What the log said before the roster was read is in it; what it says after
// counts, however the two meet.
func TestBoard_ARosterAndItsLogMeetWithoutAGap(t *testing.T) {
	b, st := board(t)
	for i, user := range []string{"ann", "cy", "dan"} {
		is(t, st, user, uint32(i+1), 3)
	}
	member := func(user string, client uint32) store.Member {
		return store.Member{User: user, Client: client, Session: user, Gen: 1}
	}
	var r store.Room
	for i, user := range []string{"bob", "ann", "ann", "cy"} { // ann with two devices
		var err error
		if r, err = st.Join(t.Context(), "r", member(user, uint32(10+i)), store.Known{}); err != nil {
			t.Fatal(err)
		}
	}
	bob := eyeOf(t, b, "bob")
	bob.Enter("r")
	// The log repeats what the roster has.
	b.Entry("r", r.Epoch, entry(2, wire.KindJoin, "ann", 11))
	b.Entry("r", r.Epoch, entry(3, wire.KindJoin, "ann", 12))
	if _, _, whole := bob.Snapshot(t.Context()); !whole {
		t.Fatal("the snapshot is not whole")
	}
	seen := func(user string) bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		u := b.users[user]
		return u != nil && bob.sees(u)
	}
	b.Entry("r", r.Epoch, entry(4, wire.KindJoin, "cy", 13))
	b.Entry("r", r.Epoch, entry(5, wire.KindLeave, "ann", 11))
	if !seen("ann") || !seen("cy") || seen("dan") {
		t.Errorf("one of ann's devices has left: ann %v, cy %v, dan %v", seen("ann"), seen("cy"), seen("dan"))
	}
	b.Entry("r", r.Epoch, entry(6, wire.KindLeave, "ann", 12))
	b.Entry("r", r.Epoch, entry(7, wire.KindJoin, "dan", 14))
	if seen("ann") || !seen("dan") {
		t.Errorf("both have left, dan has come: ann %v, dan %v", seen("ann"), seen("dan"))
	}
	b.Entry("r", r.Epoch, entry(8, wire.KindLeave, "", 0)) // closed
	if seen("cy") || seen("dan") {
		t.Error("the room is closed, and bob sees who was there")
	}
}

// A roster is read again after a wipe, say, while the log goes on.
func TestBoard_ARosterThatTheLogHasOvertakenTakesNobodyOut(t *testing.T) {
	b, st := board(t)
	var r store.Room
	for i, user := range []string{"bob", "ann"} {
		is(t, st, user, uint32(1+i), 3)
		var err error
		if r, err = st.Join(t.Context(), "r", store.Member{User: user, Client: uint32(1 + i), Session: user, Gen: 1}, store.Known{}); err != nil {
			t.Fatal(err)
		}
	}
	bob := eyeOf(t, b, "bob")
	bob.Enter("r")
	if _, _, whole := bob.Snapshot(t.Context()); !whole {
		t.Fatal("the snapshot is not whole")
	}
	b.mu.Lock()
	b.rostered(b.rooms["r"], store.Roster{Epoch: r.Epoch, Seq: r.Seq - 1, Users: map[string]int{"bob": 1}})
	b.mu.Unlock()
	bob.told("ann 3")
	b.Presence(store.Presence{User: "ann", Value: 1, PV: uint64(time.Now().Add(time.Hour).UnixMilli())})
	bob.told("ann 3", "ann 1")
}

func TestBoard_ForgetsWhomNobodySees(t *testing.T) {
	b, st := board(t)
	contacts(t, st, "bob", "ann", "cy")
	if _, err := st.Join(t.Context(), "r", store.Member{User: "dan", Client: 1, Session: "dan", Gen: 1}, store.Known{}); err != nil {
		t.Fatal(err)
	}
	one, two := eyeOf(t, b, "bob"), eyeOf(t, b, "bob")
	one.Enter("r")
	two.Enter("r")
	if _, _, whole := two.Snapshot(t.Context()); !whole {
		t.Fatal("the snapshot is not whole")
	}
	size := func() (users, rooms int) {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.users), len(b.rooms)
	}
	one.Close()
	one.Close()
	if users, rooms := size(); users != 4 || rooms != 1 {
		t.Errorf("%d users and %d rooms are known, want bob and the three that it sees, and a room", users, rooms)
	}
	two.Leave("r")
	two.Leave("r")
	if users, rooms := size(); users != 3 || rooms != 0 {
		t.Errorf("%d users and %d rooms are known, want bob and its contacts", users, rooms)
	}
	two.Close()
	if users, rooms := size(); users != 0 || rooms != 0 {
		t.Errorf("%d users and %d rooms are known, want nothing", users, rooms)
	}
}
