package main

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"godwit/e2e/fault"
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

// notesOf is a command of a migration that notes how far it is, or that it is
// finished: the nth.
func notesOf(nth int) func([][]byte) bool {
	return func(args [][]byte) bool {
		if len(args) < 4 || !strings.EqualFold(string(args[0]), "EVALSHA") || string(args[3]) != "gw:schema" {
			return false
		}
		nth--
		return nth == 0
	}
}

func TestMigrate_KilledBeforeAndAfterEachNoteItGoesOn(t *testing.T) {
	const rooms = 1200 // several parts
	server := redistest.Start(t)
	rdb := server.Client()
	indexed := make([]string, 16)
	for i := range indexed {
		indexed[i] = fmt.Sprintf("gw:{i:%02d}:rooms", i)
	}
	pipe := rdb.Pipeline()
	pipe.Set(t.Context(), "gw:store", "before", 0)
	for i := range rooms {
		pipe.HSet(t.Context(), fmt.Sprintf("gw:{r:%d}:meta", i), "epoch", "E", "seq", 1)
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	env := []string{"GODWIT_REDIS_URL=" + server.URL()}
	if code, out, errs := once(env, "migrate", "up"); code != 0 { // Redis knows the scripts from here on
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
	// killed runs it up to a note, and says whether it came to that.
	killed := func(nth int, answered bool) bool {
		proxy, err := fault.Listen(server.Addr, 1)
		if err != nil {
			t.Fatal(err)
		}
		at := proxy.Points.At(fault.Step{Does: notesOf(nth), Answered: answered})
		defer at.Release()
		defer proxy.Close() // first: what is held then is lost
		p := launch(t, []string{"GODWIT_REDIS_URL=redis://" + proxy.Addr()}, "migrate", "up")
		select {
		case <-at.Reached():
			_ = p.cmd.Process.Kill() // it may have given up
			p.exit()
			return true
		case <-p.done:
			if code := p.exit(); code != 0 {
				t.Fatalf("exit %d, held nowhere", code)
			}
			return false
		}
	}
	for _, answered := range []bool{false, true} {
		for nth := 1; ; nth++ {
			if err := rdb.Del(t.Context(), append(indexed, "gw:schema")...).Err(); err != nil {
				t.Fatal(err)
			}
			if !killed(nth, answered) {
				if nth < 5 {
					t.Errorf("%d notes, want several", nth-1)
				}
				break
			}
			for _, what := range []string{"up", "verify"} {
				if code, out, errs := once(env, "migrate", what); code != 0 {
					t.Errorf("killed at note %d (done: %t), then %s: exit %d\n%s%s", nth, answered, what, code, out, errs)
				}
			}
			var listed int64
			for _, key := range indexed {
				listed += rdb.ZCard(t.Context(), key).Val()
			}
			schema, err := rdb.HGetAll(t.Context(), "gw:schema").Result()
			if listed != rooms || err != nil || !maps.Equal(schema, map[string]string{"version": "1", "needs": "0"}) {
				t.Errorf("killed at note %d (done: %t): in the end %d rooms are listed, want %d, and the schema is %v (%v)",
					nth, answered, listed, rooms, schema, err)
			}
		}
	}
}
