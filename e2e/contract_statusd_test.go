package e2e

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"godwit/e2e/fleet"
	"godwit/e2e/raw"
	"godwit/wire"
)

// watch is a new statusd session of the user; what it is told is still to come.
func watch(t *testing.T, n *fleet.Node, user string, presence byte) *chatter {
	t.Helper()
	c, err := raw.DialStatusd(strings.TrimSuffix(n.URL, "/v1/ws")+"/v1/statusd", bearer(fleet.Token(user, time.Hour)))
	if err != nil {
		t.Fatalf("dial statusd at %s: %v", n.Name, err)
	}
	t.Cleanup(c.Drop)
	p := &chatter{Binary: c, t: t}
	p.tell([]byte{0x01, 1, 0, presence, 0})
	return p
}

func TestStatusd_TellsWhoIsPresentItselfLastThenEachChange(t *testing.T) {
	f := seeing(t)
	bob := enter(t, f.Nodes[0], "bob") // 3, by a timer
	cy := watch(t, f.Nodes[1], "cy", 0x05)
	cy.hears("10 " + raw.Nobody + " 05")
	befriend(t, f.Nodes[2], "ann", "bob", "cy", "dan")

	ann := watch(t, f.Nodes[2], "ann", 0x82)
	told := map[string]bool{}
	for range 2 { // in any order
		b := ann.next()
		told[string(b)] = true
	}
	bobs := raw.Hex("10 " + bob.session.Handle + " 03")
	if !told[string(bobs)] || len(told) != 2 {
		t.Errorf("at first ann is told %x, want bob 3 and cy 5", slices.Collect(maps.Keys(told)))
	}
	ann.hears("10 " + raw.Nobody + " 02")

	bob.must("presence.set", wire.SetPresence{Presence: new(uint8)}, nil)
	ann.hears("10 " + bob.session.Handle + " 00")
	cy.tell(raw.Hex("11 01"))
	cy.hears("10 " + raw.Nobody + " 01")
	b := ann.next()
	if b[9] != 1 || bytes.Equal(b[1:9], raw.Hex(raw.Nobody)) {
		t.Errorf("ann is told %x, want cy 1", b)
	}
	phone := watch(t, f.Nodes[0], "ann", 0x87) // another device, more chatty
	for p, want := range map[*chatter]string{ann: "07", phone: "07"} {
		for { // phone is told of cy first
			if b := p.next(); bytes.Equal(b[1:9], raw.Hex(raw.Nobody)) {
				if !bytes.Equal(b[9:], raw.Hex(want)) {
					t.Errorf("ann is told to be %x, want %s", b, want)
				}
				break
			}
		}
	}
	ann.tell(raw.Hex("11 81")) // less than the other: nothing changes
	ann.hearsNothing(time.Second)
	cy.Drop()
	if b := ann.next(); b[9] != 0 {
		t.Errorf("after cy's grace ann is told %x, want cy 0", b)
	}
}
