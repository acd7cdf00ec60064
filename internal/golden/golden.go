// Package golden holds what code says against a file of what it has to say.
package golden

import (
	"bytes"
	"flag"
	"os"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write the files anew that a test holds the code against")

// Is fails if a file is not byte for byte what was got; with -rewrite it
// becomes that. It tells of the first line that differs.
func Is(t *testing.T, file string, got []byte) {
	t.Helper()
	if *rewrite {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if n, g, w := differ(got, want); n > 0 {
		t.Errorf("%s, line %d (-rewrite writes the file anew)\n got %s\nwant %s", file, n, g, w)
	}
}

// differ finds the first line in which two texts differ, from 1; 0: none does.
func differ(got, want []byte) (line int, g, w []byte) {
	gs, ws := bytes.Split(got, []byte("\n")), bytes.Split(want, []byte("\n"))
	for i := range max(len(gs), len(ws)) {
		g, w := at(gs, i), at(ws, i)
		if i >= len(gs) || i >= len(ws) || !bytes.Equal(g, w) {
			return i + 1, g, w
		}
	}
	return 0, nil, nil
}

func at(lines [][]byte, i int) []byte {
	if i < len(lines) {
		return lines[i]
	}
	return []byte("(the end)")
}
