package store

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// opened is a session that was begun, with its device.
func opened(t *testing.T, s *Store, sid, user string) Begun {
	t.Helper()
	b, begun, err := s.Begin(t.Context(), Session{ID: sid, User: user, Gen: 1, Owner: here, Expires: time.Now().Add(time.Hour).Truncate(time.Millisecond), Presence: 131})
	if err != nil || !begun {
		t.Fatalf("begin %s: %v, %v", sid, begun, err)
	}
	return b
}

func TestBegin_IsASessionWithItsDeviceAndItsContacts(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		if err := s.PutContacts(t.Context(), "ann", []string{"bob", "cy"}); err != nil {
			t.Fatal(err)
		}
		e := hearing(t, s, []string{"ann", "bob"}, nil)
		b := opened(t, s, "sid", "ann")
		rec, rooms, err := s.Peek(t.Context(), "sid")
		want := b.Session
		want.State = StateLive
		if err != nil || len(rooms) != 0 || fmt.Sprintf("%+v", rec) != fmt.Sprintf("%+v", want) {
			t.Errorf("record %+v, %v, %v; want %+v", rec, rooms, err, want)
		}
		if slices.Sort(b.Contacts); !slices.Equal(b.Contacts, []string{"bob", "cy"}) {
			t.Errorf("contacts %v", b.Contacts)
		}
		if b.Self.Value != 3 || b.Self.PV == 0 || b.Device.Set != online {
			t.Errorf("device %+v, self %+v", b.Device, b.Self)
		}
		if owned, err := s.Owned(t.Context(), here, 9); err != nil || !slices.Equal(owned, []string{"sid"}) {
			t.Errorf("the owner's list: %v, %v", owned, err)
		}
		if u := user(t, s, "ann"); len(u.Devices) != 1 || !slices.Equal(u.Sessions, []string{"sid"}) || u.Presence != b.Self {
			t.Errorf("the user: %+v", u)
		}
		// Her other device is told of a change, and she only when there is one.
		two := opened(t, s, "sid2", "ann")
		if _, _, err := s.SetPresence(t.Context(), two.Member(), away); err != nil {
			t.Fatal(err)
		}
		busy := away
		busy.Auto = false
		if _, _, err := s.SetPresence(t.Context(), two.Member(), busy); err != nil {
			t.Fatal(err)
		}
		e.until(t, "the change", func() bool { return len(e.said("ann")) > 0 })
		if got, want := e.all("ann"), []string{"ann 2"}; !slices.Equal(got, want) {
			t.Errorf("said %v, want %v", got, want)
		}
	})
}

// What everybody was told of is noted as said, whoever it was.
func TestBegin_LeavesNothingUnsaid(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		if err := s.PutContacts(t.Context(), "bob", []string{"ann"}); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"ann", "cy"} { // with somebody who watches, and without
			b := opened(t, s, "s "+name, name)
			said, err := s.rdb.HGet(t.Context(), keysOfUser(name).presence(), "said").Uint64()
			if err != nil || said != b.Self.PV {
				t.Errorf("%s: said %d, %v; want %d", name, said, err, b.Self.PV)
			}
		}
	})
}

// A step that refuses ends a chain: what follows it is not done.
func TestChain_EndsAtTheStepThatRefuses(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		m := opened(t, s, "sid", "ann").Member()
		for i, want := range []error{nil, ErrTooManyRooms} {
			r, err := s.Admit(t.Context(), fmt.Sprint("r", i), m, Known{}, 1)
			if !errors.Is(err, want) || (err == nil) != r.New {
				t.Errorf("room %d of 1: %+v, %v, want %v", i+1, r, err, want)
			}
		}
		if _, err := s.Admit(t.Context(), "r2", m.at(0), Known{}, 9); !errors.Is(err, ErrMoved) {
			t.Errorf("at an old gen: %v", err)
		}
		for _, room := range []string{"r1", "r2"} {
			if n, err := s.rdb.Exists(t.Context(), keysOfRoom(room).meta()).Result(); err != nil || n != 0 {
				t.Errorf("%s is there: %d, %v", room, n, err)
			}
		}
		if all, err := s.rdb.SMembers(t.Context(), keysOfUser("ann").rooms()).Result(); err != nil || !slices.Contains(all, roomEntry(m.Client, "r0")) || slices.Contains(all, roomEntry(m.Client, "r1")) {
			t.Errorf("rooms of the user: %v, %v", all, err)
		}
		if _, err := s.rdb.ZScore(t.Context(), roomsKey(shardOf("r0")), "r0").Result(); err != nil {
			t.Errorf("the room is not listed: %v", err)
		}
	})
}

func TestAdmit_ThatTheRoomRefusesLeavesTheRecordWithoutIt(t *testing.T) {
	each(t, Config{MaxMembers: 1}, func(t *testing.T, s *Store) {
		join(t, s, "r", member(1, "bob"))
		m := opened(t, s, "sid", "ann").Member()
		if _, err := s.Admit(t.Context(), "r", m, Known{}, 9); !errors.Is(err, ErrRoomFull) {
			t.Errorf("a full room: %v", err)
		}
		if _, rooms, err := s.Peek(t.Context(), "sid"); err != nil || len(rooms) != 0 {
			t.Errorf("the record names %v, %v", rooms, err)
		}
		if n, err := s.rdb.SCard(t.Context(), keysOfUser("ann").rooms()).Result(); err != nil || n != 0 {
			t.Errorf("the user has %d rooms, %v", n, err)
		}
	})
}
