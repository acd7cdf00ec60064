package e2e

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"godwit/e2e/fleet"
	"godwit/wire"
)

// signer is a key of an identity provider.
type signer struct {
	kid string
	key ed25519.PrivateKey
}

func newSigner(t *testing.T, kid string) signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return signer{kid, key}
}

// set is a JWKS of some signers.
func set(t *testing.T, all ...signer) []byte {
	t.Helper()
	keys := []map[string]string{}
	for _, s := range all {
		keys = append(keys, map[string]string{
			"kty": "OKP", "crv": "Ed25519", "kid": s.kid, "alg": "EdDSA",
			"x": base64.RawURLEncoding.EncodeToString(s.key.Public().(ed25519.PublicKey)),
		})
	}
	b, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (s signer) token(t *testing.T, user string) string {
	t.Helper()
	j := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{"sub": user, "exp": time.Now().Add(time.Hour).Unix()})
	j.Header["kid"] = s.kid
	signed, err := j.SignedString(s.key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// login says what a hello with the token is answered.
func login(t *testing.T, n *fleet.Node, token string) error {
	t.Helper()
	c := dial(t, n)
	defer c.Drop()
	return c.Call(within(t), "hello", wire.Hello{Token: token}, nil)
}

func TestKeys_ARotatedSetIsReadWithoutARestart(t *testing.T) {
	var served atomic.Pointer[[]byte]
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(*served.Load()) }))
	t.Cleanup(web.Close)
	file := filepath.Join(t.TempDir(), "keys.json")
	old, next, foreign := newSigner(t, "old"), newSigner(t, "next"), newSigner(t, "old")
	for name, where := range map[string]struct {
		setting string
		publish func([]byte)
	}{
		"url": {web.URL, func(b []byte) { served.Store(&b) }},
		"file": {file, func(b []byte) {
			if err := os.WriteFile(file+".new", b, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(file+".new", file); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			where.publish(set(t, old))
			n := fleet.StartNode(t, "n", map[string]string{"GODWIT_AUTH_JWKS": where.setting})
			if err := login(t, n, old.token(t, "ann")); err != nil {
				t.Fatalf("the key of the set: %v", err)
			}
			for what, token := range map[string]string{
				"another key of the same name":   foreign.token(t, "ann"),
				"the public key as an HS256 key": confused(t, old),
				"an HS256 token, no secret set":  fleet.Token("ann", time.Hour),
				"a dev token, with a key set":    "dev:ann",
			} {
				if err := login(t, n, token); refusal(err) != wire.Unauthorized {
					t.Errorf("%s: %v, want unauthorized", what, err)
				}
			}
			where.publish(set(t, next))
			// A key that the set lacks has it read again, but not at every try.
			fleet.Eventually(t, fleet.Patience, "the next key is known", func() error { return login(t, n, next.token(t, "ann")) })
			if err := login(t, n, old.token(t, "ann")); refusal(err) != wire.Unauthorized {
				t.Errorf("the key that was taken out: %v, want unauthorized", err)
			}
		})
	}
}

// confused is a token that passes where a public key is taken for a secret.
func confused(t *testing.T, s signer) string {
	t.Helper()
	j := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "ann", "exp": time.Now().Add(time.Hour).Unix()})
	j.Header["kid"] = s.kid
	signed, err := j.SignedString([]byte(s.key.Public().(ed25519.PublicKey)))
	if err != nil {
		t.Fatal(fmt.Errorf("sign: %w", err))
	}
	return signed
}
