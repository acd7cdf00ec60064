package store

import (
	"errors"
	"testing"
	"time"
)

func TestOrder_StandsInTheRecordOfANodeThatLivesAndNowhereElse(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		o := Order{ID: "o1", What: OrderDrain, Budget: 90 * time.Second}
		if err := s.Ask(t.Context(), here, o); !errors.Is(err, ErrGone) {
			t.Errorf("to a node that there is not: %v", err)
		}
		if n := s.rdb.Exists(t.Context(), here.recordKey(), here.leaseKey()).Val(); n != 0 {
			t.Fatalf("%d keys of it are there after that, with nobody to delete them", n)
		}
		if got, err := s.Asked(t.Context(), here); err != nil || got != (Order{}) {
			t.Errorf("its order: %+v, %v", got, err)
		}
		n := Node{Ref: here, State: NodeReady}
		renew := func() {
			if err := s.Renew(t.Context(), n); err != nil {
				t.Fatal(err)
			}
		}
		renew()
		if err := s.Ask(t.Context(), here, o); err != nil {
			t.Fatal(err)
		}
		renew() // a renewal leaves it
		if got, err := s.Asked(t.Context(), here); err != nil || got != o {
			t.Errorf("order %+v, %v, want %+v", got, err, o)
		}
		if err := s.Ask(t.Context(), here, Order{ID: "o2", What: OrderStop}); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Asked(t.Context(), here); err != nil || got != (Order{ID: "o2", What: OrderStop}) {
			t.Errorf("the next order %+v, %v", got, err)
		}
		if err := s.Expel(t.Context(), here); err != nil {
			t.Fatal(err)
		}
		if err := s.Ask(t.Context(), here, o); !errors.Is(err, ErrGone) {
			t.Errorf("to a node whose lease is over: %v", err)
		}
	})
}

func TestDrain_ReadsAsItWasWrittenAndDoesNotStandForEver(t *testing.T) {
	each(t, Config{Lease: time.Second, OfferTTL: time.Second}, func(t *testing.T, s *Store) {
		if o, d, err := s.DrainOf(t.Context(), here); err != nil || o != (Order{}) || d != (Drain{}) {
			t.Errorf("before there is one: %+v, %+v, %v", o, d, err)
		}
		want := Drain{
			Order: "o1", By: ByOperator, State: DrainRunning, Budget: time.Minute, Elapsed: 1500 * time.Millisecond,
			Moved: 4, Left: 3, Refused: 2, Resumed: 1, Rate: 2.25, ETA: 1200 * time.Millisecond,
		}
		if err := s.WriteDrain(t.Context(), here, want); err != nil {
			t.Fatal(err)
		}
		if _, got, err := s.DrainOf(t.Context(), here); err != nil || got != want {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
		if ttl := s.rdb.PTTL(t.Context(), here.drainKey()).Val(); ttl <= 0 || ttl > 3*time.Second {
			t.Errorf("it stands for %s, want lease and two lives of an offer", ttl)
		}
	})
}
