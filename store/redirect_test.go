package store

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"
)

var (
	source = Ref{"source", "b1"}
	target = Ref{"target", "b2"}
)

// offered makes a live session of source and an offer of it.
func offered(t *testing.T, s *Store, to Ref) Offer {
	t.Helper()
	rec := Session{ID: "sid", User: "ann", Client: 7, Gen: 1, Owner: source, Expires: time.Now().Add(time.Hour)}
	if err := s.Create(t.Context(), rec, []string{"r"}); err != nil {
		t.Fatal(err)
	}
	o := Offer{ID: "o1", TokenID: "j1", Session: "sid", Gen: 1, Source: source, Target: to}
	if err := s.WriteOffer(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestHandover_MovesTheSessionOnce(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		o := offered(t, s, target)
		got, err := s.Handover(t.Context(), o, target, "redirect")
		if err != nil {
			t.Fatal(err)
		}
		if got.Gen != 2 || got.Owner != target || got.State != StateLive || got.Previous != source || !got.WasLive ||
			!slices.Equal(got.Rooms, []string{"r"}) || got.Caps != "redirect" {
			t.Errorf("claimed %+v", got)
		}
		if len(got.Moves) != 1 || got.Moves[0].From != source || time.Since(got.Moves[0].At).Abs() > time.Minute {
			t.Errorf("moves %+v, want one from %v, now", got.Moves, source)
		}
		if _, err := s.Handover(t.Context(), o, target, ""); !errors.Is(err, ErrUsed) {
			t.Errorf("a second claim: %v, want %v", err, ErrUsed)
		}
		for _, as := range []OfferState{OfferRefused, OfferCancelled, OfferExpired} {
			if state, err := s.Withdraw(t.Context(), "sid", "o1", as); err != nil || state != OfferCommitted {
				t.Errorf("%s after the claim: %s, %v, want committed", as, state, err)
			}
		}
		if err := s.Detach(t.Context(), source, "sid", 1); !errors.Is(err, ErrMoved) {
			t.Errorf("the source detaches late: %v, want %v", err, ErrMoved)
		}
		if owned, err := s.Owned(t.Context(), target, 9); err != nil || !slices.Equal(owned, []string{"sid"}) {
			t.Errorf("the target's list: %v, %v", owned, err)
		}
	})
}

func TestHandover_OfAnOfferThatDoesNotHoldChangesNothing(t *testing.T) {
	other := Ref{"other", "b3"}
	as := func(state OfferState) func(*testing.T, *Store) {
		return func(t *testing.T, s *Store) {
			for _, again := range []OfferState{state, OfferRefused} { // the first wins
				if got, err := s.Withdraw(t.Context(), "sid", "o1", again); err != nil || got != state {
					t.Fatalf("withdrawn as %s: %s, %v", state, got, err)
				}
			}
		}
	}
	for _, c := range []struct {
		name   string
		to     Ref
		by     Ref
		before func(*testing.T, *Store)
		change func(*Offer)
		want   error
	}{
		{name: "refused", to: target, by: target, before: as(OfferRefused), want: ErrCancelled},
		{name: "cancelled", to: target, by: target, before: as(OfferCancelled), want: ErrCancelled},
		{name: "expired", to: target, by: target, before: as(OfferExpired), want: ErrExpired},
		{name: "another node", to: target, by: other, want: ErrWrongAudience},
		{name: "another boot", to: target, by: Ref{"target", "b9"}, want: ErrWrongAudience},
		{name: "the source", to: Ref{Node: Anyone}, by: source, want: ErrSameNode},
		{name: "another id", to: target, by: target, change: func(o *Offer) { o.ID = "o2" }, want: ErrCancelled},
		{name: "another token", to: target, by: target, change: func(o *Offer) { o.TokenID = "j2" }, want: ErrCancelled},
		{name: "another gen", to: target, by: target, change: func(o *Offer) { o.Gen = 2 }, want: ErrGenMismatch},
		{name: "no session", to: target, by: target, change: func(o *Offer) { o.Session = "none" }, want: ErrGone},
		{name: "resumed meanwhile", to: target, by: target, before: func(t *testing.T, s *Store) {
			if _, err := s.Claim(t.Context(), "sid", "", other, ""); err != nil {
				t.Fatal(err)
			}
		}, want: ErrGenMismatch},
		{name: "ended meanwhile", to: target, by: target, before: func(t *testing.T, s *Store) {
			if err := s.End(t.Context(), "sid", Always, "kicked"); err != nil {
				t.Fatal(err)
			}
		}, want: ErrGone},
	} {
		t.Run(c.name, func(t *testing.T) {
			each(t, Config{}, func(t *testing.T, s *Store) {
				o := offered(t, s, c.to)
				if c.before != nil {
					c.before(t, s)
				}
				before, _, errBefore := s.Peek(t.Context(), "sid")
				if c.change != nil {
					c.change(&o)
				}
				if _, err := s.Handover(t.Context(), o, c.by, ""); !errors.Is(err, c.want) {
					t.Errorf("%v, want %v", err, c.want)
				}
				after, _, errAfter := s.Peek(t.Context(), "sid")
				if after.Gen != before.Gen || after.Owner != before.Owner || !errors.Is(errAfter, errBefore) {
					t.Errorf("the session was %+v, %v, is %+v, %v", before, errBefore, after, errAfter)
				}
				if owned, err := s.Owned(t.Context(), c.by, 9); err != nil || c.by != source && len(owned) > 0 {
					t.Errorf("it is on the list of %v: %v, %v", c.by, owned, err)
				}
			})
		})
	}
}

func TestHandover_OfManyClaimantsOneWins(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		o := offered(t, s, Ref{Node: Anyone})
		var mu sync.Mutex
		var won []Ref
		var all sync.WaitGroup
		for i := range 100 {
			by := Ref{"n", string(rune('A' + i))}
			all.Go(func() {
				_, err := s.Handover(t.Context(), o, by, "")
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					won = append(won, by)
				case !errors.Is(err, ErrUsed):
					t.Errorf("%v: %v, want %v", by, err, ErrUsed)
				}
			})
		}
		all.Wait()
		rec, _, err := s.Peek(t.Context(), "sid")
		if err != nil || len(won) != 1 || rec.Owner != won[0] || rec.Gen != 2 {
			t.Errorf("%v won; the session is %v's at gen %d, %v", won, rec.Owner, rec.Gen, err)
		}
	})
}

// Whoever resumes at the node that has made an offer may be offered another at once.
func TestOffer_OneOfAnEarlierGenStandsInNobodysWay(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		o := offered(t, s, target)
		c, err := s.Claim(t.Context(), "sid", "", source, "redirect")
		if err != nil || c.Gen != o.Gen+1 {
			t.Fatalf("gen %d, %v; want the session taken up again", c.Gen, err)
		}
		later := o
		later.ID, later.Gen = "o2", c.Gen
		if err := s.WriteOffer(t.Context(), later); err != nil {
			t.Errorf("another offer: %v", err)
		}
		if _, err := s.Handover(t.Context(), later, target, ""); err != nil {
			t.Errorf("to follow it: %v", err)
		}
	})
}

func TestOffer_ExpiresByTheStoresClock(t *testing.T) {
	each(t, Config{OfferTTL: 200 * time.Millisecond}, func(t *testing.T, s *Store) {
		o := offered(t, s, target)
		later := o
		later.ID = "o2"
		if err := s.WriteOffer(t.Context(), later); !errors.Is(err, ErrBusy) {
			t.Errorf("a second offer while one stands: %v, want %v", err, ErrBusy)
		}
		deadline := time.Now().Add(10 * time.Second)
		for { // the second offer is taken once the first is over
			err := s.WriteOffer(t.Context(), later)
			if err == nil {
				break
			}
			if !errors.Is(err, ErrBusy) || time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
		if _, err := s.Handover(t.Context(), o, target, ""); !errors.Is(err, ErrCancelled) {
			t.Errorf("the first, with another in its place: %v, want %v", err, ErrCancelled)
		}
		if state, err := s.OfferOf(t.Context(), "sid", "o1"); err != nil || state != OfferExpired {
			t.Errorf("the first is %s, %v", state, err)
		}
	})
}

func TestOffer_OnlyByTheOwnerOfALiveSession(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		o := offered(t, s, target)
		if _, err := s.Withdraw(t.Context(), "sid", "o1", OfferCancelled); err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]struct {
			change func(*Offer)
			want   error
		}{
			"another node":    {func(o *Offer) { o.Source = target }, ErrMoved},
			"an earlier gen":  {func(o *Offer) { o.Gen = 0 }, ErrMoved},
			"another session": {func(o *Offer) { o.Session = "none" }, ErrGone},
		} {
			again := o
			c.change(&again)
			if err := s.WriteOffer(t.Context(), again); !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
		}
		if err := s.Detach(t.Context(), source, "sid", 1); err != nil {
			t.Fatal(err)
		}
		if err := s.WriteOffer(t.Context(), o); !errors.Is(err, ErrMoved) {
			t.Errorf("of a detached session: %v, want %v", err, ErrMoved)
		}
	})
}
