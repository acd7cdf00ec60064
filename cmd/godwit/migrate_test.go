package main

import (
	"fmt"
	"strings"
	"testing"

	"godwit/internal/redistest"
)

func TestMigrate_BringsAStoreToThisVersion(t *testing.T) {
	server := redistest.Start(t)
	rdb := server.Client()
	env := []string{"GODWIT_REDIS_URL=" + server.URL()}
	for _, err := range []error{
		rdb.Set(t.Context(), "gw:store", "before", 0).Err(),
		rdb.HSet(t.Context(), "gw:{r:lobby}:meta", "epoch", "E", "seq", 1).Err(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	ask := func(want int, says string, args ...string) {
		t.Helper()
		code, out, errs := once(env, append([]string{"migrate"}, args...)...)
		if code != want || !strings.Contains(out+errs, says) {
			t.Errorf("migrate %v: exit %d\n%s%s, want %d and %q", args, code, out, errs, want, says)
		}
	}
	ask(0, "1  list every room in the index: to do", "status")
	n := launch(t, local(append(env, "GODWIT_AUTH_DEV=true")...), "serve")
	n.await(`of an older version.*godwit migrate up`)
	ask(0, "1  list every room in the index: done, 1 in this run", "up")
	ask(0, "nothing to do", "up")
	ask(0, "done", "status")
	ask(0, "all is well", "verify")
	for i := range 16 {
		rdb.ZRem(t.Context(), fmt.Sprintf("gw:{i:%02d}:rooms", i), "lobby")
	}
	ask(1, `1 left over, "lobby" among them`, "verify")

	// A store from a version that this one cannot work with.
	rdb.HSet(t.Context(), "gw:schema", "version", 9, "needs", 9)
	ask(1, "too new for this binary", "status")
	ask(1, "too new for this binary", "up")
	code, out, errs := once(local(append(env, "GODWIT_AUTH_DEV=true")...), "serve")
	if code != 2 || !strings.Contains(errs, "start a newer binary") {
		t.Errorf("serve: exit %d\n%s%s, want 2", code, out, errs)
	}

	for _, args := range [][]string{nil, {"down"}, {"up", "x"}} {
		if code, _, _ := once(env, append([]string{"migrate"}, args...)...); code != 2 {
			t.Errorf("migrate %v: exit %d, want 2", args, code)
		}
	}
	if code, _, errs := once(nil, "migrate", "up"); code != 2 || !strings.Contains(errs, "GODWIT_REDIS_URL") {
		t.Errorf("without a store: exit %d, %s", code, errs)
	}
}
