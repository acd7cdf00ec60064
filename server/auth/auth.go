// Package auth decides who a token speaks for: the user, until when, and which
// rooms that user may join.
//
// It decides by signature and claims alone. HS256 is checked with the shared
// secret and with nothing else; EdDSA, ES256 and RS256 are checked with the key
// set and with nothing else; what is not configured is refused, `none` with it.
// There is no leeway on any time. It does not know sessions: whoever keeps one
// keeps the claims and ends it when they end.
//
// No error and no log line holds a byte of a token.
package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"godwit/rules/glob"

	"github.com/golang-jwt/jwt/v5"
)

// Errors of Verify.
var (
	// ErrExpired: the token was good and its exp has passed.
	ErrExpired = errors.New("token expired")
	// ErrRefused: the token is no good; another try with it is pointless.
	ErrRefused = errors.New("token refused")
	// ErrNotReady: the key set has never been read, so nothing can be said about
	// a token that needs it. Another try may succeed.
	ErrNotReady = errors.New("token keys not read yet")
)

// refusal is an ErrRefused. Its words are the reason alone: whoever tells it
// says that the token is refused.
type refusal string

func (r refusal) Error() string      { return string(r) }
func (refusal) Is(target error) bool { return target == ErrRefused }

// shortSecret is the length below which an HS256 secret is warned of, in bytes:
// it can be found by trying, from any one token.
const shortSecret = 16

// Config says which tokens are good. At least one of Secret, JWKS and Dev is needed.
type Config struct {
	Secret   []byte           // HS256
	JWKS     string           // EdDSA, ES256, RS256: path of a file, or an https URL (http for loopback hosts)
	Audience string           // when set, the token's aud must hold it
	Issuer   string           // when set, the token's iss must be it
	Dev      bool             // accept "dev:<user>" as a token, for trying things out
	Now      func() time.Time // default time.Now
	Client   *http.Client     // reads the JWKS URL; default one of its own
	Logger   *slog.Logger     // default: nothing is logged
}

// Claims is what a good token says.
type Claims struct {
	User    string // 1..128 bytes of UTF-8
	Expires time.Time
	// Rooms are globs of the rooms the user may join. Nil: all; empty and not
	// nil: none.
	Rooms []string
}

// MayJoin says whether the claims allow joining the room.
func (c Claims) MayJoin(room string) bool {
	return c.Rooms == nil || glob.MatchAny(c.Rooms, room)
}

// Verifier checks tokens. Its methods may be called from any goroutine.
type Verifier struct {
	cfg    Config
	parser *jwt.Parser // nil: only dev tokens
	jwks   *jwks       // nil: none configured
}

// New checks the configuration and reads the key set if it is a file. It does
// not touch the network.
func New(cfg Config) (*Verifier, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	v := &Verifier{cfg: cfg}
	var methods []string
	if len(cfg.Secret) > 0 {
		if len(cfg.Secret) < shortSecret {
			cfg.Logger.Warn("the HS256 secret is short and can be guessed", "bytes", len(cfg.Secret), "want", shortSecret)
		}
		methods = append(methods, "HS256")
	}
	if cfg.JWKS != "" {
		j, err := newJWKS(cfg)
		if err != nil {
			return nil, err
		}
		v.jwks = j
		methods = append(methods, "EdDSA", "ES256", "RS256")
	}
	if methods == nil && !cfg.Dev {
		return nil, errors.New("no key to check tokens with: expected a secret or a JWKS")
	}
	if methods != nil {
		// Claims are checked here, not by the parser, to tell a token that has only
		// expired from one that was never good.
		v.parser = jwt.NewParser(jwt.WithValidMethods(methods), jwt.WithoutClaimsValidation())
	}
	return v, nil
}

// Run keeps a key set that is read from a URL fresh until ctx ends. A file is
// looked at as tokens come, so then Run only waits.
func (v *Verifier) Run(ctx context.Context) error {
	if v.jwks == nil || v.jwks.path != "" {
		<-ctx.Done()
		return nil
	}
	return v.jwks.run(ctx)
}

// Verify says who the token speaks for. It may wait for the key set to be read,
// at most readTimeout or as long as ctx.
func (v *Verifier) Verify(ctx context.Context, token string) (Claims, error) {
	if token == "" {
		return Claims{}, refusal("there is none")
	}
	if v.cfg.Dev {
		if user, ok := strings.CutPrefix(token, "dev:"); ok {
			return v.dev(user)
		}
	}
	if v.parser == nil {
		return Claims{}, refusal("only dev tokens are accepted")
	}
	var set *keySet
	if v.jwks != nil {
		v.jwks.look()
		set = v.jwks.keys.Load()
	}
	c, err := v.check(token, set)
	if !errors.Is(err, errNoKey) {
		return c, err
	}
	// The key may be newer than the set.
	newer, err := v.jwks.miss(ctx, set)
	if err != nil {
		return Claims{}, fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	return v.check(token, newer)
}

// errNoKey: the set has no key that the token could be signed with.
const errNoKey = refusal("signed with a key that is not in the set")

func (v *Verifier) check(token string, set *keySet) (Claims, error) {
	var p payload
	parsed, err := v.parser.ParseWithClaims(token, &p, func(t *jwt.Token) (any, error) {
		if t.Method == jwt.SigningMethodHS256 {
			return v.cfg.Secret, nil
		}
		kid, named := t.Header["kid"]
		return set.find(t.Method.Alg(), kid, named)
	})
	switch {
	case err == nil:
	// The parser's own words may quote the token.
	case errors.Is(err, errNoKey):
		return Claims{}, errNoKey
	case errors.Is(err, jwt.ErrTokenMalformed):
		return Claims{}, refusal("not a JWT, or its claims are malformed")
	default:
		return Claims{}, refusal("wrong signature, or an algorithm that is not accepted")
	}
	if _, ok := parsed.Header["crit"]; ok {
		return Claims{}, refusal("crit names an extension that is not understood")
	}
	return p.claims(v.cfg)
}

// devLife is how long a dev token holds. Not for ever: it travels as
// milliseconds through clients that count in 53 bits.
const devLife = 10 * 365 * 24 * time.Hour

func (v *Verifier) dev(user string) (Claims, error) {
	if why := badUser(user); why != "" {
		return Claims{}, refusal("the user of a dev token is " + why)
	}
	return Claims{User: user, Expires: v.cfg.Now().Add(devLife)}, nil
}
