package session

import (
	"testing"

	"godwit/wire"
)

// ear keeps the reset that a socket was told last.
type ear struct {
	Socket
	told wire.Reset
}

func (e *ear) Notify(_ string, params any) { e.told, _ = params.(wire.Reset) }

// Between the read of a member's count and the reset that tells it a send may be
// accepted and answered: who counted on from less would use its number again.
func TestReset_CountsWhatWasAcceptedSinceItsCountWasRead(t *testing.T) {
	for what, c := range map[string]struct {
		sends []count
		want  uint64
	}{
		"nothing":                  {nil, 7},
		"the next two":             {[]count{{"new", 8}, {"new", 9}}, 9},
		"the next two, and an old": {[]count{{"new", 8}, {"new", 9}, {"new", 5}}, 9},
		"one of the epoch before":  {[]count{{"old", 8}}, 7},
		"one of each":              {[]count{{"old", 11}, {"new", 8}}, 8},
		"one that was refused":     {[]count{{"", 8}}, 7},
		"one without a number":     {[]count{{"new", 0}}, 7},
	} {
		e := &ear{}
		s := &Session{sock: e}
		answers := 0
		for _, n := range c.sends {
			s.counted("lobby", n, func() { answers++ })
		}
		s.counted("elsewhere", count{"new", 20}, func() {})
		s.Reset(wire.Reset{Room: "lobby", Epoch: "new", CSeq: 7})
		if e.told.CSeq != c.want || answers != len(c.sends) {
			t.Errorf("after %s: cseq %d and %d answers, want %d and %d", what, e.told.CSeq, answers, c.want, len(c.sends))
		}
	}
}
