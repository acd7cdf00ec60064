package wire

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"
)

// members walks an object that is known to be valid, and tells of each member its
// name and its value, raw. Both are parts of the object's bytes, but for a name that
// is written with escapes.
func members(object jsontext.Value, each func(name []byte, value jsontext.Value)) {
	for rest := object[1:]; ; {
		rest = skip(rest)
		if rest[0] == '}' {
			return
		}
		n := span(rest)
		name := plain(rest[:n])
		rest = skip(rest[n:])
		n = span(rest)
		each(name, rest[:n:n])
		rest = rest[n:]
	}
}

// plain is what a string that is known to be valid says.
func plain(quoted []byte) []byte {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1]
	}
	text, _ := jsontext.AppendUnquote(nil, quoted)
	return text
}

// skip is what follows white space, commas and colons.
func skip(b []byte) []byte {
	for i, c := range b {
		switch c {
		case ' ', '\t', '\r', '\n', ',', ':':
		default:
			return b[i:]
		}
	}
	return nil
}

// span is how long the value is with which b begins; valid JSON follows it.
func span(b []byte) int {
	level := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			level++
		case '}', ']':
			level--
		default: // of a number, true, false or null; inside, of what stands between values, too
			if level == 0 && i+1 < len(b) && !ends(b[i+1]) {
				continue
			}
		}
		if level == 0 {
			return i + 1
		}
	}
	return len(b)
}

// ends says whether a byte ends a value that has no end of its own.
func ends(c byte) bool {
	switch c {
	case ' ', '\t', '\r', '\n', ',', ']', '}':
		return true
	}
	return false
}
