package store

import (
	"errors"
	"slices"
	"testing"
	"time"
)

func TestRegain_ASessionHasItsRoomsAndItsDeviceAtItsGen(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		old := begin(t, s, "sid", "ann", "r1", "r2").Member()
		present(t, s, old, "r1", "r2")
		if err := s.PutContacts(t.Context(), "ann", []string{"bob"}); err != nil {
			t.Fatal(err)
		}
		second := sent(t, s, "r1", old, Draft{CSeq: 1, Data: []byte("1")})
		sent(t, s, "r1", old, Draft{CSeq: 2, Data: []byte("2")})
		c, err := s.Claim(t.Context(), "sid", HashSecret("secret"), there, "")
		if err != nil {
			t.Fatal(err)
		}
		m, epoch := c.Member(), Known{Epoch: second.Epoch}
		ask := func(after uint64, open bool) Returned {
			t.Helper()
			got, err := s.Regain(t.Context(), m, &Attaching{Last: online, Contacts: true}, []Return{{Room: "r1", Known: epoch, After: &after, Open: open}, {Room: "r2"}, {Room: "none"}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got.Self.Value != 3 || got.Device.Set != online || !slices.Equal(got.Contacts, []string{"bob"}) {
				t.Errorf("self %+v, device %+v, contacts %v", got.Self, got.Device, got.Contacts)
			}
			if r := got.Rooms[1]; r.Err != nil || r.Goes || r.Seq != 1 {
				t.Errorf("without a position: %+v", r)
			}
			if err := got.Rooms[2].Err; !errors.Is(err, ErrWiped) {
				t.Errorf("no such room: %v", err)
			}
			return got.Rooms[0]
		}
		if r := ask(2, false); r.Err != nil || !r.Goes || r.From != 2 || r.TS != second.TS || !r.Next || r.Seq != 3 || r.CSeq != 2 {
			t.Errorf("after the first message: %+v", r)
		}
		if r := ask(3, false); !r.Goes || r.From != 3 || r.Next {
			t.Errorf("at the head: %+v", r)
		}
		if r := ask(4, false); r.Goes {
			t.Errorf("past the head: %+v", r)
		}
		if r := ask(0, false); !r.Goes || r.From != 1 || !r.Next {
			t.Errorf("before its join: %+v", r)
		}
		if r := ask(0, true); !r.Goes || r.From != 0 || r.TS != 0 || !r.Next {
			t.Errorf("before its join, where the past is open: %+v", r)
		}
		epoch.Epoch = "another"
		if r := ask(2, false); r.Err != nil || r.Goes {
			t.Errorf("of another epoch: %+v", r)
		}
		if _, err := send(s, "r1", old, Known{}, Draft{CSeq: 3}); !errors.Is(err, ErrMoved) {
			t.Errorf("the old gen sends: %v", err)
		}
		if _, _, err := s.AttachDevice(t.Context(), old, Attaching{}); !errors.Is(err, ErrMoved) {
			t.Errorf("the old gen's device: %v", err)
		}
	})
}

// What the log no longer holds by its age is not there.
func TestRegain_WhatIsTooOldIsNoPlaceToGoOnFrom(t *testing.T) {
	each(t, Config{LogAge: time.Nanosecond}, func(t *testing.T, s *Store) {
		m := begin(t, s, "sid", "ann", "r").Member()
		first := sent(t, s, "r", m, Draft{Data: []byte("1")})
		sent(t, s, "r", m, Draft{Data: []byte("2")})
		for now := time.Now().UnixMilli(); time.Now().UnixMilli() <= now+1; {
			if err := s.Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		after := first.Seq
		got, err := s.Regain(t.Context(), m, nil, []Return{{Room: "r", Known: Known{Epoch: first.Epoch}, After: &after}}, nil)
		if err != nil || got.Rooms[0].Next || got.Rooms[0].TS != 0 {
			t.Errorf("%+v, %v", got.Rooms, err)
		}
	})
}

func TestRegain_TheNodeThatHadItIsToldAndListsItNoMore(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		sub, e := listen(t, s)
		follow(t, sub, "any") // it hears its own channel, too
		was := sub.ref
		begin(t, s, "sid", "ann")
		if _, err := s.Claim(t.Context(), "sid", HashSecret("secret"), was, ""); err != nil {
			t.Fatal(err)
		}
		c, err := s.Claim(t.Context(), "sid", HashSecret("secret"), there, "")
		if err != nil {
			t.Fatal(err)
		}
		from := &Departed{Node: was, Word: &Word{What: WordReplaced, Session: "sid", Gen: c.Gen}}
		if _, err := s.Regain(t.Context(), c.Member(), nil, nil, from); err != nil {
			t.Fatal(err)
		}
		e.until(t, "the word", func() bool { return len(e.words) == 1 && e.words[0] == *from.Word })
		if owned, err := s.Owned(t.Context(), was, 9); err != nil || len(owned) != 0 {
			t.Errorf("the old owner's list: %v, %v", owned, err)
		}
		// It is back there before the other has said so.
		if _, err := s.Claim(t.Context(), "sid", HashSecret("secret"), was, ""); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Regain(t.Context(), c.Member(), nil, nil, from); err != nil {
			t.Fatal(err)
		}
		if owned, err := s.Owned(t.Context(), was, 9); err != nil || !slices.Equal(owned, []string{"sid"}) {
			t.Errorf("a session that lives there is listed in %v, %v", owned, err)
		}
	})
}
