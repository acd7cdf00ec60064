package drain

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"godwit/internal/golden"
)

// TestLine_Transcript plays testdata/line.txt: somebody comes, begins or ends a
// call, or is the next to move, as the indented line after it says.
func TestLine_Transcript(t *testing.T) {
	const file = "testdata/line.txt"
	script, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	var l Line[string]
	calling := map[string]bool{}
	for line := range strings.Lines(string(script)) {
		if strings.HasPrefix(line, " ") {
			continue
		}
		out.WriteString(line)
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		for _, who := range f[1:] {
			switch f[0] {
			case "come":
				l.Add(who)
			case "call":
				calling[who] = true
			case "hang-up":
				delete(calling, who)
			}
		}
		if f[0] == "next" {
			fmt.Fprintf(&out, "  %s, %d left\n", l.Next(func(s string) bool { return calling[s] }), l.Len())
		}
	}
	golden.Is(t, file, out.Bytes())
}

// Everybody moves once, and nobody in a call before somebody who is in none.
func TestLine_WhoIsInACallIsLast(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l Line[int]
		var in, gone []int
		calling := map[int]bool{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0, 1:
				in = append(in, len(in)+len(gone))
				l.Add(in[len(in)-1])
				calling[in[len(in)-1]] = rapid.Bool().Draw(t, "in a call")
			case 2:
				if len(in) > 0 { // who was passed over for a call stays so
					who := rapid.SampledFrom(in).Draw(t, "who begins one")
					calling[who] = true
				}
			case 3:
				if len(in) == 0 {
					continue
				}
				one := l.Next(func(s int) bool { return calling[s] })
				if calling[one] && slices.ContainsFunc(in, func(s int) bool { return !calling[s] }) {
					t.Fatalf("%d is in a call, and %v are there", one, in)
				}
				i := slices.Index(in, one)
				if i < 0 {
					t.Fatalf("%d is not there", one)
				}
				in, gone = slices.Delete(in, i, i+1), append(gone, one)
			}
			if l.Len() != len(in) {
				t.Fatalf("%d in line, want %d", l.Len(), len(in))
			}
		}
	})
}
