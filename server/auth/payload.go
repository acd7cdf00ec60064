package auth

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

// payload is the part of a token that says something. It is decoded strictly:
// names are exact, no name comes twice, all text is UTF-8.
type payload struct {
	Sub   *string        `json:"sub"`
	Exp   *float64       `json:"exp"`
	Nbf   *float64       `json:"nbf"`
	Iss   *string        `json:"iss"`
	Aud   jsontext.Value `json:"aud"`   // a string or an array of them
	Rooms jsontext.Value `json:"rooms"` // absent and null are not the same
}

// UnmarshalJSON is called by the parser with the raw payload.
func (p *payload) UnmarshalJSON(b []byte) error {
	type plain payload // without this method
	return json.Unmarshal(b, (*plain)(p))
}

// The parser wants these of any claims; it is told not to check them, claims
// does.
func (*payload) GetExpirationTime() (*jwt.NumericDate, error) { return nil, nil }
func (*payload) GetIssuedAt() (*jwt.NumericDate, error)       { return nil, nil }
func (*payload) GetNotBefore() (*jwt.NumericDate, error)      { return nil, nil }
func (*payload) GetIssuer() (string, error)                   { return "", nil }
func (*payload) GetSubject() (string, error)                  { return "", nil }
func (*payload) GetAudience() (jwt.ClaimStrings, error)       { return nil, nil }

// claims checks what the token says. Expiry comes last: an expired token that
// is wrong in another way is refused for that.
func (p *payload) claims(cfg Config) (Claims, error) {
	refuse := func(why string) (Claims, error) {
		return Claims{}, refusal(why)
	}
	if p.Sub == nil {
		return refuse("no sub")
	}
	if why := badUser(*p.Sub); why != "" {
		return refuse("sub is " + why)
	}
	if p.Exp == nil {
		return refuse("no exp")
	}
	exp, ok := when(*p.Exp)
	if !ok {
		return refuse("exp is no time")
	}
	now := cfg.Now()
	if p.Nbf != nil {
		nbf, ok := when(*p.Nbf)
		if !ok {
			return refuse("nbf is no time")
		}
		if now.Before(nbf) {
			return refuse("not valid yet")
		}
	}
	if cfg.Issuer != "" && (p.Iss == nil || *p.Iss != cfg.Issuer) {
		return refuse("from another issuer")
	}
	aud, err := texts(p.Aud, true)
	if err != nil {
		return refuse("aud is neither a string nor an array of strings")
	}
	if cfg.Audience != "" && !slices.Contains(aud, cfg.Audience) {
		return refuse("for another audience")
	}
	rooms, err := texts(p.Rooms, false)
	if err != nil {
		return refuse("rooms is no array of strings")
	}
	if !now.Before(exp) {
		return Claims{}, fmt.Errorf("%w: exp was %v ago", ErrExpired, now.Sub(exp).Round(time.Second))
	}
	return Claims{User: *p.Sub, Expires: exp, Rooms: rooms}, nil
}

// texts reads an array of strings, or one string where that is allowed. Absent
// is nil; an empty array is not.
func texts(v jsontext.Value, orOne bool) ([]string, error) {
	switch {
	case v == nil:
		return nil, nil
	case v.Kind() == '"' && orOne:
		var s string
		err := json.Unmarshal(v, &s)
		return []string{s}, err
	case v.Kind() == '[':
		var members []jsontext.Value
		if err := json.Unmarshal(v, &members); err != nil {
			return nil, err
		}
		out := make([]string, len(members))
		for i, m := range members {
			if m.Kind() != '"' {
				return nil, errNotText
			}
			if err := json.Unmarshal(m, &out[i]); err != nil {
				return nil, err
			}
		}
		return out, nil
	default:
		return nil, errNotText
	}
}

var errNotText = errors.New("not a string")

// when is a NumericDate: seconds since 1970, maybe with a fraction, up to the
// year 9999.
func when(seconds float64) (time.Time, bool) {
	if seconds < 0 || seconds > 253402300799 { // JSON has no NaN
		return time.Time{}, false
	}
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(fraction*1e9)).UTC(), true
}

// badUser says what is wrong with a user's name, or nothing.
func badUser(user string) string {
	switch {
	case user == "":
		return "empty"
	case len(user) > 128:
		return "longer than 128 bytes"
	case !utf8.ValidString(user):
		return "not UTF-8"
	}
	return ""
}
