package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"
)

var (
	secret = []byte("0123456789abcdef-a-secret")
	start  = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
)

func at(t time.Time) func() time.Time { return func() time.Time { return t } }

// keys of one test binary: making RSA keys takes a while.
var testKeys = sync.OnceValue(func() (k struct {
	ed, ed2  ed25519.PrivateKey
	ec, p384 *ecdsa.PrivateKey
	rsa      *rsa.PrivateKey
	small    *rsa.PublicKey
},
) {
	_, k.ed, _ = ed25519.GenerateKey(rand.Reader)
	_, k.ed2, _ = ed25519.GenerateKey(rand.Reader)
	k.ec, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.p384, _ = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	k.rsa, _ = rsa.GenerateKey(rand.Reader, 2048)
	n := new(big.Int).Lsh(big.NewInt(1), 1023)
	k.small = &rsa.PublicKey{N: n.Add(n, big.NewInt(297)), E: 65537}
	return k
})

// claims of a good token, with changes; a nil value takes one out.
func claims(changes ...any) jwt.MapClaims {
	c := jwt.MapClaims{"sub": "ann", "exp": start.Add(time.Hour).Unix()}
	for i := 0; i < len(changes); i += 2 {
		name := changes[i].(string)
		if c[name] = changes[i+1]; changes[i+1] == nil {
			delete(c, name)
		}
	}
	return c
}

// mint signs; header is name, value, name, value...
func mint(t testing.TB, method jwt.SigningMethod, key any, c jwt.Claims, header ...any) string {
	t.Helper()
	tok := jwt.NewWithClaims(method, c)
	for i := 0; i < len(header); i += 2 {
		tok.Header[header[i].(string)] = header[i+1]
	}
	s, err := tok.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// mintRaw signs a payload that is given as bytes, with HS256.
func mintRaw(t testing.TB, payload string) string {
	t.Helper()
	enc := base64.RawURLEncoding
	text := enc.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + enc.EncodeToString([]byte(payload))
	sig, err := jwt.SigningMethodHS256.Sign(text, secret)
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + enc.EncodeToString(sig)
}

// jwk is a public key as a member of a key set.
func jwk(kid string, public crypto.PublicKey, more ...string) map[string]any {
	enc := base64.RawURLEncoding.EncodeToString
	m := map[string]any{}
	if kid != "" {
		m["kid"] = kid
	}
	switch p := public.(type) {
	case ed25519.PublicKey:
		m["kty"], m["crv"], m["x"] = "OKP", "Ed25519", enc(p)
	case *ecdsa.PublicKey:
		b, err := p.Bytes()
		if err != nil {
			panic(err)
		}
		half := (len(b) - 1) / 2
		m["kty"], m["crv"], m["x"], m["y"] = "EC", p.Params().Name, enc(b[1:1+half]), enc(b[1+half:])
	case *rsa.PublicKey:
		m["kty"], m["n"], m["e"] = "RSA", enc(p.N.Bytes()), enc(big.NewInt(int64(p.E)).Bytes())
	}
	for i := 0; i < len(more); i += 2 {
		m[more[i]] = more[i+1]
	}
	return m
}

func jwksOf(keys ...map[string]any) string {
	b, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// leaks says whether text quotes a part of the token.
func leaks(text, token string) bool {
	for _, part := range strings.Split(token, ".") {
		if len(part) >= 8 && strings.Contains(text, part) {
			return true
		}
	}
	return len(token) >= 8 && strings.Contains(text, token)
}
