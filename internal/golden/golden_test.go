package golden

import "testing"

func TestDiffer_TellsTheFirstLine(t *testing.T) {
	for _, c := range []struct {
		got, want string
		line      int
		g, w      string
	}{
		{"", "", 0, "", ""},
		{"a\nb\n", "a\nb\n", 0, "", ""},
		{"a\nb\n", "a\nc\n", 2, "b", "c"},
		{"a\n", "a", 2, "", "(the end)"},
		{"a", "a\nb", 2, "(the end)", "b"},
		{"", "x", 1, "", "x"},
	} {
		line, g, w := differ([]byte(c.got), []byte(c.want))
		if line != c.line || string(g) != c.g || string(w) != c.w {
			t.Errorf("%q and %q: line %d, %q and %q", c.got, c.want, line, g, w)
		}
	}
}
