// Package handle decides which 8 bytes may stand for a user in the binary
// dialects: candidates that the user's name alone gives, in their order.
//
// It does not decide which candidate a user has: the first that no other user
// registered with the store has. That is nearly always the first one, so whoever
// names another one says so, and everybody else counts from the name.
package handle

import (
	"crypto/sha256"
	"encoding/hex"
)

// Handle stands for a user. Zero is nobody.
type Handle [8]byte

// Candidate is one handle that a user may have, and leads to the next.
type Candidate [sha256.Size]byte

// First is the first candidate: the first 8 bytes of SHA-256 of the name.
func First(user string) Candidate { return nonZero(sha256.Sum256([]byte(user))) }

// Next is the candidate after it, of the hash of the hash.
func (c Candidate) Next() Candidate { return nonZero(sha256.Sum256(c[:])) }

// Handle is the candidate itself, never zero.
func (c Candidate) Handle() Handle { return Handle(c[:8]) }

func nonZero(sum [sha256.Size]byte) Candidate {
	for Handle(sum[:8]) == (Handle{}) {
		sum = sha256.Sum256(sum[:])
	}
	return sum
}

// String is 16 hex digits, the bytes in the order of the wire.
func (h Handle) String() string { return hex.EncodeToString(h[:]) }

// Parse reads what String writes.
func Parse(s string) (h Handle, ok bool) {
	if len(s) != hex.EncodedLen(len(h)) {
		return Handle{}, false
	}
	_, err := hex.Decode(h[:], []byte(s))
	return h, err == nil
}
