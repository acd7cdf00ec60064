package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"slices"

	"github.com/MicahParks/jwkset"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

// keySet is one reading of a JWKS. It is not changed once made.
type keySet struct{ keys []key }

// key is one public key and the one algorithm it checks: the key decides, not
// the token.
type key struct {
	kid    string // may be empty
	alg    string
	public jwt.VerificationKey
}

// parseKeys reads a JWKS. What is for another purpose, of another type or not
// understood is left out; a set is no error for holding such keys.
func parseKeys(b []byte) (*keySet, error) {
	var doc struct {
		Keys *[]jsontext.Value `json:"keys"`
	}
	if err := json.Unmarshal(b, &doc); err != nil || doc.Keys == nil {
		// The decoder's words may quote the document, and a careless one holds
		// private keys.
		return nil, errors.New("not a JWKS: expected a JSON object with an array keys")
	}
	set := new(keySet)
	for _, raw := range *doc.Keys {
		if k, ok := parseKey(raw); ok {
			set.keys = append(set.keys, k)
		}
	}
	return set, nil
}

// minRSA is the least RSA modulus that RS256 allows, in bits (RFC 7518, 3.3).
const minRSA = 2048

func parseKey(raw jsontext.Value) (key, bool) {
	var m jwkset.JWKMarshal
	if err := json.Unmarshal(raw, &m); err != nil {
		return key{}, false
	}
	if m.USE != "" && m.USE != jwkset.UseSig {
		return key{}, false
	}
	if m.KEYOPS != nil && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify) {
		return key{}, false
	}
	// Only what makes up the key: certificates are not our way to trust, and an
	// x5u must never make this process dial.
	parsed, err := jwkset.NewJWKFromMarshal(
		jwkset.JWKMarshal{KTY: m.KTY, CRV: m.CRV, X: m.X, Y: m.Y, N: m.N, E: m.E},
		jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return key{}, false
	}
	k := key{kid: m.KID}
	switch public := parsed.Key().(type) {
	case ed25519.PublicKey:
		k.alg, k.public = "EdDSA", public
	case *ecdsa.PublicKey:
		if public.Curve != elliptic.P256() {
			return key{}, false
		}
		k.alg, k.public = "ES256", public
	case *rsa.PublicKey:
		if public.N.BitLen() < minRSA {
			return key{}, false
		}
		k.alg, k.public = "RS256", public
	default:
		return key{}, false
	}
	if m.ALG != "" && string(m.ALG) != k.alg {
		return key{}, false
	}
	return k, true
}

// find is the key that a token with this algorithm and kid must be signed with.
// A token that names none may be signed with any key of its algorithm.
func (s *keySet) find(alg string, kid any, named bool) (any, error) {
	if s == nil {
		return nil, errNoKey
	}
	var fit jwt.VerificationKeySet
	for _, k := range s.keys {
		if k.alg == alg && (!named || k.kid == kid) {
			fit.Keys = append(fit.Keys, k.public)
		}
	}
	if fit.Keys == nil {
		return nil, errNoKey
	}
	return fit, nil
}
