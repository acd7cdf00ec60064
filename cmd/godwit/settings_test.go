package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write the README's table anew")

func TestSettings_EveryWrongValueIsNamedAtOnce(t *testing.T) {
	env := []string{
		"GODWIT_GRACE=abc", "GODWIT_LEASE=1ms", "GODWIT_LOG_LEVEL=loud", "GODWIT_REDIS_URL=http://x",
		"GODWIT_MAX_ROOMS=0", "GODWIT_MAX_FRAME=many", "GODWIT_RATE=-1", "GODWIT_LISTEN=8080", "GODWIT_NODE_ID=a b",
		"GODWIT_NODE_URL=https://x", "GODWIT_AUTH_DEV=maybe", "GODWIT_LOG_FORMAT=xml", "GODWIT_DRAIN_BUDGET=-1s",
		"GODWIT_MAX_MESSAGE=0", "GODWIT_ADMIN_TOKEN=a", "GODWIT_ADMIN_TOKEN_FILE=/x", "GODWIT_AUTH_SECRET_FILE=/does/not/exist",
	}
	var errs bytes.Buffer
	if code := run(context.Background(), nil, env, nil, &bytes.Buffer{}, &errs); code != 2 {
		t.Fatalf("exit %d, want 2", code)
	}
	for _, pair := range env {
		name, value, _ := strings.Cut(pair, "=")
		name = strings.TrimSuffix(name, "_FILE")
		if !strings.Contains(errs.String(), name) {
			t.Errorf("%s=%s is not named in:\n%s", name, value, errs.String())
		}
	}
	if n := strings.Count(errs.String(), "expected"); n < len(env)-3 {
		t.Errorf("only %d expectations are told:\n%s", n, errs.String())
	}
}

func TestSettings_NoSecretIsShown(t *testing.T) {
	env := []string{"GODWIT_REDIS_URL=redis://:hunter2@[::1", "GODWIT_AUTH_SECRET=hunter2", "GODWIT_GRACE=x"}
	var errs bytes.Buffer
	if code := run(context.Background(), nil, env, nil, &bytes.Buffer{}, &errs); code != 2 || strings.Contains(errs.String(), "hunter2") {
		t.Fatalf("exit %d:\n%s", code, errs.String())
	}
}

func TestSettings_DefaultsAndFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, unknown, err := readSettings([]string{"GODWIT_AUTH_SECRET_FILE=" + file, "GODWIT_HISTORY=a*,b", "GODWIT_GRACES=1s", "HOME=/"})
	if err != nil {
		t.Fatal(err)
	}
	if s.AuthSecret != "0123456789abcdef" || s.Grace.String() != "30s" || s.MaxFrame != 65536 || len(s.History) != 2 || s.AllowedOrigins != nil {
		t.Errorf("settings %+v", s)
	}
	if len(unknown) != 1 || unknown[0] != "GODWIT_GRACES" {
		t.Errorf("unknown %v", unknown)
	}
}

func TestSettings_ARealRedisWantsAKey(t *testing.T) {
	for _, c := range []struct {
		env []string
		ok  bool
	}{
		{[]string{"GODWIT_REDIS_URL=redis://h:1"}, false},
		{[]string{"GODWIT_REDIS_URL=redis://h:1", "GODWIT_AUTH_DEV=true"}, true},
		{[]string{"GODWIT_REDIS_URL=redis://h:1", "GODWIT_AUTH_SECRET=0123456789abcdef"}, true},
		{[]string{"GODWIT_REDIS_URL=redis://h:1", "GODWIT_AUTH_JWKS=https://h/keys"}, true},
		{nil, true},
	} {
		if _, _, err := readSettings(c.env); (err == nil) != c.ok {
			t.Errorf("%v: %v", c.env, err)
		}
	}
}

const (
	tableBegin = "<!-- settings: written by make docs -->\n"
	tableEnd   = "<!-- settings end -->\n"
)

func TestReadme_HasTheTableOfServe(t *testing.T) {
	const file = "../../README.md"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok1 := strings.Cut(string(b), tableBegin)
	table, tail, ok2 := strings.Cut(rest, tableEnd)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no lines %q and %q", file, tableBegin, tableEnd)
	}
	want := settingsMarkdown()
	if *rewrite {
		if err := os.WriteFile(file, []byte(head+tableBegin+want+tableEnd+tail), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if table != want {
		t.Errorf("the table of %s is not that of the code; make docs writes it", file)
	}
	var help bytes.Buffer
	if code := run(context.Background(), []string{"serve", "-h"}, nil, nil, &help, &help); code != 0 {
		t.Fatalf("serve -h: exit %d", code)
	}
	for f := range settingFields() {
		if !strings.Contains(help.String(), f.name+" ") || !strings.Contains(help.String(), f.doc) {
			t.Errorf("serve -h does not tell %s", f.name)
		}
	}
}
