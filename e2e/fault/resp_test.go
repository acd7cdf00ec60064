package fault

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReader_FindsWhereEachValueEnds(t *testing.T) {
	big := "$70000\r\n" + strings.Repeat("x", 70000) + "\r\n"
	for _, tc := range []struct {
		in         string
		subscribed bool
		channel    string // "" is no message
	}{
		{in: "+OK\r\n"},
		{in: "-ERR no\r\n"},
		{in: ":7\r\n"},
		{in: "$-1\r\n"},
		{in: "*-1\r\n"},
		{in: "$0\r\n\r\n"},
		{in: "$4\r\na\r\nb\r\n"},
		{in: big},
		{in: "_\r\n"},
		{in: "#t\r\n"},
		{in: ",1.5\r\n"},
		{in: "(123456789012345678901\r\n"},
		{in: "=5\r\ntxt:x\r\n"},
		{in: "!3\r\nERR\r\n"},
		{in: "%1\r\n+a\r\n*2\r\n:1\r\n:2\r\n"},
		{in: "~2\r\n+a\r\n+b\r\n"},
		{in: "*0\r\n"},
		{in: "|1\r\n+ttl\r\n:3\r\n*2\r\n+a\r\n+b\r\n"},
		{in: ">3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$1\r\nx\r\n", channel: "ch"},
		{in: ">3\r\n$8\r\nsmessage\r\n$2\r\nch\r\n$1\r\nx\r\n", channel: "ch"},
		{in: ">4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$2\r\nch\r\n$1\r\nx\r\n", channel: "ch"},
		{in: ">3\r\n+message\r\n$2\r\nch\r\n" + big, channel: "ch"},
		{in: "|1\r\n*3\r\n+message\r\n+no\r\n+x\r\n+v\r\n>3\r\n+message\r\n+ch\r\n+x\r\n", channel: "ch"},
		{in: "*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$1\r\nx\r\n", subscribed: true, channel: "ch"},
		{in: "*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$1\r\nx\r\n"}, // a list that begins with that word
		{in: ">3\r\n$9\r\nsubscribe\r\n$2\r\nch\r\n:1\r\n"},
		{in: "*1\r\n*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$1\r\nx\r\n", subscribed: true},
	} {
		name := tc.in[:min(len(tc.in), 40)]
		for how, r := range map[string]io.Reader{
			"whole":       strings.NewReader(tc.in + "+next\r\n"),
			"byte a time": iotest.OneByteReader(strings.NewReader(tc.in + "+next\r\n")),
		} {
			in := newReader(r)
			v, err := in.next()
			if err != nil {
				t.Errorf("%q, %s: %v", name, how, err)
				continue
			}
			if string(v.raw) != tc.in {
				t.Errorf("%q, %s: took %d bytes, want %d", name, how, len(v.raw), len(tc.in))
			}
			if got, ok := v.channel(tc.subscribed); got != tc.channel || ok != (tc.channel != "") {
				t.Errorf("%q, %s: channel %q %t, want %q", name, how, got, ok, tc.channel)
			}
			if v, err := in.next(); err != nil || string(v.raw) != "+next\r\n" {
				t.Errorf("%q, %s: the value behind it is lost: %v", name, how, err)
			}
		}
	}
}

func TestReader_RefusesWhatIsNotRESP(t *testing.T) {
	for _, in := range []string{
		"\r\n", "x\r\n", "+\n", "+a\n", "$x\r\n", "$-2\r\n", "$1\r\nab\r\n", "*99999999999999999999\r\n", "$?\r\n",
		strings.Repeat("*1\r\n", maxDepth+2), "+" + strings.Repeat("a", maxLine+4096*16) + "\r\n",
	} {
		if _, err := newReader(strings.NewReader(in)).next(); !errors.Is(err, errSyntax) {
			t.Errorf("%.20q: got %v, want %v", in, err, errSyntax)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("*2\r\n$1\r\na\r\n:1\r\n>3\r\n+message\r\n+c\r\n$1\r\nx\r\n"))
	f.Add([]byte("|1\r\n+a\r\n+b\r\n%1\r\n#t\r\n_\r\n"))
	f.Add([]byte("$4294967296\r\nx"))
	f.Add([]byte("*4294967296\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := newReader(bytes.NewReader(in))
		var taken []byte
		for {
			v, err := r.next()
			if err != nil {
				taken = append(taken, r.pending.Bytes()...)
				break
			}
			if len(v.raw) < 3 {
				t.Fatalf("a value of %d bytes", len(v.raw))
			}
			v.channel(true)
			taken = append(taken, v.raw...)
		}
		rest, err := io.ReadAll(r.r)
		if err != nil {
			t.Fatal(err)
		}
		if got := append(taken, rest...); !bytes.Equal(got, in) {
			t.Fatalf("%d bytes came in, %d can be passed on", len(in), len(got))
		}
	})
}
