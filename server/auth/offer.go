package auth

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// offerTokenMost is the largest token of an offer, in bytes.
const offerTokenMost = 2 << 10

// offerTyp is what the payload of an offer's token says it is.
const offerTyp = "redirect"

// Offer is the payload of an offer's token: who may take which session up, and
// until when.
type Offer struct {
	Typ      string `json:"typ"`
	ID       string `json:"jti"`
	Session  string `json:"sid"`
	Gen      uint64 `json:"gen"`
	Audience string `json:"aud"` // "NODE BOOT", or *
	Issuer   string `json:"iss"` // "NODE BOOT" of the source
	Expires  int64  `json:"exp"` // Unix time, ms
}

// Why an offer's token is refused.
var (
	ErrBadOffer      = errors.New("the token is no offer of this fleet")
	ErrOfferAudience = errors.New("the offer is for another node")
	ErrOfferExpired  = errors.New("the offer is over")
)

// SignOffer makes the token of an offer: base64url(payload).base64url(signature).
func SignOffer(key ed25519.PrivateKey, o Offer) (string, error) {
	o.Typ = offerTyp
	payload, err := json.Marshal(o)
	if err != nil {
		return "", fmt.Errorf("encode offer: %w", err)
	}
	text := base64.RawURLEncoding.EncodeToString(payload)
	return text + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, payload)), nil
}

// OfferSum stands for a token: its issuer says it to who is to be shown the token.
func OfferSum(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawStdEncoding.EncodeToString(sum[:])
}

// VerifyOffer reads a token and checks, in this order, its size, signature,
// type, audience and time. keyOf gives an issuer's public key, empty when there
// is none; its error is returned as it is. self is who is asked to take the
// session up, as "NODE BOOT". vouched is the OfferSum that the issuer itself has
// said, if it did: of that token the signature says nothing new.
//
// Errors: ErrBadOffer, ErrOfferAudience, ErrOfferExpired.
func VerifyOffer(token, self, vouched string, now time.Time, keyOf func(issuer string) (string, error)) (Offer, error) {
	var o Offer
	if len(token) > offerTokenMost {
		return o, ErrBadOffer
	}
	text, sig, ok := strings.Cut(token, ".")
	payload, err1 := base64.RawURLEncoding.Strict().DecodeString(text)
	signature, err2 := base64.RawURLEncoding.Strict().DecodeString(sig)
	if !ok || err1 != nil || err2 != nil || json.Unmarshal(payload, &o) != nil {
		return Offer{}, ErrBadOffer
	}
	if vouched == "" || OfferSum(token) != vouched {
		key, err := keyOf(o.Issuer)
		if err != nil {
			return Offer{}, err
		}
		if len(key) != ed25519.PublicKeySize || !ed25519.Verify(ed25519.PublicKey(key), payload, signature) {
			return Offer{}, ErrBadOffer
		}
	}
	switch {
	case o.Typ != offerTyp:
		return Offer{}, ErrBadOffer
	case o.Audience != "*" && o.Audience != self:
		return o, ErrOfferAudience
	case now.UnixMilli() >= o.Expires:
		return o, ErrOfferExpired
	}
	return o, nil
}
