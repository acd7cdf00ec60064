package store

import (
	"testing"
	"time"
)

func TestNow_IsByTheStoresClockFromTheFirstRenewalOn(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		s.ahead.Store(int64(time.Hour)) // as if a clock had been set since
		if err := s.Renew(t.Context(), Node{Ref: here, Started: time.Now()}); err != nil {
			t.Fatal(err)
		}
		if off := s.Ahead().Abs(); off > 15*time.Second { // both are this machine's, which may be busy
			t.Errorf("%s ahead of a clock that is the same", off)
		}
	})
	s := open(t, Config{})
	for _, skew := range []time.Duration{time.Hour, -time.Hour} {
		s.embedded.mini.SetTime(time.Now().Add(skew))
		if err := s.Renew(t.Context(), Node{Ref: here, Started: time.Now()}); err != nil {
			t.Fatal(err)
		}
		if off := time.Until(s.Now()) - skew; off.Abs() > 15*time.Second {
			t.Errorf("with a store %s ahead it is off by %s", skew, off)
		}
	}
}
