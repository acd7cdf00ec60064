package redisset

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A server that saves, or rewrites its log, has a child, which goes on alone.
func TestServer_KilledWhileItSavesLeavesNobody(t *testing.T) {
	s, err := StartOne(t.Context(), Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, do := range [][]any{
		{"CONFIG", "SET", "rdb-key-save-delay", "10000000"}, // us a key
		{"MSET", "a", "1", "b", "2"},
		{"BGSAVE"},
	} {
		if err := s.Client.Do(t.Context(), do...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if n := alive(t, s.Pid()); n != 2 {
		t.Fatalf("%d processes run, want the server and its child", n)
	}
	s.Kill()
	if n := alive(t, s.Pid()); n != 0 {
		t.Errorf("%d processes of the server run on", n)
	}
}

// alive is how many processes of a group run, but for the dead ones that nobody
// has asked how they ended.
func alive(t *testing.T, group int) (n int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range all {
		b, _ := os.ReadFile(name) // it may have ended
		_, stat, _ := strings.Cut(string(b), ") ")
		if f := strings.Fields(stat); len(f) > 2 && f[0] != "Z" && f[2] == strconv.Itoa(group) {
			n++
		}
	}
	return n
}
