package main

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"testing"
)

func TestLog_TheLevelDoesNotReachWhatOperatorsChange(t *testing.T) {
	for _, format := range []string{"json", "text"} {
		for level, want := range map[string]string{
			"debug": "debug info warn error", "info": "info warn error", "warn": "warn error", "error": "error",
		} {
			var b bytes.Buffer
			log, audit := newLoggers(Settings{LogLevel: level, LogFormat: format}, &b)
			log = log.With("node", "n1").WithGroup("g")
			for _, l := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
				log.Log(t.Context(), l, "said-"+strings.ToLower(l.String()))
			}
			var said []string
			for line := range strings.Lines(b.String()) {
				_, word, _ := strings.Cut(line, "said-")
				word, _, _ = strings.Cut(word, `"`) // as JSON
				said = append(said, strings.Fields(word)[0])
				if !strings.Contains(line, "n1") {
					t.Errorf("whose is %s", line)
				}
			}
			if got := strings.Join(said, " "); got != want {
				t.Errorf("%s at %s: logged %s, want %s", format, level, got, want)
			}
			b.Reset()
			if audit.With("node", "n1").Info("admin change"); strings.Count(b.String(), "admin change") != 1 {
				t.Errorf("%s at %s: a change is logged as %q, want once", format, level, &b)
			}
		}
	}
}

func TestServe_AnOperatorsMessageIsBoundAsAClientsIs(t *testing.T) {
	n := serveInside(t, opsToken, "GODWIT_MAX_FRAME=4096")
	a := &operator{env: []string{opsToken}, url: n.admin}
	closed, err := a.open()
	if err != nil {
		t.Fatal(err)
	}
	defer closed()
	for bytes, want := range map[int]string{4096: "no such room", 4097: "4097 bytes, at most 4096 are allowed"} {
		data := strings.Repeat("x", bytes-len(`""`))
		if err := a.call(t.Context(), http.MethodPost, "/rooms/nowhere/messages", map[string]any{"data": data}, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a message of %d bytes: %v, want %s", bytes, err, want)
		}
	}
}
