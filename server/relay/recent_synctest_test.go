package relay

import (
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"godwit/server/hub"
)

func TestHold_ASeatTakenLateMissesNothing(t *testing.T) {
	for _, c := range []struct {
		name     string
		hold     bool
		messages int
		want     bool // at once, with no read of the log
	}{
		{"nothing meanwhile", false, 0, true},
		{"held, a few meanwhile", true, 10, true},
		{"held, as many as are kept", true, recentMax, true},
		{"held, one more than are kept", true, recentMax + 1, false},
		{"not held", false, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				n := w.node()
				ann := n.sit(1, "ann") // keeps the room's order going
				bob := n.enter(2, "bob")
				synctest.Wait()
				if c.hold {
					bob.room.Hold(bob.seat)
				}
				last := bob.at.Seq
				for range c.messages {
					last = ann.say(`"meanwhile"`)
				}
				synctest.Wait()
				if got := bob.room.Sit(bob.seat, bob.at.Epoch, bob.at.Seq, bob.at.Seq); got != c.want {
					t.Fatalf("seated %t, want %t", got, c.want)
				}
				if !c.want {
					bob.has("not seated", 1, 0)
					return
				}
				bob.has("seated", bob.at.Seq+1, last)
				if epoch, seq := bob.room.Delivered(bob.seat); epoch != bob.at.Epoch || seq != last {
					t.Errorf("delivered up to %s/%d, want %s/%d", epoch, seq, bob.at.Epoch, last)
				}
				last = ann.say(`"live"`)
				synctest.Wait()
				bob.has("live", bob.at.Seq+1, last)
			})
		})
	}
}

// A member reads the log while others go on talking, and is seated as soon as
// what it has read meets what is at hand.
func TestHold_ReplayMeetsTheLiveOrderWhileOthersTalk(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n := w.node()
		ann := n.sit(1, "ann")
		bob := n.enter(2, "bob")
		bob.room.Hold(bob.seat)
		talked := make(chan uint64)
		go func() {
			last := uint64(0)
			for range 2000 {
				last = ann.say(`"x"`)
			}
			talked <- last
		}()
		var got []uint64
		pos := bob.at.Seq
		for !bob.room.Sit(bob.seat, bob.at.Epoch, pos, bob.at.Seq) {
			page, err := n.store.Read(t.Context(), lobby, pos+1, math.MaxInt64, 50)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page.Entries {
				got = append(got, e.Seq)
				pos = e.Seq
			}
		}
		bob.room.Release()
		last := <-talked
		synctest.Wait()
		got = append(got, bob.seqs()...)
		var want []uint64
		for seq := bob.at.Seq + 1; seq <= last; seq++ {
			want = append(want, seq)
		}
		if !slices.Equal(got, want) {
			t.Errorf("read and heard %v, want %d..%d", got, bob.at.Seq+1, last)
		}
	})
}

// Ephemeral events are in no log: who is in, but has no seat yet, has those that
// were sent since it came in.
func TestHold_EphemeralEventsWaitForASeat(t *testing.T) {
	const entry, brief = true, false
	for _, c := range []struct {
		name   string
		before []bool // what ann says before bob comes in
		after  []bool // and after, before he has a seat
		late   bool   // he was in before, but the room is held for him only after what was said before
		alone  bool   // nobody is seated at his node
		want   string // of all that was said; empty: as much of it as is kept
	}{
		{"after its join", nil, []bool{brief, brief}, false, false, "a b"},
		{"at a node without an order, where entries wait", nil, []bool{brief, entry, brief}, false, true, "a c b"},
		{"among entries, in order", nil, []bool{entry, brief, entry, brief}, false, false, "a b c d"},
		{"before its join", []bool{brief}, []bool{brief}, false, false, "b"},
		{"before its join, at a node without an order", []bool{brief}, []bool{entry}, false, true, "b"},
		{"before the room was held for it", []bool{brief}, []bool{brief}, true, false, "b"},
		{"as many as are kept", nil, slices.Repeat([]bool{brief}, recentMax+1), false, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				n, other := w.node(), w.node()
				ann := other.sit(1, "ann")
				if !c.alone {
					n.sit(3, "eve")
				}
				var said []string
				say := func(kinds []bool) {
					for _, kind := range kinds {
						data := string(rune('a' + len(said)%26))
						said = append(said, data)
						if kind == entry {
							ann.say(data)
						} else {
							ann.whisper(data)
						}
					}
					synctest.Wait()
				}
				room := n.Open(lobby)
				room.Hold(&hub.Seat{})
				<-room.Ready()
				var bob *guest
				if c.late { // he was in before, and comes back
					bob = n.enter(2, "bob")
					synctest.Wait()
					say(c.before)
					room.Hold(bob.seat)
				} else {
					say(c.before)
					bob = n.enter(2, "bob")
				}
				say(c.after)
				if !room.Sit(bob.seat, bob.at.Epoch, bob.at.Seq, bob.at.Seq) {
					t.Fatal("not seated")
				}
				want := strings.Fields(c.want)
				if c.want == "" {
					want = said[len(said)-recentMax:]
				}
				if got := bob.data(); !slices.Equal(got, want) {
					t.Fatalf("seated, he has %q, want %q", got, want)
				}
				ann.whisper("live")
				synctest.Wait()
				if got := bob.data(); !slices.Equal(got, append(want, "live")) {
					t.Errorf("in the end he has %q, want %q and what was live", got, want)
				}
			})
		})
	}
}

// Who has to read the log first has them behind what it has read, once.
func TestHold_EphemeralEventsWaitForAReplay(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n := w.node()
		ann := n.sit(1, "ann")
		bob := n.enter(2, "bob")
		bob.room.Hold(bob.seat)
		var last uint64
		for range recentMax {
			last = ann.say("x")
		}
		ann.whisper("brief")
		synctest.Wait()
		if bob.room.Sit(bob.seat, bob.at.Epoch, bob.at.Seq, bob.at.Seq) {
			t.Fatal("seated, though an entry is not at hand")
		}
		if got := bob.data(); len(got) != 0 {
			t.Fatalf("not seated, he has %q", got)
		}
		if !bob.room.Sit(bob.seat, bob.at.Epoch, last, bob.at.Seq) {
			t.Fatal("not seated where the node is")
		}
		if got := bob.data(); !slices.Equal(got, []string{"brief"}) {
			t.Errorf("seated behind the last entry, he has %q, want what was brief", got)
		}
	})
}
