package address

import "testing"

func ptr[T any](v T) *T { return &v }

func TestReceives(t *testing.T) {
	ann1, ann2, bob := Reader{User: "ann", Client: 1}, Reader{User: "ann", Client: 2}, Reader{User: "bob", Client: 3}
	late := Reader{User: "bob", Client: 3, Since: 10}
	open := Reader{User: "bob", Client: 3, Since: 10, Open: true}
	msg := func(e Entry) Entry { e.Message, e.Client, e.User = true, 1, "ann"; return e }
	for _, c := range []struct {
		name  string
		entry Entry
		who   Reader
		live  bool // receives
		past  bool // finds it in history
	}{
		{"everyone", msg(Entry{Seq: 5}), bob, true, true},
		{"the sender gets no echo", msg(Entry{Seq: 5}), ann1, false, true},
		{"the sender's other device", msg(Entry{Seq: 5}), ann2, true, true},
		{"to a user", msg(Entry{Seq: 5, ToUser: ptr("bob")}), bob, true, true},
		{"to another user", msg(Entry{Seq: 5, ToUser: ptr("cy")}), bob, false, false},
		{"the user sent it to another", msg(Entry{Seq: 5, ToUser: ptr("cy")}), ann2, false, true},
		{"to own user: the other device", msg(Entry{Seq: 5, ToUser: ptr("ann")}), ann2, true, true},
		{"to own user: not the sender", msg(Entry{Seq: 5, ToUser: ptr("ann")}), ann1, false, true},
		{"to a client", msg(Entry{Seq: 5, ToClient: ptr(uint32(3))}), bob, true, true},
		{"to another client", msg(Entry{Seq: 5, ToClient: ptr(uint32(4))}), bob, false, false},
		{"both match", msg(Entry{Seq: 5, ToUser: ptr("bob"), ToClient: ptr(uint32(3))}), bob, true, true},
		{"only the client matches", msg(Entry{Seq: 5, ToUser: ptr("cy"), ToClient: ptr(uint32(3))}), bob, false, false},
		{"only the user matches", msg(Entry{Seq: 5, ToUser: ptr("bob"), ToClient: ptr(uint32(4))}), bob, false, false},
		{"before its join", msg(Entry{Seq: 10}), late, false, false},
		{"after its join", msg(Entry{Seq: 11}), late, true, true},
		{"before its join, past open", msg(Entry{Seq: 10}), open, true, true},
		{"an own message before this join", Entry{Seq: 10, Message: true, Client: 9, User: "bob"}, late, false, false},
		{"ephemeral", msg(Entry{}), late, true, true},
		{"another's join", Entry{Seq: 5, Client: 1, User: "ann"}, bob, true, true},
		{"own join", Entry{Seq: 5, Client: 3, User: "bob"}, bob, false, false},
		{"another's leave", Entry{Seq: 5, Client: 1, Leave: "left"}, bob, true, true},
		{"own leave", Entry{Seq: 5, Client: 3, Leave: "left"}, bob, false, false},
		{"own kick", Entry{Seq: 5, Client: 3, Leave: "kicked"}, bob, true, true},
		{"the room is closed", Entry{Seq: 5, Leave: "closed"}, bob, true, true},
		{"call", Entry{Seq: 5}, bob, true, true},
		{"from the system", Entry{Seq: 5, Message: true}, bob, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Receives(c.entry, c.who); got != c.live {
				t.Errorf("Receives(%+v, %+v) = %v, want %v", c.entry, c.who, got, c.live)
			}
			if got := Remembers(c.entry, c.who); got != c.past {
				t.Errorf("Remembers(%+v, %+v) = %v, want %v", c.entry, c.who, got, c.past)
			}
		})
	}
}
