package binary_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"godwit/e2e/raw"
	"godwit/internal/trial"
	"godwit/wire"
)

// watch is a new statusd session of the user; it has heard all but its own value.
func watch(t *testing.T, f *trial.Fleet, user string, presence byte) *peer {
	t.Helper()
	p := open(t, f, "/v1/statusd", bearer(user))
	p.say([]byte{0x01, 1, 0, presence, 0})
	return p
}

func TestStatusd_TellsContactsThenItselfThenChanges(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
		st := f.Nodes[0].Store
		first := handleOf(t, f, "cy")
		f.Redis.Set("gw:{h:"+first+"}:user", "another cy") // whose handle cy cannot have
		cy := ws(t, f, "", "cy")
		bobs := handleOf(t, f, "bob")
		if err := st.PutContacts(t.Context(), "ann", []string{"bob", "cy", "dan"}); err != nil {
			t.Fatal(err)
		}
		bob := watch(t, f, "bob", 0x85)
		bob.hears("10" + raw.Nobody + "05")
		ann := watch(t, f, "ann", 2)
		ann.hears("10" + bobs + "05")
		ann.hears("10" + cy.is.Handle + "03")
		ann.hears("10" + raw.Nobody + "02")
		bob.quiet() // ann is no contact of bob's
		bob.say(raw.Hex("11 01"))
		bob.hears("10" + raw.Nobody + "01")
		ann.hears("10" + bobs + "01")
		bob.say(raw.Hex("11 01 11 ff")) // the same, then a timer's
		bob.hears("10" + raw.Nobody + "7f")
		ann.hears("10" + bobs + "7f")
		phone := watch(t, f, "bob", 0x87) // a timer's, and less chatty
		phone.hears("10" + raw.Nobody + "7f")
		bob.say(raw.Hex("11 82")) // now it is the more chatty
		bob.hears("10" + raw.Nobody + "07")
		phone.hears("10" + raw.Nobody + "07")
		ann.hears("10" + bobs + "07")
		phone.Drop()
		time.Sleep(40 * time.Second)
		bob.hears("10" + raw.Nobody + "02")
		ann.hears("10" + bobs + "02")
		dan := watch(t, f, "dan", 9)
		dan.hears("10" + raw.Nobody + "09")
		ann.hears("10" + handleOf(t, f, "dan") + "09")
		bob.Drop()
		time.Sleep(40 * time.Second)
		ann.hears("10" + bobs + "00")
		ann.quiet()
	})
}

func TestStatusd_MoreThanAJSONAnswerHoldsComesBeforeItself(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
		const n = wire.PresenceTold + 20
		var all []string
		for i := range n {
			user := string(rune('a'+i%26)) + string(rune('a'+i/26))
			all = append(all, user)
			watch(t, f, user, 1).hears("10" + raw.Nobody + "01")
		}
		if err := f.Nodes[0].Store.PutContacts(t.Context(), "ann", all); err != nil {
			t.Fatal(err)
		}
		ann := watch(t, f, "ann", 3)
		for i := range n {
			if b := ann.next(); b[0] != 0x10 || b[9] != 1 || string(b[1:9]) == string(raw.Hex(raw.Nobody)) {
				t.Fatalf("PRES %d is %x", i, b)
			}
		}
		ann.hears("10" + raw.Nobody + "03")
		ann.quiet()
	})
}

func TestChatd_IsNoDeviceOfItsUserButShowsIt(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
		ann := ws(t, f, "lobby", "ann")
		told := func() (got []uint8) {
			time.Sleep(5 * time.Second) // virtual: all that was caused has come
			for ann.Untaken() > 0 {
				n, err := ann.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				var p wire.Presence
				if n.Method == "presence" && json.Unmarshal(n.Params, &p) == nil && p.User == "bob" {
					got = append(got, p.Presence)
				}
			}
			return got
		}
		bobs := watch(t, f, "bob", 0x84)
		bobs.hears("10" + raw.Nobody + "04")
		if got := told(); got != nil {
			t.Errorf("ann, who shares no room with bob, was told %v", got)
		}
		bob := enter(t, f, "lobby", "bob")
		if got := told(); !slices.Equal(got, []uint8{4}) {
			t.Errorf("with bob in the room ann was told %v, want 4", got)
		}
		bobs.quiet() // one that says nothing of presence is no device
		f.Redis.FlushAll()
		time.Sleep(5 * time.Second)
		bobs.quiet()               // nor does a wipe make it one
		bobs.say(raw.Hex("11 85")) // a timer's: what the user had set, on any device, would stay
		bobs.hears("10" + raw.Nobody + "05")
		if got := told(); !slices.Equal(got, []uint8{5}) {
			t.Errorf("ann was told %v of bob's change, want 5", got)
		}
		bob.quiet()
	})
}
