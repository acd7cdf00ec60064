package auth

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestOffer_IsTakenOnlyAsItWasSigned(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, foreign, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	away := errors.New("away")
	keyOf := func(issuer string) (string, error) {
		switch issuer {
		case "src b1":
			return string(pub), nil
		case "away b1":
			return "", away
		}
		return "", nil
	}
	good := Offer{ID: "j", Session: "s", Gen: 3, Audience: "dst b2", Issuer: "src b1", Expires: 1_000_001}
	with := func(key ed25519.PrivateKey, change func(*Offer)) string {
		o := good
		change(&o)
		token, err := SignOffer(key, o)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	plain := with(key, func(*Offer) {})
	raw := func(payload string) string {
		return base64.RawURLEncoding.EncodeToString([]byte(payload)) + "." +
			base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(payload)))
	}
	payload, signature, _ := strings.Cut(plain, ".")
	for _, c := range []struct {
		name, token string
		want        error
	}{
		{"good", plain, nil},
		{"for anyone", with(key, func(o *Offer) { o.Audience = "*" }), nil},
		{"for another node", with(key, func(o *Offer) { o.Audience = "other b2" }), ErrOfferAudience},
		{"for another boot", with(key, func(o *Offer) { o.Audience = "dst b3" }), ErrOfferAudience},
		{"over", with(key, func(o *Offer) { o.Expires = 1_000_000 }), ErrOfferExpired},
		{"over, and for another node", with(key, func(o *Offer) { o.Expires, o.Audience = 0, "x" }), ErrOfferAudience},
		{"foreign key", with(foreign, func(*Offer) {}), ErrBadOffer},
		{"foreign key, over", with(foreign, func(o *Offer) { o.Expires = 0 }), ErrBadOffer},
		{"unknown issuer", with(key, func(o *Offer) { o.Issuer = "x y" }), ErrBadOffer},
		{"store away", with(key, func(o *Offer) { o.Issuer = "away b1" }), away},
		{"another type", raw(`{"typ":"other","jti":"j","sid":"s","aud":"*","iss":"src b1","exp":1000001}`), ErrBadOffer},
		{"another type, over", raw(`{"typ":"other","jti":"j","sid":"s","aud":"*","iss":"src b1","exp":1}`), ErrBadOffer},
		{"no JSON", raw(`x`), ErrBadOffer},
		{"empty", "", ErrBadOffer},
		{"no signature", payload, ErrBadOffer},
		{"empty signature", payload + ".", ErrBadOffer},
		{"short signature", plain[:len(plain)-3], ErrBadOffer},
		{"short payload", payload[3:] + "." + signature, ErrBadOffer},
		{"three parts", plain + ".x", ErrBadOffer},
		{"too large", with(key, func(o *Offer) { o.ID = strings.Repeat("j", 2000) }), ErrBadOffer},
	} {
		for _, vouched := range []string{"", OfferSum(plain)} {
			if _, err := VerifyOffer(c.token, "dst b2", vouched, now, keyOf); !errors.Is(err, c.want) {
				t.Errorf("%s, vouched for %q: %v, want %v", c.name, vouched, err, c.want)
			}
		}
	}
	for _, vouched := range []string{"", OfferSum(plain)} {
		for i := range len(plain) {
			flipped := []byte(plain)
			flipped[i] ^= 1
			if o, err := VerifyOffer(string(flipped), "dst b2", vouched, now, keyOf); err == nil {
				t.Fatalf("byte %d flipped: taken as %+v", i, o)
			}
		}
	}
	vouched := ""
	if o, err := VerifyOffer(plain, "dst b2", vouched, now, keyOf); err != nil || o.Session != "s" || o.Gen != 3 || o.ID != "j" {
		t.Errorf("%+v, %v", o, err)
	}
}

// Of a token for which its issuer has vouched the signature is not looked at; all
// else is.
func TestOffer_ThatIsVouchedForNeedsNoKey(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	nobody := func(string) (string, error) { return "", errors.New("asked for a key") }
	for _, c := range []struct {
		name string
		of   Offer
		want error
	}{
		{"good", Offer{Audience: "dst b2", Expires: 1_000_001}, nil},
		{"for another node", Offer{Audience: "other b2", Expires: 1_000_001}, ErrOfferAudience},
		{"over", Offer{Audience: "dst b2", Expires: 1_000_000}, ErrOfferExpired},
	} {
		token, err := SignOffer(key, c.of)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := VerifyOffer(token, "dst b2", OfferSum(token), now, nobody); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func FuzzVerifyOffer(f *testing.F) {
	f.Add("e30.e30")
	f.Add(".")
	f.Fuzz(func(t *testing.T, token string) {
		if o, err := VerifyOffer(token, "n b", OfferSum("e30.e30"), time.UnixMilli(0), func(string) (string, error) { return strings.Repeat("k", 32), nil }); err == nil {
			t.Fatalf("%q was taken as %+v", token, o)
		}
	})
}
