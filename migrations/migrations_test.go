package migrations

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"godwit/internal/redistest"
	"godwit/store"
)

// words cuts a line where there are blanks outside quotes.
func words(line string) (out []any) {
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
		if rest, quoted := strings.CutPrefix(line, `"`); quoted {
			word, after, _ := strings.Cut(rest, `"`)
			out, line = append(out, word), after
			continue
		}
		word, after, _ := strings.Cut(line, " ")
		out, line = append(out, word), after
	}
	return out
}

// before is a real Redis with what version 0 has stored in it, and the rooms of
// that.
func before(t *testing.T) (*redis.Client, *store.Store, []string) {
	t.Helper()
	server := redistest.Start(t)
	rooms := fill(t, server.Client())
	return server.Client(), open(t, server.URL()), rooms
}

// fill stores it, and is the rooms of that.
func fill(t *testing.T, rdb *redis.Client) []string {
	t.Helper()
	b, err := os.ReadFile("testdata/version0.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		if err := rdb.Do(t.Context(), words(line)...).Err(); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
	rooms := []string{"lobby", "a/b ", "{x}", "}:meta"}
	for i := range 2500 { // more than a part
		name := fmt.Sprintf("many/%04d", i)
		rooms = append(rooms, name)
		if err := rdb.HSet(t.Context(), "gw:{r:"+name+"}:meta", "epoch", "E", "seq", 1).Err(); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(rooms)
	return rooms
}

func open(t *testing.T, url string) *store.Store {
	t.Helper()
	st, err := store.Open(store.Config{URL: url, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = st.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		st.Close()
	})
	return st
}

func listed(t *testing.T, st *store.Store) (names []string) {
	t.Helper()
	for next, more := "", true; more; {
		var page []store.RoomState
		var err error
		if page, next, more, err = st.Rooms(t.Context(), "", next, 1000); err != nil {
			t.Fatal(err)
		}
		for _, r := range page {
			names = append(names, r.Room)
		}
	}
	return names
}

func TestSteps_AreAsManyAsTheStoreHasVersions(t *testing.T) {
	if len(Steps) != store.Schema {
		t.Errorf("%d steps, and the store writes version %d", len(Steps), store.Schema)
	}
	for i, s := range Steps {
		if s.Name == "" || s.Run == nil || s.Verify == nil || s.Needs > i+1 {
			t.Errorf("step %d: %+v", i+1, s)
		}
	}
}

func TestUp_TakesAStoreOfVersion0ToThisOne(t *testing.T) {
	_, st, rooms := before(t)
	if got := listed(t, st); len(got) != 0 {
		t.Fatalf("listed before: %d", len(got))
	}
	if pending, err := Check(t.Context(), st); err != nil || !pending {
		t.Errorf("before: pending %t, %v", pending, err)
	}
	var told []Progress
	if err := Up(t.Context(), st, func(p Progress) { told = append(told, p) }); err != nil {
		t.Fatal(err)
	}
	if got := listed(t, st); !slices.Equal(got, rooms) {
		t.Errorf("%d rooms are listed, want %d", len(got), len(rooms))
	}
	if pending, err := Check(t.Context(), st); err != nil || pending {
		t.Errorf("after: pending %t, %v", pending, err)
	}
	if wrong, err := Verify(t.Context(), st); err != nil || len(wrong) != 0 {
		t.Errorf("verified: %q, %v", wrong, err)
	}
	if last := told[len(told)-1]; !last.Over || last.Step != 1 || last.Done < len(rooms) || len(told) < 3 {
		t.Errorf("told %+v", told)
	}
	told = nil
	if err := Up(t.Context(), st, func(p Progress) { told = append(told, p) }); err != nil || len(told) != 0 {
		t.Errorf("a second time: %v, %v", told, err)
	}
	// A room is as it was.
	r, err := st.Info(t.Context(), "lobby")
	if err != nil || r.Seq != 2 || r.Count != 2 {
		t.Errorf("the lobby: %+v, %v", r, err)
	}
}

func TestUp_KilledAnywhereItGoesOn(t *testing.T) {
	rdb, _, rooms := before(t)
	url := "redis://" + rdb.Options().Addr
	killed := errors.New("killed")
	for at := 1; ; at++ {
		rdb.Del(t.Context(), "gw:schema")
		for i := range 16 {
			rdb.Del(t.Context(), fmt.Sprintf("gw:{i:%02d}:rooms", i))
		}
		st := open(t, url)
		ctx, kill := context.WithCancelCause(t.Context())
		parts := 0
		err := Up(ctx, st, func(p Progress) {
			if parts++; parts == at { // between what was done and the note of it
				kill(killed)
			}
		})
		kill(nil)
		if err == nil {
			if at < 4 {
				t.Errorf("%d parts, want several", at-1)
			}
			return
		}
		l, err := st.Layout(t.Context())
		if err != nil || l.Version != 0 || at > 1 && (l.Step != 1 || l.Cursor == "" || l.Life == "") {
			t.Fatalf("killed in part %d: %+v, %v", at, l, err)
		}
		first := 0
		if err := Up(t.Context(), open(t, url), func(p Progress) { first = max(first, p.Done) }); err != nil {
			t.Fatalf("after a kill in part %d: %v", at, err)
		}
		if at > 2 && first >= len(rooms) {
			t.Errorf("killed in part %d, it began again at the beginning: %d of %d", at, first, len(rooms))
		}
		if got := listed(t, st); !slices.Equal(got, rooms) {
			t.Fatalf("killed in part %d: %d rooms are listed, want %d", at, len(got), len(rooms))
		}
	}
}

func TestUp_BesideNodesOfBothVersions(t *testing.T) {
	rdb, st, rooms := before(t)
	var old []string
	make := func(name string) { // as a node does that lists nothing
		t.Helper()
		old = append(old, name)
		if err := rdb.HSet(t.Context(), "gw:{r:"+name+"}:meta", "epoch", "E", "seq", 1).Err(); err != nil {
			t.Error(err)
		}
	}
	i := 0
	err := Up(t.Context(), st, func(Progress) {
		i++
		if i > 5 {
			return
		}
		make(fmt.Sprintf("old/%d", i))
		name := fmt.Sprintf("new/%d", i)
		if _, err := st.Join(t.Context(), name, cy, store.Known{}); err != nil {
			t.Error(err)
		}
		rooms = append(rooms, name)
	})
	if err != nil {
		t.Fatal(err)
	}
	make("old/behind")
	got := listed(t, st)
	for _, name := range rooms {
		if !slices.Contains(got, name) {
			t.Errorf("%s is not listed", name)
		}
	}
	// What the old node made behind the walk is found by verify, and listed by
	// the next join.
	left := 0
	for _, name := range old {
		if !slices.Contains(got, name) {
			left++
		}
	}
	want := fmt.Sprintf(": %d left over,", left)
	if wrong, err := Verify(t.Context(), st); err != nil || len(wrong) != 1 || !strings.Contains(wrong[0], want) {
		t.Errorf("verified: %q, %v; want one line with %q", wrong, err, want)
	}
	for _, name := range old {
		if _, err := st.Join(t.Context(), name, cy, store.Known{}); err != nil {
			t.Fatal(err)
		}
	}
	if wrong, err := Verify(t.Context(), st); err != nil || len(wrong) != 0 {
		t.Errorf("verified after joins: %q, %v", wrong, err)
	}
}

// cy is somebody who joins.
var cy = store.Member{User: "cy", Client: 9, Session: "s9", Gen: 1}

func TestVerify_SaysWhatIsLeftOver(t *testing.T) {
	rdb, st, _ := before(t)
	if wrong, err := Verify(t.Context(), st); err != nil || len(wrong) != 0 { // nothing was to be done yet
		t.Errorf("before: %q, %v", wrong, err)
	}
	if err := Up(t.Context(), st, func(Progress) {}); err != nil {
		t.Fatal(err)
	}
	for i := range 16 {
		rdb.ZRem(t.Context(), fmt.Sprintf("gw:{i:%02d}:rooms", i), "lobby", "{x}")
	}
	wrong, err := Verify(t.Context(), st)
	if err != nil || len(wrong) != 1 || !strings.Contains(wrong[0], "step 1 (list every room in the index): 2 left over") {
		t.Errorf("%q, %v", wrong, err)
	}
}

func TestCheck_SaysWhoMayWork(t *testing.T) {
	for _, c := range []struct {
		name          string
		l             store.Layout
		knows, oldest int
		pending       bool
		err           error
		says          string
	}{
		{"an old store", store.Layout{}, 1, 0, true, nil, ""},
		{"this one", store.Layout{Version: 1}, 1, 0, false, nil, ""},
		{"a newer one that this one can read", store.Layout{Version: 2, Needs: 1}, 1, 0, false, nil, ""},
		{"too new", store.Layout{Version: 2, Needs: 2}, 1, 0, false, ErrTooNew, "start a newer binary"},
		{"too old", store.Layout{Version: 1}, 3, 2, false, ErrTooOld, "godwit migrate up"},
	} {
		pending, err := check(c.l, c.knows, c.oldest)
		if pending != c.pending || !errors.Is(err, c.err) || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: pending %t, %v", c.name, pending, err)
		}
	}
}

func TestUp_AFreshStoreHasNothingToDo(t *testing.T) {
	st := open(t, redistest.Start(t).URL())
	for _, when := range []string{"before the first node", "behind it"} {
		if pending, err := Check(t.Context(), st); err != nil || pending {
			t.Errorf("%s: pending %t, %v", when, pending, err)
		}
		if _, err := st.Marker(t.Context()); err != nil { // as a node does
			t.Fatal(err)
		}
	}
}
