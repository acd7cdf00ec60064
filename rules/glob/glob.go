// Package glob decides whether a name fits a pattern: `*` stands for any run
// of characters, none and `/` included, `?` for exactly one character, and
// everything else for itself. There is no escape, so a name that holds a star
// is matched by a pattern with one, among others.
//
// It does not decide what a fit allows; whoever holds the patterns does.
package glob

import "unicode/utf8"

// Match says whether all of s fits the pattern. A byte that is no UTF-8 counts
// as one character. The time is at most len(pattern) times len(s): only the
// last star is ever tried again.
func Match(pattern, s string) bool {
	p, i := 0, 0
	star, from := -1, 0 // the last star, and where what it stands for began to end
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, i
			p++
		case p < len(pattern) && pattern[p] == '?':
			p++
			i += width(s[i:])
		case p < len(pattern) && pattern[p] == s[i]:
			p++
			i++
		case star >= 0:
			// Whole characters only, or `?` could take part of one.
			from += width(s[from:])
			p, i = star+1, from
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// MatchAny says whether s fits at least one of the patterns.
func MatchAny(patterns []string, s string) bool {
	for _, p := range patterns {
		if Match(p, s) {
			return true
		}
	}
	return false
}

func width(s string) int {
	_, n := utf8.DecodeRuneInString(s)
	return n
}
