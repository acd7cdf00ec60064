package binary_test

import (
	"testing"
	"time"

	"godwit/e2e/raw"
	"godwit/internal/trial"
)

// Beats of both kinds of clients make one call, and everybody is told of each
// change once.
func TestChatd_BeatsMakeACallWithJSONClients(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
		ann := ws(t, f, "lobby", "ann")
		bob, eve := enter(t, f, "lobby", "bob"), enter(t, f, "lobby", "eve")
		beat := map[string]any{"room": "lobby", "status": 1}
		ann.must("call.beat", beat, nil)
		bob.say(raw.Hex("03 01 03 01"))
		bob.hears("03 01")
		eve.hears("03 01")
		late := open(t, f, "/v1/chatd/lobby", bearer("late"))
		late.say(helloOne)
		if b := late.next(); b[0] != 1 {
			t.Fatalf("HELLO is answered %x", b)
		}
		late.hears("03 01")
		bob.say(raw.Hex("03 00"))
		for _, p := range []*peer{bob, eve, late} {
			p.hears("03 00")
			p.quiet()
		}
		time.Sleep(time.Minute)
		eve.quiet() // ann is out by now, which changes nothing
	})
}
