package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"godwit/internal/golden"
)

func TestSettings_EveryWrongValueIsNamedAtOnce(t *testing.T) {
	env := []string{
		"GODWIT_GRACE=abc", "GODWIT_LEASE=1ms", "GODWIT_LOG_LEVEL=loud", "GODWIT_REDIS_URL=http://x",
		"GODWIT_MAX_ROOMS=0", "GODWIT_MAX_FRAME=many", "GODWIT_RATE=-1", "GODWIT_LISTEN=8080", "GODWIT_NODE_ID=a b",
		"GODWIT_NODE_URL=https://x", "GODWIT_AUTH_DEV=maybe", "GODWIT_LOG_FORMAT=xml", "GODWIT_DRAIN_BUDGET=-1s",
		"GODWIT_ALLOWED_ORIGINS=https://a.example,https://b.example/", "GODWIT_AUTH_JWKS=/does/not/exist.json", "GODWIT_REDIS_WAIT=x",
		"GODWIT_MAX_MESSAGE=0", "GODWIT_ADMIN_TOKEN=a", "GODWIT_ADMIN_TOKEN_FILE=/x", "GODWIT_AUTH_SECRET_FILE=/does/not/exist",
		"GODWIT_TRACE_SAMPLE=10%",
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
	rest := errs.String()
	for f := range settingFields() { // in the order of the table
		if strings.Contains(errs.String(), "\n"+f.name+": ") || strings.Contains(errs.String(), "\n"+f.name+" and") {
			_, after, ok := strings.Cut(rest, "\n"+f.name)
			if !ok {
				t.Fatalf("%s is not named in its place:\n%s", f.name, errs.String())
			}
			rest = after
		}
	}
}

func TestSettings_WhatCannotBeUsedIsWrong(t *testing.T) {
	dir := t.TempDir()
	keyless, broken := filepath.Join(dir, "keyless"), filepath.Join(dir, "broken")
	for file, doc := range map[string]string{keyless: `{"keys":[]}`, broken: `{`} {
		if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, values := range map[string]struct{ good, bad []string }{
		"GODWIT_ALLOWED_ORIGINS": {
			[]string{"*", "https://a.example", "https://*.a.example", "*.a.example:8443", "a.example", "http://localhost:3000", "http://[::1]:3000", "https://a.example,*.b.example"},
			[]string{"https://a.example/", "https://", "https://a.example,", "https://*a.example", "https://a.*", "https://u@a.example", "a.example:x", "a.example, b.example"},
		},
		"GODWIT_REDIRECT_ORIGINS": {
			[]string{"*", "ws://a.example:8080", "wss://a.example/", "wss://*.a.example", "*.a.example", "wss://*", "ws://a,ws://b", "https://a.example"},
			[]string{"ws://a.example/v1/ws", "ws://a,", "ws://a, ws://b", "wss://n*.a.example", "ws://"},
		},
		"GODWIT_AUTH_JWKS": {
			[]string{"https://idp.example/jwks", "http://127.0.0.1:1/jwks"},
			[]string{"http://idp.example/jwks", "ftp://idp.example/jwks", "https://", keyless, broken, dir, dir + "/none"},
		},
		"GODWIT_ADMIN_LISTEN": {
			[]string{":8081", "127.0.0.1:8082", ":0"},
			[]string{"127.0.0.1:8080", "8081"}, // the first is GODWIT_LISTEN here
		},
		"GODWIT_PROFILE_DIR": {
			[]string{dir, ""},
			[]string{dir + "/none", keyless},
		},
		"GODWIT_REDIS_URL": {
			[]string{"redis://h", "rediss://:p@h:1/2", "unix:///run/redis.sock", "redis+sentinel://h:1,i:2/main/3", "rediss+cluster://a:p@h:1,i:2"},
			[]string{"redis+sentinel://h:1", "redis+cluster://h:1/2", "redis+cluster://h", "h:6379", "http://h", "redis://h:port", "redis://h:1/x"},
		},
	} {
		for _, value := range values.good {
			if _, _, err := readSettings([]string{name + "=" + value, "GODWIT_AUTH_DEV=true"}); err != nil {
				t.Errorf("%s=%s: %v, want it taken", name, value, err)
			}
		}
		for _, value := range values.bad {
			_, _, err := readSettings([]string{name + "=" + value, "GODWIT_AUTH_DEV=true"})
			if err == nil || !strings.HasPrefix(err.Error(), name+": expected ") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s=%s: %v, want one line that says what is expected", name, value, err)
			}
		}
	}
}

func TestSettings_ShardedChannelsAreAClusters(t *testing.T) {
	for _, tc := range []struct {
		url, mode string
		good      bool
	}{
		{"redis+cluster://h:1", "off", true},
		{"redis+cluster://h:1", "hear", true},
		{"rediss+cluster://h:1", "on", true},
		{"redis+cluster://h:1", "ON", false},
		{"redis+cluster://h:1", "true", false},
		{"redis://h:1", "off", true},
		{"redis://h:1", "hear", false},
		{"redis+sentinel://h:1/main", "on", false},
		{"", "on", false},
	} {
		_, _, err := readSettings([]string{"GODWIT_REDIS_SHARDED=" + tc.mode, "GODWIT_REDIS_URL=" + tc.url, "GODWIT_AUTH_DEV=true"})
		if tc.good != (err == nil) || err != nil && !strings.HasPrefix(err.Error(), "GODWIT_REDIS_SHARDED: expected ") {
			t.Errorf("%s at %s: %v", tc.mode, tc.url, err)
		}
	}
}

func TestSettings_OfTracesAreCheckedWhereTheyAreRead(t *testing.T) {
	for name, values := range map[string]struct{ good, bad []string }{
		"GODWIT_TRACE_SAMPLE":                {[]string{"1", "0.001", "1e-6"}, []string{"1.01", "-0.1", "NaN"}},
		"OTEL_EXPORTER_OTLP_ENDPOINT":        {[]string{"", "http://collector:4318", "https://c.example/otlp/"}, []string{"collector:4317", "grpc://c:4317", "http://", "/v1"}},
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": {[]string{"", "https://c.example/x?y"}, []string{"c:4318"}},
		"OTEL_EXPORTER_OTLP_PROTOCOL":        {[]string{"", "http/protobuf"}, []string{"grpc", "http/json"}},
		"OTEL_EXPORTER_OTLP_HEADERS":         {[]string{"", "a=b", "x-key=a%2Cb, y=", "a=b=c"}, []string{"a", "=b", "a=%zz", "a b=c", "a=b%0d%0ac"}},
		"OTEL_RESOURCE_ATTRIBUTES":           {[]string{"", "a=b", "k8s.pod.name=x,a=%20"}, []string{"a", "a=%z"}},
	} {
		for _, value := range values.good {
			if _, _, err := readSettings([]string{"GODWIT_TRACE_SAMPLE=1", name + "=" + value}); err != nil {
				t.Errorf("%s=%s: %v, want it taken", name, value, err)
			}
		}
		for _, value := range values.bad {
			_, _, err := readSettings([]string{"GODWIT_TRACE_SAMPLE=1", name + "=" + value})
			if err == nil || !strings.HasPrefix(err.Error(), name+": expected ") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s=%s: %v, want one line that says what is expected", name, value, err)
			}
			if !strings.HasPrefix(name, "OTEL_") {
				continue
			}
			if _, _, err := readSettings([]string{name + "=" + value}); err != nil {
				t.Errorf("%s=%s, where nothing is traced: %v, want it left alone", name, value, err)
			}
		}
	}
}

func TestSettings_TracesGoWhereTheVariablesOfOpenTelemetrySay(t *testing.T) {
	for _, c := range []struct {
		env  []string
		want string
	}{
		{nil, "http://localhost:4318/v1/traces"},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=https://c.example/otlp/"}, "https://c.example/otlp/v1/traces"},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=https://c.example", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://d.example/x"}, "http://d.example/x"},
	} {
		s, _, err := readSettings(append(c.env, "GODWIT_TRACE_SAMPLE=1"))
		if got := s.collector(); err != nil || got != c.want {
			t.Errorf("%v: %s, %v, want %s", c.env, got, err, c.want)
		}
	}
}

func TestSettings_ANodeToTryOutListensHereAlone(t *testing.T) {
	for _, c := range []struct {
		env           []string
		listen, admin string
	}{
		{nil, "127.0.0.1:8080", "127.0.0.1:8081"},
		{[]string{"GODWIT_AUTH_DEV=true", "GODWIT_AUTH_SECRET=0123456789abcdef"}, "127.0.0.1:8080", "127.0.0.1:8081"},
		{[]string{"GODWIT_LISTEN=:8080"}, ":8080", "127.0.0.1:8081"},
		{[]string{"GODWIT_LISTEN=", "GODWIT_ADMIN_LISTEN=0.0.0.0:9"}, "127.0.0.1:8080", "0.0.0.0:9"},
		{[]string{"GODWIT_AUTH_SECRET=0123456789abcdef"}, ":8080", ":8081"},
		{[]string{"GODWIT_REDIS_URL=redis://h", "GODWIT_AUTH_DEV=true"}, ":8080", ":8081"},
		{[]string{"GODWIT_REDIS_URL=redis://h", "GODWIT_AUTH_SECRET=0123456789abcdef"}, ":8080", ":8081"},
	} {
		s, _, err := readSettings(c.env)
		if err != nil || s.Listen != c.listen || s.AdminListen != c.admin {
			t.Errorf("%v: listens on %s and %s (%v), want %s and %s", c.env, s.Listen, s.AdminListen, err, c.listen, c.admin)
		}
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
	s, unknown, err := readSettings([]string{
		"GODWIT_AUTH_SECRET_FILE=" + file, "GODWIT_ADMIN_TOKEN=as a Kubernetes Secret has it\r\n",
		"GODWIT_HISTORY=a*,b", "GODWIT_GRACES=1s", "HOME=/",
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.AuthSecret != "0123456789abcdef" || s.Grace.String() != "30s" || s.MaxFrame != 65536 || len(s.History) != 2 || s.AllowedOrigins != nil {
		t.Errorf("settings %+v", s)
	}
	if s.AdminToken != "as a Kubernetes Secret has it" {
		t.Errorf("a secret with the end of its line: %q", s.AdminToken)
	}
	if len(unknown) != 1 || unknown[0] != "GODWIT_GRACES" {
		t.Errorf("unknown %v", unknown)
	}
}

// What is named and empty is a mistake, never a node without a key.
func TestSettings_AFileOfNothingIsNoSecret(t *testing.T) {
	for _, text := range []string{"", "\n", " \r\n"} {
		file := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"GODWIT_REDIS_URL", "GODWIT_AUTH_SECRET", "GODWIT_ADMIN_TOKEN", "OTEL_EXPORTER_OTLP_HEADERS"} {
			_, _, err := readSettings([]string{name + "_FILE=" + file})
			if err == nil || !strings.Contains(err.Error(), name+"_FILE: expected a file with something in it") {
				t.Errorf("%s of %q: %v", name, text, err)
			}
		}
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
	_, tail, ok2 := strings.Cut(rest, tableEnd)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no lines %q and %q", file, tableBegin, tableEnd)
	}
	golden.Is(t, file, []byte(head+tableBegin+settingsMarkdown()+tableEnd+tail))
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

func TestSettings_ProfilesWantTheAdminToken(t *testing.T) {
	for _, c := range []struct {
		env []string
		ok  bool
	}{
		{[]string{"GODWIT_PPROF=true"}, false},
		{[]string{"GODWIT_PPROF=true", "GODWIT_ADMIN_TOKEN=t"}, true},
		{[]string{"GODWIT_PPROF=false"}, true},
	} {
		if _, _, err := readSettings(c.env); (err == nil) != c.ok || !c.ok && !strings.HasPrefix(err.Error(), "GODWIT_PPROF: expected ") {
			t.Errorf("%v: %v", c.env, err)
		}
	}
}
