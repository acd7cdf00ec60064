package store

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"godwit/rules/presence"
)

func user(t *testing.T, s *Store, name string) User {
	t.Helper()
	u, err := s.User(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// chat opens a session without a device.
func chat(t *testing.T, s *Store, sid, name string) Session {
	t.Helper()
	b, _, err := s.Begin(t.Context(), Session{ID: sid, User: name, Gen: 1, Owner: here, Expires: time.Now().Add(time.Hour), Dialect: DialectChatd})
	if err != nil {
		t.Fatal(err)
	}
	return b.Session
}

func TestUser_HasItsDevicesAndAllItsSessions(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		const ann = "ann } 5"
		if u := user(t, s, ann); u.User != ann || u.PV != 0 || u.Value != 0 || len(u.Devices) != 0 || len(u.Sessions) != 0 {
			t.Errorf("never seen: %+v", u)
		}
		phone, tab := begin(t, s, "phone", ann), begin(t, s, "tab", ann)
		chat(t, s, "chat", ann)
		present(t, s, begin(t, s, "other", "ann").Member())
		present(t, s, phone.Member())
		byUser := presence.Set{Value: 1}
		set, p, err := s.SetPresence(t.Context(), tab.Member(), byUser)
		if err != nil {
			t.Fatal(err)
		}
		u := user(t, s, ann)
		if u.Presence != p || p.Value != 1 || !slices.Equal(u.Sessions, []string{"chat", "phone", "tab"}) || len(u.Devices) != 2 {
			t.Fatalf("%+v, want %+v with two devices and three sessions", u, p)
		}
		for _, want := range []Device{{Client: phone.Client, Session: "phone"}, {Client: tab.Client, Session: "tab", Device: set}} {
			i := slices.IndexFunc(u.Devices, func(d Device) bool { return d.Client == want.Client })
			if i < 0 {
				t.Fatalf("no client %d in %+v", want.Client, u.Devices)
			}
			if want.Session == "phone" {
				want.Device = presence.Device{Set: online, At: u.Devices[i].At}
			}
			if u.Devices[i] != want || u.Devices[i].At == 0 {
				t.Errorf("device %+v, want %+v", u.Devices[i], want)
			}
		}
		if u.Devices[0].Client > u.Devices[1].Client {
			t.Errorf("devices out of order: %+v", u.Devices)
		}
	})
}

func TestUser_ASessionIsListedUntilItEndsAndNotByALateWriteOfItsRecord(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		rec := chat(t, s, "chat", "ann")
		for _, sid := range []string{"s1", "s2"} {
			present(t, s, begin(t, s, sid, "ann").Member())
		}
		if err := s.Create(t.Context(), rec, []string{"r"}); err != nil { // as after a wipe
			t.Fatal(err)
		}
		for i, sid := range []string{"chat", "s1", "s2"} {
			if got, want := user(t, s, "ann").Sessions, []string{"chat", "s1", "s2"}[i:]; !slices.Equal(got, want) {
				t.Errorf("sessions %v, want %v", got, want)
			}
			if err := s.End(t.Context(), sid, Always, "kicked"); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Create(t.Context(), rec, nil); err != nil {
			t.Fatal(err)
		}
		if u := user(t, s, "ann"); len(u.Sessions) != 0 || len(u.Devices) != 0 || u.Value != 0 {
			t.Errorf("signed out: %+v", u)
		}
	})
}

func TestUser_ARecordThatIsRefusedListsNothing(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		rec := chat(t, s, "chat", "ann")
		if _, err := s.Claim(t.Context(), "chat", "", there, ""); err != nil {
			t.Fatal(err)
		}
		s.rdb.Del(t.Context(), keysOfUser("ann").sessions())
		if err := s.Create(t.Context(), rec, nil); !errors.Is(err, ErrMoved) {
			t.Errorf("a record of an older gen: %v, want %v", err, ErrMoved)
		}
		if u := user(t, s, "ann"); len(u.Sessions) != 0 {
			t.Errorf("listed all the same: %v", u.Sessions)
		}
	})
}

func TestUser_ARowThatCannotBeReadIsAnErrorThatTellsWhich(t *testing.T) {
	s := open(t, Config{})
	for _, row := range []string{"", "1", "1 2 3", "x 2 3 s", "1 256 3 s"} {
		s.rdb.HSet(t.Context(), keysOfUser("ann").devices(), "7", row)
		if u, err := s.User(t.Context(), "ann"); err == nil || errors.Is(err, ErrUnavailable) {
			t.Errorf("%q is read as %s, %v", row, fmt.Sprint(u.Devices), err)
		}
	}
}
