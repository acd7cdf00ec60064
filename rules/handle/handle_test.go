package handle

import (
	"crypto/sha256"
	"testing"

	"pgregory.net/rapid"
)

func TestFirst_IsTheHeadOfTheNamesHash(t *testing.T) {
	// SHA-256 of "ann" and of that hash, by sha256sum.
	c := First("ann")
	if got := c.Handle().String(); got != "49915e0d7d4b402e" {
		t.Errorf("ann's first is %s", got)
	}
	if got := c.Next().Handle().String(); got != "4794aff0e935da7a" {
		t.Errorf("ann's next is %s", got)
	}
}

func TestCandidate_IsNeverZero(t *testing.T) {
	var c Candidate // as a hash with 8 zeros in front would be
	want := sha256.Sum256(c[:])
	if got := nonZero(c); got != want {
		t.Errorf("after a zero comes %x, want its hash %x", got, want)
	}
}

func TestParse_ReadsWhatStringWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := Handle(rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(t, "handle"))
		if got, ok := Parse(h.String()); !ok || got != h {
			t.Fatalf("%x comes back as %x, %t", h, got, ok)
		}
	})
	for _, s := range []string{"", "0011223344556677 ", "001122334455667", "00112233445566xx", "001122334455667788"} {
		if h, ok := Parse(s); ok {
			t.Errorf("%q reads as %x", s, h)
		}
	}
}
