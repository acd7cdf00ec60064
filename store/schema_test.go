package store

import (
	"testing"
)

// seeded gives a store the layout of fields, whatever it had.
func seeded(t *testing.T, s *Store, fields ...any) {
	t.Helper()
	if err := s.rdb.Del(t.Context(), schemaKey).Err(); err != nil {
		t.Fatal(err)
	}
	if len(fields) == 0 {
		return
	}
	if err := s.rdb.HSet(t.Context(), schemaKey, fields...).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestSchema_WhoIsLateLowersNothing(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		if _, err := s.Marker(t.Context()); err != nil { // or it is empty, and has the newest
			t.Fatal(err)
		}
		migrated := func(version, needs int) func() error {
			return func() error { return s.Migrated(t.Context(), version, needs) }
		}
		reached := func(step int, cursor, life string) func() error {
			return func() error { return s.Reached(t.Context(), step, cursor, life) }
		}
		for _, c := range []struct {
			name string
			was  []any
			do   func() error
			want Layout
		}{
			{"the first step begins", []any{"version", 0}, reached(1, "5", "A"), Layout{Step: 1, Cursor: "5", Life: "A"}},
			{"it goes on", []any{"step", 1, "cursor", "5", "life", "A"}, reached(1, "7", "B"), Layout{Step: 1, Cursor: "7", Life: "B"}},
			{"it ends", []any{"step", 1, "cursor", "7", "life", "B"}, migrated(1, 0), Layout{Version: 1}},
			{"a node must know it", []any{"version", 1, "needs", 0, "step", 2, "cursor", "7"}, migrated(2, 2), Layout{Version: 2, Needs: 2}},
			{"it ends twice", []any{"version", 2, "needs", 2}, migrated(2, 2), Layout{Version: 2, Needs: 2}},
			{"an older one ends late", []any{"version", 3, "needs", 2}, migrated(1, 0), Layout{Version: 3, Needs: 2}},
			{
				"an older one ends while a later step runs",
				[]any{"version", 1, "needs", 1, "step", 2, "cursor", "7", "life", "A"},
				migrated(1, 0),
				Layout{Version: 1, Needs: 1, Step: 2, Cursor: "7", Life: "A"},
			},
			{
				"an older one goes on while a later step runs",
				[]any{"version", 1, "step", 2, "cursor", "7", "life", "A"},
				reached(1, "9", "A"),
				Layout{Version: 1, Step: 2, Cursor: "7", Life: "A"},
			},
			{"it goes on though it is finished", []any{"version", 1}, reached(1, "9", "A"), Layout{Version: 1}},
		} {
			seeded(t, s, c.was...)
			if err := c.do(); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			if got, err := s.Layout(t.Context()); got != c.want || err != nil {
				t.Errorf("%s: %+v, %v; want %+v", c.name, got, err, c.want)
			}
		}
	})
}

// In a Cluster the markers are many, and none is from before versions.
func TestMarker_AndTheVersionAreWrittenAtOnce(t *testing.T) {
	undivided(t, Config{}, func(t *testing.T, s *Store) {
		a, err := s.run(t.Context(), markScript, []string{markerKey, schemaKey}, "mine", Schema)
		if err != nil || a.text(1) != "mine" {
			t.Fatalf("%v, %v; want the marker", a, err)
		}
		if l, err := s.Layout(t.Context()); err != nil || l.Version != Schema {
			t.Errorf("an empty store is at %+v, %v; want version %d", l, err, Schema)
		}
		if a, err := s.Marker(t.Context()); err != nil || a != "mine" {
			t.Errorf("again: %q, %v; want the same", a, err)
		}
		// One of a node that knew no versions.
		seeded(t, s)
		if _, err := s.Marker(t.Context()); err != nil {
			t.Fatal(err)
		}
		if l, err := s.Layout(t.Context()); err != nil || l.Version != 0 {
			t.Errorf("a store from before is at %+v, %v; want version 0", l, err)
		}
	})
}
