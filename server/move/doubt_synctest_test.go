package move

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"godwit/rules/drain"
	"godwit/store"
	"godwit/wire"
)

// doubting is a Mover that knows nothing against anybody, and who of a and b it
// would offer.
func doubting() (m *Mover, offered func() string) {
	m = &Mover{doubts: make(map[string]doubt), log: slog.New(slog.DiscardHandler)}
	return m, func() (names string) {
		m.mu.Lock()
		defer m.mu.Unlock()
		nodes := []drain.Node{{ID: "a", Ready: true}, {ID: "b", Ready: true}}
		m.passOverLocked(nodes)
		for _, n := range nodes {
			if n.Ready {
				names += n.ID
			}
		}
		return names
	}
}

// sends has a client be sent to a target.
func sends(m *Mover, target, reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sendsLocked(target, Why{Reason: reason})
}

// astray has so many clients in a row not find a target.
func astray(m *Mover, target, reason, refusal string, many int) {
	for range many {
		m.found(target, Why{Reason: reason}, store.OfferRefused, refusal)
	}
}

func want(t *testing.T, when string, offered func() string, names string) {
	t.Helper()
	if got := offered(); got != names {
		t.Errorf("%s: %q are offered, want %q", when, got, names)
	}
}

func TestDoubt_WhoIsNotFoundIsTriedByOneNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, offered := doubting()
		astray(m, "a", wire.ForDrain, wire.RefusedDial, astrayMost-1)
		want(t, "one less than it takes", offered, "ab")
		m.found("a", Why{}, store.OfferCommitted, "")
		astray(m, "a", wire.ForBalance, wire.RefusedClosed, astrayMost-1)
		want(t, "not in a row", offered, "ab")
		astray(m, "a", wire.ForDrain, wire.RefusedDial, 1)
		want(t, "in a row", offered, "b")
		time.Sleep(astrayFor)
		want(t, "after a while", offered, "ab")
		sends(m, "a", wire.ForRequest)
		want(t, "when one asks for it", offered, "ab")
		sends(m, "a", wire.ForDrain)
		want(t, "while one tries", offered, "b")
		astray(m, "a", wire.ForDrain, wire.RefusedDial, 1)
		time.Sleep(astrayFor - 1)
		want(t, "when that one was in vain, too", offered, "b")
		m.found("a", Why{}, store.OfferCommitted, "")
		want(t, "when one has found it", offered, "ab")
		if len(m.doubts) > 0 {
			t.Errorf("kept: %v", m.doubts)
		}
	})
}

func TestDoubt_NoneOfTheseSpeaksAgainstATarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, offered := doubting()
		astray(m, "a", wire.ForRequest, wire.RefusedDial, 2*astrayMost)
		want(t, "a client that asks and refuses", offered, "ab")
		astray(m, "a", wire.ForDrain, string(wire.Capacity), 2*astrayMost)
		want(t, "that it is full", offered, "ab")
		for range 2 * astrayMost {
			m.found("a", Why{Reason: wire.ForDrain}, store.OfferExpired, "")
		}
		want(t, "clients that say nothing", offered, "ab")
		for range astrayMost {
			astray(m, "a", wire.ForDrain, wire.RefusedDial, 1)
			time.Sleep(doubtFor + 1)
		}
		want(t, "one now and then", offered, "ab")
		astray(m, "a", wire.ForDrain, wire.RefusedDial, astrayMost)
		time.Sleep(doubtFor + 1)
		sends(m, "a", wire.ForDrain)
		want(t, "what was long ago", offered, "ab")
	})
}

func TestDoubt_WhereAllAreInDoubtNoneIsPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, offered := doubting()
		astray(m, "a", wire.ForDrain, wire.RefusedDial, astrayMost)
		m.asked("b", false)
		want(t, "both", offered, "ab")
		time.Sleep(silentFor)
		want(t, "one", offered, "b")
		m.asks("b")
		m.asked("b", true)
		want(t, "one has answered", offered, "b")
		m.asked("a", true)
		want(t, "who is not found answers", offered, "b")
	})
}
