package hub

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"godwit/rules/address"
	"godwit/store"
	"godwit/wire"
)

// ear remembers the seqs it got.
type ear struct{ got []uint64 }

func (e *ear) Deliver(ev *wire.RoomEvent)                                          { e.got = append(e.got, ev.Seq) }
func (e *ear) Reset(wire.Reset)                                                    {}
func (e *ear) Expelled(string, *Seat)                                              {}
func (e *ear) Rejoin(context.Context, string, store.Known) (r store.Room, _ error) { return r, nil }

func seat(client uint32, user string, after uint64) (*Seat, *ear) {
	e := &ear{}
	return &Seat{Ear: e, Reader: address.Reader{User: user, Client: client, Open: true}, Epoch: "e", After: after}, e
}

func message(seq uint64, from uint32, to *wire.To) *wire.RoomEvent {
	return &wire.RoomEvent{Room: "r", Seq: seq, Kind: wire.KindMessage, From: wire.Member{User: "ann", Client: from}, To: to}
}

func TestSeats_DeliverGoesToWhoIsAddressedAndNotToTheSender(t *testing.T) {
	bob, nobody := "bob", "nobody"
	two, nine := uint32(2), uint32(9)
	for _, c := range []struct {
		name string
		to   *wire.To
		want []uint32
	}{
		{"everyone", nil, []uint32{2, 3, 4}},
		{"a user", &wire.To{User: &bob}, []uint32{2, 3}},
		{"a device", &wire.To{Client: &two}, []uint32{2}},
		{"both", &wire.To{User: &bob, Client: &two}, []uint32{2}},
		{"a device of another user", &wire.To{User: &nobody, Client: &two}, nil},
		{"a device that is not there", &wire.To{Client: &nine}, nil},
	} {
		var seats Seats
		ears := map[uint32]*ear{}
		for client, user := range map[uint32]string{1: "ann", 2: "bob", 3: "bob", 4: "eve"} {
			s, e := seat(client, user, 0)
			seats.Put(s)
			ears[client] = e
		}
		told, _ := seats.Deliver("e", message(5, 1, c.to))
		var got []uint32
		for client, e := range ears {
			if len(e.got) > 0 {
				got = append(got, client)
			}
		}
		if slices.Sort(got); !slices.Equal(got, c.want) || told != len(c.want) {
			t.Errorf("%s: delivered to %v, says %d, want %v", c.name, got, told, c.want)
		}
	}
}

func TestSeats_ASeatGetsWhatComesAfterItsPosition(t *testing.T) {
	var seats Seats
	early, old := seat(2, "bob", 3)
	seats.Put(early)
	other, elsewhere := seat(3, "eve", 0)
	other.Epoch = "another"
	seats.Put(other)
	for seq := range uint64(6) {
		seats.Deliver("e", message(seq, 1, nil)) // seq 0 is ephemeral
	}
	if !slices.Equal(old.got, []uint64{0, 4, 5}) || !slices.Equal(elsewhere.got, []uint64{0}) {
		t.Errorf("got %v and %v, want what follows 3, and the ephemeral one alone", old.got, elsewhere.got)
	}
}

func TestSeats_WhoIsPutOutIsNamed(t *testing.T) {
	leave := func(reason string, client uint32) *wire.RoomEvent {
		return &wire.RoomEvent{Room: "r", Seq: 9, Kind: wire.KindLeave, Reason: reason, From: wire.Member{Client: client}}
	}
	for _, c := range []struct {
		ev   *wire.RoomEvent
		want []uint32
	}{
		{leave(wire.LeftKicked, 2), []uint32{2}},
		{leave(wire.LeftClosed, 0), []uint32{2, 3}},
		{leave(wire.LeftByChoice, 2), nil},
		{leave(wire.LeftLost, 2), nil},
	} {
		var seats Seats
		for client := range map[uint32]bool{2: true, 3: true} {
			s, _ := seat(client, "u", 0)
			seats.Put(s)
		}
		var got []uint32
		_, out := seats.Deliver("e", c.ev)
		for _, s := range out {
			got = append(got, s.Reader.Client)
		}
		if slices.Sort(got); !slices.Equal(got, c.want) {
			t.Errorf("leave (%s) of %d puts out %v, want %v", c.ev.Reason, c.ev.From.Client, got, c.want)
		}
	}
}

// Whoever comes and goes, exactly the latest seat of each client is there.
func TestSeats_ComingAndGoing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var seats Seats
		there := map[uint32]*Seat{}
		var all []*Seat
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			client := uint32(rapid.IntRange(1, 5).Draw(t, "client"))
			if len(all) == 0 || rapid.Bool().Draw(t, "comes") {
				s, _ := seat(client, fmt.Sprint(client), 0)
				seats.Put(s)
				there[client] = s
				all = append(all, s)
			} else {
				s := all[rapid.IntRange(0, len(all)-1).Draw(t, "which")] // maybe one of earlier
				seats.Remove(s)
				if there[s.Reader.Client] == s {
					delete(there, s.Reader.Client)
				}
			}
			if seats.Len() != len(there) || len(seats.All()) != len(there) {
				t.Fatalf("%d seats, want %d", seats.Len(), len(there))
			}
			for _, s := range all {
				if seats.Has(s) != (there[s.Reader.Client] == s) {
					t.Fatalf("client %d: seat there %t", s.Reader.Client, seats.Has(s))
				}
			}
		}
	})
}

func TestRegistry_RemoveTakesOnlyThisSession(t *testing.T) {
	r := NewRegistry[*int]()
	old, now := new(int), new(int)
	if _, replaced := r.Put("s", old); replaced {
		t.Error("nobody was replaced")
	}
	if was, replaced := r.Put("s", now); !replaced || was != old {
		t.Errorf("replaced %p %t, want %p", was, replaced, old)
	}
	if was, replaced, newest := r.Advance("s", old, func(*int) bool { return false }); newest || replaced || was != now {
		t.Errorf("an older one took its place: %p %t %t", was, replaced, newest)
	}
	if was, replaced, newest := r.Advance("s", now, func(*int) bool { return true }); !newest || !replaced || was != now {
		t.Errorf("a newer one did not: %p %t %t", was, replaced, newest)
	}
	r.Remove("s", old)
	if got, ok := r.Find("s"); !ok || got != now || r.Len() != 1 || len(r.All()) != 1 {
		t.Errorf("found %p %t, want the newer one", got, ok)
	}
	r.Remove("s", now)
	if _, ok := r.Find("s"); ok || r.Len() != 0 {
		t.Error("still there")
	}
}

// A message's delivery to one more member makes no garbage.
func TestDeliver_AllocatesNothingForAMember(t *testing.T) {
	ev := message(1, 1, nil)
	allocs := func(members int) float64 {
		var seats Seats
		for i := range members {
			s, _ := seat(uint32(i+2), fmt.Sprint(i), 0)
			s.Ear = silent{}
			seats.Put(s)
		}
		return testing.AllocsPerRun(100, func() { seats.Deliver("e", ev) })
	}
	const members = 1000
	if few, many := allocs(1), allocs(members); many-few > members/4 {
		t.Errorf("%.0f allocations for one member and %.0f for %d, want none for each", few, many, members)
	}
}

// BenchmarkDeliver is one message to 1,000 members of a node.
func BenchmarkDeliver(b *testing.B) {
	var seats Seats
	for i := range 1000 {
		s, _ := seat(uint32(i+2), fmt.Sprint(i), 0)
		s.Ear = silent{}
		seats.Put(s)
	}
	ev := message(1, 1, nil)
	b.ReportAllocs()
	for b.Loop() {
		seats.Deliver("e", ev)
	}
}

type silent struct{}

func (silent) Deliver(*wire.RoomEvent) {}
func (silent) Reset(wire.Reset)        {}
func (silent) Expelled(string, *Seat)  {}
func (silent) Rejoin(context.Context, string, store.Known) (r store.Room, _ error) {
	return r, nil
}
