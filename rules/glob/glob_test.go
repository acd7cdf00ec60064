package glob

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestMatch_Table(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true},
		{"", "a", false},
		{"*", "", true},
		{"*", "a/b/c", true},
		{"?", "", false},
		{"?", "é", true},
		{"??", "é", false},
		{"*??", "€", false},
		{"?", "\xff", true},
		{"lobby", "lobby", true},
		{"lobby", "Lobby", false},
		{"lobby", "lobby2", false},
		{"team/*", "team/", true},
		{"team/*", "team/a/b", true},
		{"team/*", "team", false},
		{"*/log", "a/log/log", true},
		{"a*b*c", "aXbXbXc", true},
		{"a*b*c", "aXcXb", false},
		{"**a**", "bab", true},
		{"*é", "aé", true},
		{"[a]", "a", false},
		{"[a]", "[a]", true},
		{`\*`, `\x`, true},
	} {
		if got := Match(c.pattern, c.s); got != c.want {
			t.Errorf("Match(%q, %q) = %t, want %t", c.pattern, c.s, got, c.want)
		}
	}
}

func TestMatchAny_NoPatternFitsNothing(t *testing.T) {
	if MatchAny(nil, "a") {
		t.Error("MatchAny(nil) = true")
	}
	if !MatchAny([]string{"b", "a*"}, "ab") {
		t.Error(`MatchAny([b a*], "ab") = false`)
	}
}

// slow is the definition, with no regard for time.
func slow(p, s []rune) bool {
	switch {
	case len(p) == 0:
		return len(s) == 0
	case p[0] == '*':
		return slow(p[1:], s) || len(s) > 0 && slow(p, s[1:])
	case len(s) == 0:
		return false
	default:
		return (p[0] == '?' || p[0] == s[0]) && slow(p[1:], s[1:])
	}
}

func TestMatch_IsItsDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.StringOfN(rapid.SampledFrom([]rune("ab/€*?")), 0, 8, -1).Draw(t, "pattern")
		s := rapid.StringOfN(rapid.SampledFrom([]rune("ab/€")), 0, 8, -1).Draw(t, "s")
		if got, want := Match(p, s), slow([]rune(p), []rune(s)); got != want {
			t.Fatalf("Match(%q, %q) = %t, want %t", p, s, got, want)
		}
	})
}

func TestMatch_ManyStarsDoNotExplode(t *testing.T) {
	p := strings.Repeat("*a", 100) + "b"
	s := strings.Repeat("a", 10_000)
	start := time.Now()
	if Match(p, s) {
		t.Fatal("matched a name without b")
	}
	// About 1 ms; an exponential matcher would not end in this life.
	if d := time.Since(start); d > 5*time.Second {
		t.Fatalf("took %v", d)
	}
}

func FuzzMatch(f *testing.F) {
	f.Add("a*b?c", "axxbyc")
	f.Add("*\xff", "€\xff")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		Match(pattern, s)
		if !Match("*", s) || !Match(s+"*", s) || !Match("*"+s, s) {
			t.Errorf("%q does not fit itself with a star", s)
		}
	})
}
