package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// clock is a time that a test moves.
type clock struct{ ns atomic.Int64 }

func newClock() *clock               { c := new(clock); c.ns.Store(start.UnixNano()); return c }
func (c *clock) now() time.Time      { return time.Unix(0, c.ns.Load()) }
func (c *clock) add(d time.Duration) { c.ns.Add(int64(d)) }

func TestVerify_FollowsAFileThatIsReplaced(t *testing.T) {
	k := testKeys()
	path := fileOf(t, jwksOf(jwk("1", k.ed.Public())))
	c := newClock()
	v := newVerifier(t, Config{JWKS: path, Now: c.now})
	old := mint(t, jwt.SigningMethodEdDSA, k.ed, claims(), "kid", "1")
	young := mint(t, jwt.SigningMethodEdDSA, k.ed2, claims(), "kid", "2")
	accepted(t, v, old)
	refused(t, v, young)

	// By rename, as a careful operator does; the size stays the same.
	next := path + ".next"
	if err := os.WriteFile(next, []byte(jwksOf(jwk("2", k.ed2.Public()))), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
	accepted(t, v, old) // looked at less than a second ago
	c.add(lookEvery)
	refused(t, v, old)
	accepted(t, v, young)
}

func TestVerify_AFileThatBreaksLeavesTheOldKeys(t *testing.T) {
	k := testKeys()
	path := fileOf(t, jwksOf(jwk("1", k.ed.Public())))
	c := newClock()
	var log bytes.Buffer
	v := newVerifier(t, Config{JWKS: path, Now: c.now, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	token := mint(t, jwt.SigningMethodEdDSA, k.ed, claims(), "kid", "1")
	for name, damage := range map[string]func() error{
		"half written": func() error { return os.WriteFile(path, []byte(`{"keys":[`), 0o600) },
		"too large":    func() error { return os.WriteFile(path, bytes.Repeat([]byte{' '}, maxJWKS+1), 0o600) },
		"removed":      func() error { return os.Remove(path) },
	} {
		log.Reset()
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		c.add(lookEvery)
		accepted(t, v, token)
		if n := strings.Count(log.String(), "token keys not read"); n != 1 {
			t.Errorf("%s: warned %d times, want once:\n%s", name, n, log.String())
		}
	}
	if err := os.WriteFile(path, []byte(jwksOf(jwk("2", k.ed2.Public()))), 0o600); err != nil {
		t.Fatal(err)
	}
	c.add(lookEvery)
	refused(t, v, token)
}

func accepted(t *testing.T, v *Verifier, token string) {
	t.Helper()
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Fatalf("Verify: %v", err)
	}
}

// idp is an https server of key sets that counts its readers.
type idp struct {
	*httptest.Server
	doc   atomic.Value // string; empty answers 500
	reads atomic.Int64
	gate  chan struct{} // when set, each answer takes one
}

func newIDP(t *testing.T, doc string) *idp {
	p := new(idp)
	p.doc.Store(doc)
	p.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.reads.Add(1)
		if p.gate != nil {
			<-p.gate
		}
		if d := p.doc.Load().(string); d != "" {
			fmt.Fprint(w, d)
			return
		}
		w.WriteHeader(http.StatusInternalServerError)
	}))
	t.Cleanup(p.Close)
	return p
}

func TestVerify_UnknownKidReadsTheURLAtMostEveryTenSeconds(t *testing.T) {
	k := testKeys()
	p := newIDP(t, jwksOf(jwk("1", k.ed.Public())))
	c := newClock()
	v := newVerifier(t, Config{JWKS: p.URL, Now: c.now, Client: p.Client()})
	old := mint(t, jwt.SigningMethodEdDSA, k.ed, claims(), "kid", "1")
	young := mint(t, jwt.SigningMethodEdDSA, k.ed2, claims(), "kid", "2")
	accepted(t, v, old) // the first token reads the set
	for range 5 {
		accepted(t, v, old)
		refused(t, v, young)
	}
	if n := p.reads.Load(); n != 1 {
		t.Fatalf("read %d times, want once", n)
	}

	p.doc.Store(jwksOf(jwk("2", k.ed2.Public())))
	c.add(missEvery - 1)
	refused(t, v, young)
	c.add(1)
	accepted(t, v, young)
	refused(t, v, old)
	if n := p.reads.Load(); n != 2 {
		t.Fatalf("read %d times, want twice", n)
	}

	p.doc.Store("") // the server breaks; the keys stay
	c.add(missEvery)
	refused(t, v, old)
	accepted(t, v, young)
	if n := p.reads.Load(); n != 3 {
		t.Fatalf("read %d times, want three times", n)
	}
}

func TestVerify_ManyUnknownKidsShareOneReading(t *testing.T) {
	k := testKeys()
	p := newIDP(t, jwksOf(jwk("1", k.ed.Public())))
	p.gate = make(chan struct{})
	v := newVerifier(t, Config{JWKS: p.URL, Client: p.Client()})
	token := mint(t, jwt.SigningMethodEdDSA, k.ed, claims(), "kid", "1")
	errs := make(chan error)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() { _, err := v.Verify(t.Context(), token); errs <- err })
	}
	// One that gives up does not spoil it for the others.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Verify(ctx, token); err == nil {
		t.Error("verified before the keys were read")
	}
	p.gate <- struct{}{}
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	wait.Wait()
	if n := p.reads.Load(); n != 1 {
		t.Errorf("read %d times, want once", n)
	}
}

func TestVerify_NeverReadIsNotRefused(t *testing.T) {
	k := testKeys()
	p := newIDP(t, "")
	c := newClock()
	v := newVerifier(t, Config{JWKS: p.URL, Now: c.now, Client: p.Client()})
	token := mint(t, jwt.SigningMethodEdDSA, k.ed, claims(), "kid", "1")
	for range 2 {
		if _, err := v.Verify(t.Context(), token); !errors.Is(err, ErrNotReady) || errors.Is(err, ErrRefused) {
			t.Fatalf("%v, want ErrNotReady", err)
		}
	}
	refused(t, v, mint(t, jwt.SigningMethodHS256, secret, claims())) // no key set could help
	p.doc.Store(jwksOf(jwk("1", k.ed.Public())))
	c.add(missEvery)
	accepted(t, v, token)
}

func TestRun_ReadsTheURLAtOnceAndEndsWithItsContext(t *testing.T) {
	k := testKeys()
	p := newIDP(t, jwksOf(jwk("1", k.ed.Public())))
	p.gate = make(chan struct{})
	v := newVerifier(t, Config{JWKS: p.URL, Client: p.Client()})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- v.Run(ctx) }()
	p.gate <- struct{}{}
	accepted(t, v, mint(t, jwt.SigningMethodEdDSA, k.ed, claims(), "kid", "1"))
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if n := p.reads.Load(); n != 1 {
		t.Errorf("read %d times, want once", n)
	}
}

func TestVerify_WillNotFollowTheURLToPlainHTTP(t *testing.T) {
	k := testKeys()
	p := newIDP(t, "")
	p.Config.Handler = http.RedirectHandler("http://idp.example/jwks", http.StatusFound)
	v := newVerifier(t, Config{JWKS: p.URL, Client: p.Client()})
	_, err := v.Verify(t.Context(), mint(t, jwt.SigningMethodEdDSA, k.ed, claims(), "kid", "1"))
	if !errors.Is(err, ErrNotReady) || !strings.Contains(err.Error(), "redirected") {
		t.Errorf("%v, want a refusal to be redirected", err)
	}
}

func TestVerify_ErrorsDoNotShowThePasswordOfTheURL(t *testing.T) {
	k := testKeys()
	v := newVerifier(t, Config{JWKS: "http://user:hunter2@127.0.0.1:1/jwks?key=hunter2"})
	_, err := v.Verify(t.Context(), mint(t, jwt.SigningMethodEdDSA, k.ed, claims(), "kid", "1"))
	if !errors.Is(err, ErrNotReady) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
}
