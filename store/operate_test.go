package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func names(rooms []RoomState) (out []string) {
	for _, r := range rooms {
		out = append(out, r.Room)
	}
	return out
}

func TestRooms_AreListedByNameAndPage(t *testing.T) {
	each(t, Config{LogTTL: 50 * time.Millisecond}, func(t *testing.T, s *Store) {
		var all []string
		for i := range 40 {
			all = append(all, fmt.Sprintf("a/%02d", i))
		}
		all = append(all, "a", "b", "a%", "ä", "a/\U0001F426", "a[*", "{a}", "gw:")
		for _, room := range all {
			join(t, s, room, member(1, "ann"))
		}
		join(t, s, "a", member(2, "bob"))
		listed(t, s, "", len(all))
		slices.Sort(all)
		var got []string
		for next, more := "", true; more; {
			var page []RoomState
			var err error
			if page, next, more, err = s.Rooms(t.Context(), "", next, 7); err != nil {
				t.Fatal(err)
			}
			if len(page) > 7 || len(page) == 0 {
				t.Fatalf("a page of %d", len(page))
			}
			got = append(got, names(page)...)
		}
		if !slices.Equal(got, all) {
			t.Errorf("listed %q\nwant %q", got, all)
		}
		page, _, more, err := s.Rooms(t.Context(), "a/0", "", 100)
		if err != nil || more || !slices.Equal(names(page), all[slices.Index(all, "a/00"):slices.Index(all, "a/10")]) {
			t.Errorf("with a prefix: %q, more %t, %v", names(page), more, err)
		}
		page, _, _, err = s.Rooms(t.Context(), "a", "", 1)
		if err != nil || len(page) != 1 || page[0].Members != 2 || page[0].Seq != 2 || page[0].Entries != 2 || page[0].Epoch == "" {
			t.Errorf("the first: %+v, %v", page, err)
		}
		if page, _, more, err = s.Rooms(t.Context(), "nothing", "", 5); err != nil || more || len(page) != 0 {
			t.Errorf("none: %v, %t, %v", page, more, err)
		}
		// A room that has ended is listed no more, and listed again when it begins anew.
		m := member(1, "ann")
		if _, err := s.Leave(t.Context(), "b", m, Known{}, "left", false); err != nil {
			t.Fatal(err)
		}
		late := time.After(10 * time.Second)
		for listed := true; listed; {
			page, _, _, err := s.Rooms(t.Context(), "b", "", 5)
			if err != nil {
				t.Fatal(err)
			}
			listed = len(page) > 0
			select {
			case <-late:
				t.Fatal("listed though it has ended")
			default:
			}
		}
		if n, err := s.rdb.ZScore(t.Context(), roomsKey(shardOf("b")), "b").Result(); err == nil {
			t.Errorf("the index has it still, with %v", n)
		}
		join(t, s, "b", m)
		listed(t, s, "b", 1)
	})
}

// listed waits until so many rooms are: no join waits for that, and in a Cluster
// another primary may have the list.
func listed(t *testing.T, s *Store, prefix string, rooms int) {
	t.Helper()
	for late := time.Now().Add(10 * time.Second); ; {
		page, _, _, err := s.Rooms(t.Context(), prefix, "", 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == rooms {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("%d rooms are listed, want %d", len(page), rooms)
		}
	}
}

func TestState_OfARoomThatIsNot(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		if _, err := s.State(t.Context(), "r"); !errors.Is(err, ErrWiped) {
			t.Errorf("%v, want %v", err, ErrWiped)
		}
	})
}

func TestSay_OnceForAKey(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		hi := Draft{Data: []byte(`"hi"`)}
		if _, err := s.Say(t.Context(), "r", "", hi); !errors.Is(err, ErrWiped) {
			t.Errorf("in no room: %v", err)
		}
		ann, bob := member(1, "ann"), member(2, "bob")
		join(t, s, "r", ann)
		join(t, s, "r", bob)
		first, err := s.Say(t.Context(), "r", "k", hi)
		if err != nil || first.Seq != 3 || first.TS == 0 || first.Dup {
			t.Fatalf("said: %+v, %v", first, err)
		}
		again, err := s.Say(t.Context(), "r", "k", hi)
		if err != nil || again.Seq != 3 || again.TS != first.TS || !again.Dup {
			t.Errorf("again: %+v, %v", again, err)
		}
		for name, d := range map[string]Draft{
			"other data": {Data: []byte(`"ho"`)}, "other type": {Data: hi.Data, Type: ptr(uint8(1))}, "to somebody": {Data: hi.Data, ToUser: ptr("ann")},
		} {
			if _, err := s.Say(t.Context(), "r", "k", d); !errors.Is(err, ErrMismatch) {
				t.Errorf("%s under the same key: %v", name, err)
			}
		}
		if other, err := s.Say(t.Context(), "r", "l", hi); err != nil || other.Seq != 4 {
			t.Errorf("another key: %+v, %v", other, err)
		}
		for range 2 { // without a key, each one counts
			if _, err := s.Say(t.Context(), "r", "", hi); err != nil {
				t.Error(err)
			}
		}
		for name, d := range map[string]Draft{
			"a user who is not there":        {ToUser: ptr("cy")},
			"a device that is not there":     {ToClient: ptr(uint32(3))},
			"a device that is another's":     {ToUser: ptr("bob"), ToClient: ptr(uint32(1))},
			"a name that begins like a user": {ToUser: ptr("an"), ToClient: ptr(uint32(1))},
		} {
			d.Data = hi.Data
			if _, err := s.Say(t.Context(), "r", "", d); !errors.Is(err, ErrNoRecipient) {
				t.Errorf("to %s: %v", name, err)
			}
		}
		sent, err := s.Say(t.Context(), "r", "", Draft{Data: hi.Data, ToUser: ptr("bob"), ToClient: ptr(uint32(2)), Type: ptr(uint8(7))})
		if err != nil {
			t.Fatal(err)
		}
		p, err := s.Read(t.Context(), "r", sent.Seq, sent.Seq, 1)
		if err != nil || len(p.Entries) != 1 {
			t.Fatal(err)
		}
		if e := p.Entries[0]; e.Kind != "message" || e.User != "" || e.Client != 0 || *e.ToUser != "bob" || *e.ToClient != 2 || *e.Type != 7 || string(e.Data) != `"hi"` {
			t.Errorf("the entry: %+v", e)
		}
	})
}

func TestSay_IntoARoomWithoutMembersDoesNotKeepIt(t *testing.T) {
	each(t, Config{LogTTL: time.Hour}, func(t *testing.T, s *Store) {
		join(t, s, "r", member(1, "ann"))
		if _, err := s.Leave(t.Context(), "r", member(1, "ann"), Known{}, "left", false); err != nil {
			t.Fatal(err)
		}
		k := keysOfRoom("r")
		s.rdb.Del(t.Context(), k.log()) // trimmed away
		if _, err := s.Say(t.Context(), "r", "", Draft{Data: []byte("1")}); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{k.meta(), k.log()} {
			if ttl, err := s.rdb.PTTL(t.Context(), key).Result(); err != nil || ttl <= 0 || ttl > time.Hour {
				t.Errorf("%s lives for %s, %v", key, ttl, err)
			}
		}
	})
}

func TestKick_TakesOneClientOutOnce(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		ann, bob := member(1, "ann"), member(2, "bob")
		ann.Gen = 7
		join(t, s, "r", ann)
		join(t, s, "r", bob)
		s.rdb.SAdd(t.Context(), sessionRoomsKey(ann.Session), "r", "other")
		if err := s.Kick(t.Context(), "r", 1); err != nil {
			t.Fatal(err)
		}
		if err := s.Kick(t.Context(), "r", 1); !errors.Is(err, ErrNotMember) {
			t.Errorf("again: %v", err)
		}
		if err := s.Kick(t.Context(), "nowhere", 1); !errors.Is(err, ErrNotMember) {
			t.Errorf("from no room: %v", err)
		}
		p, err := s.Read(t.Context(), "r", 1, 9, 9)
		if err != nil || len(p.Entries) != 3 {
			t.Fatalf("%d entries, %v", len(p.Entries), err)
		}
		if e := p.Entries[2]; e.Kind != "leave" || e.Reason != "kicked" || e.Client != 1 || e.User != "ann" {
			t.Errorf("the entry: %+v", e)
		}
		if left := s.rdb.SMembers(t.Context(), sessionRoomsKey(ann.Session)).Val(); !slices.Equal(left, []string{"other"}) {
			t.Errorf("the session lists %v", left)
		}
		if r := join(t, s, "r", ann); r.Count != 2 || !r.New { // nobody keeps it out
			t.Errorf("joined again: %+v", r)
		}
	})
}

func TestCloseRoom_PutsAllOutWithOneEntry(t *testing.T) {
	each(t, Config{LogTTL: time.Hour}, func(t *testing.T, s *Store) {
		if err := s.CloseRoom(t.Context(), "r"); !errors.Is(err, ErrWiped) {
			t.Errorf("no room: %v", err)
		}
		for i := range uint32(5) {
			m := member(i+1, "user "+strings.Repeat("x", int(i)))
			join(t, s, "r", m)
			s.rdb.SAdd(t.Context(), sessionRoomsKey(m.Session), "r", "other")
		}
		before, err := s.State(t.Context(), "r")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.CloseRoom(t.Context(), "r"); err != nil {
			t.Fatal(err)
		}
		if err := s.CloseRoom(t.Context(), "r"); !errors.Is(err, ErrEmpty) {
			t.Errorf("again: %v", err)
		}
		after, err := s.State(t.Context(), "r")
		if err != nil || after.Members != 0 || after.InCall || after.Seq != before.Seq+1 || after.Epoch != before.Epoch {
			t.Errorf("%+v became %+v, %v", before, after, err)
		}
		p, err := s.Read(t.Context(), "r", after.Seq, after.Seq, 1)
		if err != nil || len(p.Entries) != 1 || p.Entries[0].Kind != "leave" || p.Entries[0].Reason != "closed" || p.Entries[0].User != "" || p.Entries[0].Client != 0 {
			t.Errorf("the entry: %+v, %v", p.Entries, err)
		}
		for i := range uint32(5) {
			if left := s.rdb.SMembers(t.Context(), sessionRoomsKey(member(i+1, "").Session)).Val(); !slices.Equal(left, []string{"other"}) {
				t.Errorf("session %d lists %v", i+1, left)
			}
		}
		if ttl := s.rdb.PTTL(t.Context(), keysOfRoom("r").meta()).Val(); ttl <= 0 {
			t.Errorf("the room lives for ever: %s", ttl)
		}
		if r := join(t, s, "r", member(1, "ann")); r.Seq != after.Seq+1 || r.Epoch != after.Epoch || r.Count != 1 {
			t.Errorf("joined again: %+v", r)
		}
	})
}
