package auth

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// fileOf writes a key set into a new file.
func fileOf(t testing.TB, doc string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(path, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func newVerifier(t testing.TB, cfg Config) *Verifier {
	t.Helper()
	if cfg.Now == nil {
		cfg.Now = at(start)
	}
	v, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVerify_GoodTokensOfEveryAlgorithm(t *testing.T) {
	k := testKeys()
	v := newVerifier(t, Config{Secret: secret, JWKS: fileOf(t, jwksOf(
		jwk("ed", k.ed.Public()), jwk("ec", &k.ec.PublicKey, "alg", "ES256", "use", "sig"), jwk("rsa", &k.rsa.PublicKey),
	))})
	for name, token := range map[string]string{
		"HS256":             mint(t, jwt.SigningMethodHS256, secret, claims()),
		"EdDSA":             mint(t, jwt.SigningMethodEdDSA, k.ed, claims(), "kid", "ed"),
		"ES256":             mint(t, jwt.SigningMethodES256, k.ec, claims(), "kid", "ec"),
		"RS256":             mint(t, jwt.SigningMethodRS256, k.rsa, claims(), "kid", "rsa"),
		"ES256 without kid": mint(t, jwt.SigningMethodES256, k.ec, claims()),
	} {
		c, err := v.Verify(t.Context(), token)
		if want := (Claims{User: "ann", Expires: start.Add(time.Hour)}); err != nil || !reflect.DeepEqual(c, want) {
			t.Errorf("%s: %+v, %v; want %+v", name, c, err, want)
		}
	}
}

func TestVerify_RefusesWhatIsSignedWrong(t *testing.T) {
	k := testKeys()
	der, err := x509.MarshalPKIXPublicKey(&k.rsa.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	asPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	set := jwksOf(
		jwk("ed", k.ed.Public()), jwk("ec", &k.ec.PublicKey), jwk("rsa", &k.rsa.PublicKey), jwk("p384", &k.p384.PublicKey),
		jwk("enc", k.ed2.Public(), "use", "enc"), jwk("lies", k.ed2.Public(), "alg", "RS256"),
	)
	both := Config{Secret: secret, JWKS: fileOf(t, set)}
	onlySet := Config{JWKS: both.JWKS}
	onlySecret := Config{Secret: secret}
	good := mint(t, jwt.SigningMethodHS256, secret, claims())
	head, _, _ := strings.Cut(good, ".")
	_, body, _ := strings.Cut(mint(t, jwt.SigningMethodHS256, []byte("another secret, long"), claims("sub", "eve")), ".")

	for name, c := range map[string]struct {
		cfg   Config
		token string
	}{
		"empty":                         {both, ""},
		"no dots":                       {both, "abcdefgh"},
		"four parts":                    {both, good + ".abcd"},
		"none":                          {both, mint(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims())},
		"none, kid of a key":            {both, mint(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims(), "kid", "rsa")},
		"none spelt otherwise":          {both, mint(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims(), "alg", "nOnE")},
		"no signature":                  {both, good[:strings.LastIndex(good, ".")+1]},
		"another secret":                {both, mint(t, jwt.SigningMethodHS256, []byte("another secret, long"), claims())},
		"header of one, body of one":    {both, head + "." + body},
		"HS384 with the secret":         {both, mint(t, jwt.SigningMethodHS384, secret, claims())},
		"HS256 with the public key PEM": {both, mint(t, jwt.SigningMethodHS256, asPEM, claims(), "kid", "rsa")},
		"HS256 with the public key DER": {both, mint(t, jwt.SigningMethodHS256, der, claims(), "kid", "rsa")},
		"HS256 with the ed key":         {both, mint(t, jwt.SigningMethodHS256, []byte(k.ed.Public().(ed25519.PublicKey)), claims(), "kid", "ed")},
		"HS256, only a set":             {onlySet, good},
		"HS256, empty secret":           {onlySet, mint(t, jwt.SigningMethodHS256, []byte{}, claims())},
		"EdDSA, only a secret":          {onlySecret, mint(t, jwt.SigningMethodEdDSA, k.ed, claims(), "kid", "ed")},
		"kid of another type":           {both, mint(t, jwt.SigningMethodEdDSA, k.ed, claims(), "kid", "ec")},
		"kid of another key":            {both, mint(t, jwt.SigningMethodEdDSA, k.ed2, claims(), "kid", "ed")},
		"unknown kid":                   {both, mint(t, jwt.SigningMethodEdDSA, k.ed, claims(), "kid", "who")},
		"kid is a number":               {both, mint(t, jwt.SigningMethodEdDSA, k.ed, claims(), "kid", 7)},
		"key not in the set, no kid":    {both, mint(t, jwt.SigningMethodEdDSA, k.ed2, claims())},
		"ES384":                         {both, mint(t, jwt.SigningMethodES384, k.p384, claims(), "kid", "p384")},
		"RS512":                         {both, mint(t, jwt.SigningMethodRS512, k.rsa, claims(), "kid", "rsa")},
		"PS256":                         {both, mint(t, jwt.SigningMethodPS256, k.rsa, claims(), "kid", "rsa")},
		"key for encryption":            {both, mint(t, jwt.SigningMethodEdDSA, k.ed2, claims(), "kid", "enc")},
		"key whose alg is another":      {both, mint(t, jwt.SigningMethodEdDSA, k.ed2, claims(), "kid", "lies")},
		"key in the header":             {both, mint(t, jwt.SigningMethodEdDSA, k.ed2, claims(), "jwk", jwk("x", k.ed2.Public()))},
		"crit":                          {both, mint(t, jwt.SigningMethodHS256, secret, claims(), "crit", []string{"b64"})},
		"dev token":                     {both, "dev:ann"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, newVerifier(t, c.cfg), c.token) })
	}
}

func refused(t *testing.T, v *Verifier, token string) {
	t.Helper()
	c, err := v.Verify(t.Context(), token)
	if !errors.Is(err, ErrRefused) || errors.Is(err, ErrExpired) {
		t.Fatalf("Verify gave %+v, %v; want ErrRefused", c, err)
	}
	if leaks(err.Error(), token) {
		t.Errorf("the error quotes the token: %v", err)
	}
	if strings.Contains(err.Error(), "refused") {
		t.Errorf("the error is %q, want the reason alone: who tells it says that the token is refused", err)
	}
}

func TestVerify_ARefusalIsTheReasonAlone(t *testing.T) {
	both := newVerifier(t, Config{Secret: secret, JWKS: fileOf(t, jwksOf(jwk("ed", testKeys().ed.Public())))})
	onlyDev := newVerifier(t, Config{Dev: true})
	for name, c := range map[string]struct {
		v           *Verifier
		token, want string
	}{
		"no key":     {both, mint(t, jwt.SigningMethodEdDSA, testKeys().ed2, claims(), "kid", "who"), "signed with a key that is not in the set"},
		"long sub":   {both, mint(t, jwt.SigningMethodHS256, secret, claims("sub", strings.Repeat("a", 129))), "sub is longer than 128 bytes"},
		"no sub":     {both, mint(t, jwt.SigningMethodHS256, secret, claims("sub", nil)), "no sub"},
		"no dev":     {both, "dev:ann", "not a JWT, or its claims are malformed"},
		"dev":        {onlyDev, "dev:", "the user of a dev token is empty"},
		"none":       {both, "", "there is none"},
		"none, dev":  {onlyDev, "", "there is none"},
		"dev and no": {onlyDev, "abc", "only dev tokens are accepted"},
	} {
		if _, err := c.v.Verify(t.Context(), c.token); !errors.Is(err, ErrRefused) || err.Error() != c.want {
			t.Errorf("%s: %v, want ErrRefused that says %q", name, err, c.want)
		}
	}
}

func TestVerify_RefusesWrongClaims(t *testing.T) {
	cfg := Config{Secret: secret, Audience: "chat", Issuer: "idp"}
	good := func(changes ...any) string {
		return mint(t, jwt.SigningMethodHS256, secret, claims(append([]any{"aud", "chat", "iss", "idp"}, changes...)...))
	}
	v := newVerifier(t, cfg)
	for name, token := range map[string]string{
		"plain":            good(),
		"aud array":        good("aud", []string{"x", "chat"}),
		"nbf is now":       good("nbf", start.Unix()),
		"exp in 1 s":       good("exp", start.Unix()+1),
		"exp a fraction":   good("exp", float64(start.Unix())+0.5),
		"sub of 128 bytes": good("sub", strings.Repeat("é", 64)),
		"unknown claims":   good("scope", "all", "Sub", 1),
	} {
		if _, err := v.Verify(t.Context(), token); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	body := func(s string) string {
		return mintRaw(t, strings.Replace(`{"sub":"ann","exp":4102444800,"aud":"chat","iss":"idp"}`, `"ann"`, s, 1))
	}
	if _, err := v.Verify(t.Context(), body(`"ann"`)); err != nil {
		t.Fatalf("raw payload: %v", err)
	}
	for name, token := range map[string]string{
		"no sub":                good("sub", nil),
		"empty sub":             good("sub", ""),
		"sub of 129 bytes":      good("sub", strings.Repeat("a", 129)),
		"sub is a number":       good("sub", 7),
		"sub not UTF-8":         body("\"\xff\""),
		"sub half a surrogate":  body(`"\ud800"`),
		"sub twice":             body(`"ann","sub":"eve"`),
		"payload no object":     mintRaw(t, `[]`),
		"payload no JSON":       mintRaw(t, `{"sub":`),
		"no exp":                good("exp", nil),
		"exp is text":           good("exp", "4102444800"),
		"exp negative":          good("exp", -1),
		"exp beyond all":        good("exp", 1e30),
		"not yet valid":         good("nbf", start.Unix()+1),
		"nbf is text":           good("nbf", "now"),
		"no aud":                good("aud", nil),
		"another aud":           good("aud", "cha"),
		"aud empty":             good("aud", []string{}),
		"aud mixed":             good("aud", []any{"chat", 1}),
		"aud null in array":     good("aud", []any{"chat", nil}),
		"no iss":                good("iss", nil),
		"another iss":           good("iss", "idp/"),
		"iss array":             good("iss", []string{"idp"}),
		"rooms is text":         good("rooms", "*"),
		"rooms of numbers":      good("rooms", []int{1}),
		"rooms is an object":    good("rooms", map[string]any{}),
		"rooms is null":         body(`"ann","rooms":null`),
		"expired, wrong aud":    good("exp", start.Unix()-1, "aud", "x"),
		"expired, bad sub":      good("exp", start.Unix()-1, "sub", ""),
		"expired, wrong rooms":  good("exp", start.Unix()-1, "rooms", 1),
		"expired, wrong secret": mint(t, jwt.SigningMethodHS256, []byte("another secret, long"), claims("exp", start.Unix()-1)),
	} {
		t.Run(name, func(t *testing.T) { refused(t, v, token) })
	}
}

func TestVerify_ExpiredIsToldFromRefused(t *testing.T) {
	v := newVerifier(t, Config{Secret: secret})
	for _, exp := range []int64{0, start.Unix() - 1, start.Unix()} { // no leeway: exp itself is too late
		token := mint(t, jwt.SigningMethodHS256, secret, claims("exp", exp))
		if _, err := v.Verify(t.Context(), token); !errors.Is(err, ErrExpired) || errors.Is(err, ErrRefused) {
			t.Errorf("exp %d: %v, want ErrExpired", exp, err)
		}
	}
}

func TestVerify_RoomsAbsentIsAllAndEmptyIsNone(t *testing.T) {
	v := newVerifier(t, Config{Secret: secret})
	for _, c := range []struct {
		rooms any
		want  []string
		team  bool
	}{
		{nil, nil, true},
		{[]string{}, []string{}, false},
		{[]string{"a", "team/*"}, []string{"a", "team/*"}, true},
		{[]string{"team/?"}, []string{"team/?"}, false},
	} {
		got, err := v.Verify(t.Context(), mint(t, jwt.SigningMethodHS256, secret, claims("rooms", c.rooms)))
		if err != nil || !reflect.DeepEqual(got.Rooms, c.want) {
			t.Errorf("rooms %v: %#v, %v; want %#v", c.rooms, got.Rooms, err, c.want)
		}
		if got.MayJoin("team/red") != c.team {
			t.Errorf("rooms %v: MayJoin(team/red) = %t", c.rooms, !c.team)
		}
	}
}

func TestVerify_DevTokensOnlyWhereAllowed(t *testing.T) {
	v := newVerifier(t, Config{Dev: true})
	c, err := v.Verify(t.Context(), "dev:ann")
	if err != nil || c.User != "ann" || c.Rooms != nil || c.Expires.Before(start.AddDate(5, 0, 0)) {
		t.Fatalf("%+v, %v", c, err)
	}
	for _, token := range []string{"dev:", "dev:\xff", "dev:" + strings.Repeat("a", 129), "DEV:ann", "ann", mint(t, jwt.SigningMethodHS256, secret, claims())} {
		refused(t, v, token)
	}
	with := newVerifier(t, Config{Dev: true, Secret: secret})
	for _, token := range []string{"dev:ann", mint(t, jwt.SigningMethodHS256, secret, claims())} {
		if _, err := with.Verify(t.Context(), token); err != nil {
			t.Errorf("with a secret and dev: %v", err)
		}
	}
}

func TestNew_RefusesWhatCannotWork(t *testing.T) {
	k := testKeys()
	for name, cfg := range map[string]Config{
		"nothing":            {},
		"no such file":       {JWKS: filepath.Join(t.TempDir(), "none")},
		"no JWKS":            {JWKS: fileOf(t, `[]`)},
		"no keys":            {JWKS: fileOf(t, `{"keys":[]}`)},
		"keys null":          {JWKS: fileOf(t, `{"keys":null}`)},
		"no usable key":      {JWKS: fileOf(t, jwksOf(jwk("a", &k.p384.PublicKey), jwk("b", k.small), map[string]any{"kty": "oct", "k": "c2VjcmV0"}, map[string]any{"kty": 1}))},
		"plain http":         {JWKS: "http://idp.example/jwks"},
		"another scheme":     {JWKS: "ftp://idp.example/jwks"},
		"https no host":      {JWKS: "https:///jwks"},
		"loopback lookalike": {JWKS: "http://127.0.0.1.example/jwks"},
	} {
		if v, err := New(cfg); err == nil {
			t.Errorf("%s: New gave %v, want an error", name, v)
		}
	}
	for _, url := range []string{"https://idp.example/jwks", "http://127.0.0.1:1/jwks", "http://[::1]:1/", "http://localhost/"} {
		if _, err := New(Config{JWKS: url}); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	k := testKeys()
	v := newVerifier(f, Config{Secret: secret, Dev: true, JWKS: fileOf(f, jwksOf(jwk("ed", k.ed.Public())))})
	f.Add(mint(f, jwt.SigningMethodHS256, secret, claims()))
	f.Add(mint(f, jwt.SigningMethodEdDSA, k.ed, claims(), "kid", "ed"))
	f.Add(mint(f, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims()))
	f.Add("dev:ann")
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		c, err := v.Verify(t.Context(), token)
		switch {
		case err == nil:
			if why := badUser(c.User); why != "" || !c.Expires.After(start) {
				t.Errorf("accepted %+v (%s)", c, why)
			}
		case !errors.Is(err, ErrRefused) && !errors.Is(err, ErrExpired):
			t.Errorf("error without a verdict: %v", err)
		case leaks(err.Error(), token):
			t.Errorf("the error quotes the token: %v", err)
		}
	})
}

func FuzzPayload(f *testing.F) {
	f.Add(`{"sub":"ann","exp":4102444800,"nbf":0,"aud":["a"],"iss":"i","rooms":["*"]}`)
	f.Add(`{"sub":"ann","exp":1e400}`)
	v := newVerifier(f, Config{Secret: secret})
	f.Fuzz(func(t *testing.T, body string) {
		c, err := v.Verify(t.Context(), mintRaw(t, body))
		if err == nil && (badUser(c.User) != "" || !c.Expires.After(start)) {
			t.Errorf("accepted %+v", c)
		}
	})
}

func FuzzKeys(f *testing.F) {
	k := testKeys()
	f.Add(jwksOf(jwk("ed", k.ed.Public()), jwk("ec", &k.ec.PublicKey), jwk("rsa", &k.rsa.PublicKey)))
	f.Add(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":""},{"kty":"EC","crv":"P-256","x":"AA","y":"AA"},{"x5u":"https://a.example"}]}`)
	f.Fuzz(func(t *testing.T, doc string) {
		set, err := parseKeys([]byte(doc))
		if err == nil {
			for _, k := range set.keys {
				if k.public == nil || k.alg == "" {
					t.Errorf("half a key: %+v", k)
				}
			}
		}
	})
}

func TestNew_WarnsOfASecretThatCanBeGuessedAndTakesIt(t *testing.T) {
	for secret, warns := range map[string]bool{"hunter2": true, "0123456789abcdef": false} {
		var log bytes.Buffer
		v, err := New(Config{Secret: []byte(secret), Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		token := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "ann", "exp": time.Now().Add(time.Hour).Unix()})
		signed, err := token.SignedString([]byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(t.Context(), signed); err != nil {
			t.Errorf("%d bytes: %v", len(secret), err)
		}
		if got := strings.Contains(log.String(), "short"); got != warns || strings.Contains(log.String(), secret) {
			t.Errorf("%d bytes: warned %t, want %t, and never the secret itself:\n%s", len(secret), got, warns, log.String())
		}
	}
}
