package store

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"
)

// fared is how often each script was answered, and how often not.
func fared(s *Store) (answered, failed map[string]uint64, names []string) {
	answered, failed = map[string]uint64{}, map[string]uint64{}
	s.Scripts(func(name string, stats *ScriptStats) {
		names = append(names, name)
		if n := stats.Took.Read().Count; n > 0 {
			answered[name] = n
		}
		if n := stats.Failed.Load(); n > 0 {
			failed[name] = n
		}
	})
	return answered, failed, names
}

func TestStats_EachCallOfAScriptIsCountedOnceAsItWent(t *testing.T) {
	s, err := Open(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error)
	go func() { ran <- s.Run(ctx) }()
	ann := member(1, "ann")
	join(t, s, "r", ann)
	said := make(chan error, 1) // a lane does not wait
	send := func() error {
		s.Send(t.Context(), "r", ann, Known{}, Draft{Data: []byte("1")}, func(_ Sent, err error) { said <- err })
		return <-said
	}
	for range 3 {
		if err := send(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Renew(t.Context(), Node{Ref: Ref{"n", "b"}}); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-ran
	if err := send(); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("a store that has ended answers %v", err)
	}
	answered, failed, names := fared(s)
	if answered["join"] != 1 || answered["send"] != 3 || answered["renew"] != 1 || failed["send"] != 1 || failed["join"] != 0 {
		t.Errorf("answered %v, failed %v", answered, failed)
	}
	if len(names) != len(scripts) || !slices.IsSorted(names) {
		t.Errorf("tells of %v", names)
	}
	s.Scripts(func(name string, stats *ScriptStats) {
		if r := stats.Took.Read(); name == "send" && (r.Sum <= 0 || r.Sum > 3*time.Minute) {
			t.Errorf("three sends took %s", r.Sum)
		}
	})
}
