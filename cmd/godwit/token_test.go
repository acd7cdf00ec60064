package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"godwit/client"
	"godwit/wire"
)

const key = "a key of tests, long enough for HS256"

// keyFile is a file that holds the key and ends as an editor ends it.
func keyFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestToken_IsGoodAtANodeWithTheSameKey(t *testing.T) {
	file := keyFile(t)
	n := serveInside(t, "GODWIT_AUTH_SECRET_FILE="+file)
	strict := serveInside(t, "GODWIT_AUTH_SECRET="+key, "GODWIT_AUTH_AUDIENCE=chat", "GODWIT_AUTH_ISSUER=us")
	other := serveInside(t, "GODWIT_AUTH_SECRET=another key, as long as the first")
	for _, c := range []struct {
		node   *inside
		env    []string
		args   []string
		reason wire.Reason // "" is welcome
	}{
		{n, nil, []string{"--secret-file", file}, ""},
		{n, nil, []string{"--secret", key}, ""},
		{n, []string{"GODWIT_AUTH_SECRET=" + key}, nil, ""},
		{n, []string{"GODWIT_AUTH_SECRET=another"}, []string{"--secret", key}, ""},
		{n, nil, []string{"--secret", key, "--user", strings.Repeat("a", 128)}, ""},
		{n, nil, []string{"--secret", key + "?"}, wire.Unauthorized},
		{other, nil, []string{"--secret-file", file}, wire.Unauthorized},
		{strict, nil, []string{"--secret", key}, wire.Unauthorized},
		{strict, nil, []string{"--secret", key, "--audience", "chat"}, wire.Unauthorized},
		{strict, nil, []string{"--secret", key, "--audience", "chat", "--issuer", "us"}, ""},
	} {
		code, out, errs := once(c.env, append([]string{"token", "--user", "ann"}, c.args...)...)
		if code != 0 || errs != "" || strings.Count(out, "\n") != 1 || strings.Count(out, ".") != 2 {
			t.Errorf("%q: exit %d, said %q and %q; want one line, a JWT", c.args, code, out, errs)
			continue
		}
		s, err := login(t, c.node.url, strings.TrimSpace(out))
		switch {
		case c.reason == "" && err != nil:
			t.Errorf("%q: not let in: %v", c.args, err)
		case c.reason == "" && s.Session().User != "ann" && len(s.Session().User) != 128:
			t.Errorf("%q: let in as %q, want ann", c.args, s.Session().User)
		case c.reason != "" && !client.Is(err, c.reason):
			t.Errorf("%q: %v, want %s", c.args, err, c.reason)
		}
	}
}

func TestToken_NamesTheRoomsThatMayBeJoined(t *testing.T) {
	n := serveInside(t, "GODWIT_AUTH_SECRET="+key)
	for _, c := range []struct {
		args []string
		may  map[string]bool
	}{
		{nil, map[string]bool{"team/a": true, "lobby": true}},
		{[]string{"--rooms", "team/*,hall"}, map[string]bool{"team/a": true, "hall": true, "lobby": false}},
		{[]string{"--rooms", ""}, map[string]bool{"team/a": false, "lobby": false}},
	} {
		_, out, errs := once(nil, append([]string{"token", "--user", "ann", "--secret", key}, c.args...)...)
		s, err := login(t, n.url, strings.TrimSpace(out))
		if err != nil {
			t.Fatalf("%q: %v (%s)", c.args, err, errs)
		}
		for room, may := range c.may {
			if _, err := s.Join(t.Context(), room); may && err != nil || !may && !client.Is(err, wire.Forbidden) {
				t.Errorf("token with %q: join of %s: %v, want allowed: %v", c.args, room, err, may)
			}
		}
	}
}

func TestToken_WhatIsMissingIsTold(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--user", "ann"}, "no key to sign with: give --secret, --secret-file or GODWIT_AUTH_SECRET"},
		{[]string{"--secret", key}, "no user: give --user"},
		{[]string{"--user", "ann", "--secret-file", "/does/not/exist"}, "--secret-file: expected a file that can be read: open /does/not/exist"},
		{[]string{"--user", "ann", "--secret-file", "/does/not/exist", "--secret", key}, "--secret and --secret-file: expected one of them"},
		{[]string{"--user", "ann", "--secret", key, "--ttl", "soon"}, `"--ttl"`},
		{[]string{"--user", "ann", "--secret", key, "--ttl", "0s"}, "--ttl: expected at least 1s"},
		{[]string{"--user", "ann", "--secret", key, "--ttl", "-1h"}, "--ttl: expected at least 1s"},
		{[]string{"--user", strings.Repeat("a", 129), "--secret", key}, "--user: expected at most 128 bytes of UTF-8"},
		{[]string{"--user", "\xff", "--secret", key}, "--user: expected at most 128 bytes of UTF-8"},
		{[]string{"--usr", "ann"}, "unknown flag: --usr\ngodwit token -h says what there is"},
	} {
		code, out, errs := once(nil, append([]string{"token"}, c.args...)...)
		if code != 2 || out != "" || !strings.Contains(errs, c.want) || strings.Contains(errs, key) {
			t.Errorf("token %q: exit %d, said %q and %q; want exit 2 and %q", c.args, code, out, errs, c.want)
		}
	}
}

func TestToken_ASessionOutlivesTheTokensThatItReplaces(t *testing.T) {
	n := serveInside(t, "GODWIT_AUTH_SECRET="+key)
	var asked, lost atomic.Int32
	end := time.Now().Add(5 * time.Second)
	again := make(chan struct{})
	mint := func(context.Context) (string, error) {
		exp := end
		if asked.Add(1) == 2 {
			exp = end.Add(time.Hour)
			close(again)
		}
		return jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
			"sub": "ann", "exp": float64(exp.UnixMilli()) / 1000,
		}).SignedString([]byte(key))
	}
	c, err := login(t, n.url, "", func(o *client.Options) {
		o.Token = mint
		o.OnState = func(s client.State) {
			if d, ok := s.(client.Disconnected); ok && !d.Final {
				lost.Add(1)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Join(t.Context(), "lobby"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-again:
	case <-time.After(patience):
		t.Fatalf("no new token was asked for within %s", patience)
	}
	if left := time.Until(end); left <= 0 {
		t.Errorf("asked for a new token %s after the old one had expired", -left)
	}
	// It talks on, past the first token's end.
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for time.Since(end) < 200*time.Millisecond {
		if _, err := c.Send(t.Context(), "lobby", "still here"); err != nil {
			t.Fatalf("%s after the first token's end: %v", time.Since(end), err)
		}
		<-tick.C
	}
	if lost.Load() != 0 || asked.Load() != 2 {
		t.Errorf("%d connections were lost and %d tokens asked for, want 0 and 2", lost.Load(), asked.Load())
	}
}
