package main

import (
	"context"
	"io"
	"log/slog"
	"os"
)

// newLoggers makes a node's log, and the one of what operators change, to the same
// place: the level does not reach that.
func newLoggers(s Settings, w io.Writer) (log, audit *slog.Logger) {
	var level slog.Level
	_ = level.UnmarshalText([]byte(s.LogLevel)) // checked with the settings
	opt := &slog.HandlerOptions{Level: min(level, slog.LevelInfo)}
	var all slog.Handler = slog.NewJSONHandler(w, opt)
	if s.LogFormat == "text" || s.LogFormat == "" && terminal(w) {
		all = slog.NewTextHandler(w, opt)
	}
	return slog.New(atLeast{all, level}), slog.New(all)
}

// atLeast passes on what is of a level or above it.
type atLeast struct {
	slog.Handler
	level slog.Level
}

func (h atLeast) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

func (h atLeast) WithAttrs(attrs []slog.Attr) slog.Handler {
	return atLeast{h.Handler.WithAttrs(attrs), h.level}
}

func (h atLeast) WithGroup(name string) slog.Handler {
	return atLeast{h.Handler.WithGroup(name), h.level}
}

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
