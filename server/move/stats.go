package move

import (
	"errors"

	"godwit/measure"
	"godwit/store"
	"godwit/wire"
)

// unknown is what became of an offer whose socket went first: the session has
// moved by it, or is resumed somewhere.
const unknown = "unknown"

// newStats makes room for each reason to offer a session another node, and for
// what may become of that.
func newStats() map[string]*measure.Set {
	all := make(map[string]*measure.Set)
	for _, reason := range []string{wire.ForDrain, wire.ForBalance, wire.ForRequest, wire.ForAdmin} {
		all[reason] = measure.NewSet(
			string(store.OfferCommitted), string(store.OfferRefused), string(store.OfferCancelled), string(store.OfferExpired), unknown,
			"no_target", "unable", "busy", "moved", "unavailable",
		)
	}
	return all
}

func (m *Mover) count(why Why, outcome string) { m.Stats[why.Reason].Add(outcome) }

// unoffered is why there is no offer, in a word.
func unoffered(err error) string {
	switch {
	case errors.Is(err, ErrNoTarget):
		return "no_target"
	case errors.Is(err, ErrUnable):
		return "unable"
	case errors.Is(err, store.ErrBusy):
		return "busy"
	case errors.Is(err, store.ErrMoved), errors.Is(err, store.ErrGone):
		return "moved"
	case errors.Is(err, store.ErrUnavailable):
		return "unavailable"
	}
	return measure.Other
}
