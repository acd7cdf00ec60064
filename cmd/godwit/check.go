package main

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"godwit/server/auth"
	"godwit/store"
)

var nodeName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// check is what the settings must be besides readable; unread are those that
// are not. It never says a value: it may be secret.
func (s *Settings) check(unread map[string]bool) (wrong []problem) {
	bad := func(name, format string, args ...any) {
		if unread[name] {
			return // said already
		}
		wrong = append(wrong, problem{name, fmt.Errorf("%s: expected %s", name, fmt.Sprintf(format, args...))})
	}
	for _, c := range []struct{ name, value string }{{"GODWIT_LISTEN", s.Listen}, {"GODWIT_ADMIN_LISTEN", s.AdminListen}} {
		if _, _, err := net.SplitHostPort(c.value); err != nil {
			bad(c.name, "host:port or :port")
		}
	}
	if _, port, _ := net.SplitHostPort(s.Listen); s.Listen == s.AdminListen && port != "0" {
		bad("GODWIT_ADMIN_LISTEN", "another address than GODWIT_LISTEN has")
	}
	if dir, err := os.Stat(s.ProfileDir); s.ProfileDir != "" && (err != nil || !dir.IsDir()) {
		bad("GODWIT_PROFILE_DIR", "a directory that is there")
	}
	if s.Pprof && s.AdminToken == "" {
		bad("GODWIT_PPROF", "a GODWIT_ADMIN_TOKEN with it: profiles are for who has that")
	}
	for _, c := range []struct {
		name  string
		value time.Duration
		least time.Duration
	}{
		{"GODWIT_HELLO_TIMEOUT", s.HelloTimeout, time.Millisecond},
		{"GODWIT_PING", s.Ping, time.Millisecond},
		{"GODWIT_GRACE", s.Grace, time.Millisecond},
		{"GODWIT_LEASE", s.Lease, 500 * time.Millisecond},
		{"GODWIT_LOG_AGE", s.LogAge, 0},
		{"GODWIT_LOG_TTL", s.LogTTL, time.Millisecond},
		{"GODWIT_CALL_BEAT", s.CallBeat, time.Millisecond},
		{"GODWIT_CALL_TIMEOUT", s.CallTimeout, time.Millisecond},
		{"GODWIT_REDIRECT_TTL", s.RedirectTTL, time.Millisecond},
		{"GODWIT_DRAIN_BUDGET", s.DrainBudget, time.Millisecond},
	} {
		if c.value < c.least {
			bad(c.name, "at least %s", c.least)
		}
	}
	for _, c := range []struct {
		name  string
		value int
		least int
	}{
		{"GODWIT_LOG_MAX", s.LogMax, 1},
		{"GODWIT_MAX_FRAME", s.MaxFrame, 256},
		{"GODWIT_MAX_MESSAGE", s.MaxMessage, 1},
		{"GODWIT_MAX_ROOMS", s.MaxRooms, 1},
		{"GODWIT_MAX_MEMBERS", s.MaxMembers, 1},
		{"GODWIT_MAX_SESSIONS", s.MaxSessions, 0},
		{"GODWIT_MAX_CONTACTS", s.MaxContacts, 1},
		{"GODWIT_RATE_BURST", s.RateBurst, 1},
		{"GODWIT_OUTBOX", s.Outbox, 1},
		{"GODWIT_REDIS_WAIT", s.RedisWait, 0},
	} {
		if c.value < c.least {
			bad(c.name, "at least %d", c.least)
		}
	}
	if !(s.Rate > 0) {
		bad("GODWIT_RATE", "more than 0")
	}
	if s.NodeID != "" && !nodeName.MatchString(s.NodeID) {
		bad("GODWIT_NODE_ID", "1 to 64 letters, digits, dots, dashes or underscores")
	}
	for _, c := range []struct{ name, value string }{{"GODWIT_NODE_URL", s.NodeURL}, {"GODWIT_PUBLIC_URL", s.PublicURL}} {
		if u, err := url.Parse(c.value); c.value != "" && (err != nil || u.Host == "" || u.Scheme != "ws" && u.Scheme != "wss") {
			bad(c.name, "a ws:// or wss:// URL")
		}
	}
	if s.RedisURL != "" {
		if _, err := store.Where(s.RedisURL); err != nil {
			wrong = append(wrong, problem{"GODWIT_REDIS_URL", fmt.Errorf("GODWIT_REDIS_URL: %w", err)})
		}
	}
	keyless := s.AuthSecret == "" && s.AuthJWKS == "" && !unread["GODWIT_AUTH_SECRET"] && !unread["GODWIT_AUTH_DEV"]
	if s.RedisURL != "" && keyless && !s.AuthDev {
		bad("GODWIT_AUTH_SECRET", "a key, or GODWIT_AUTH_JWKS, with a real Redis (GODWIT_AUTH_DEV=true to accept dev:<user> from anybody)")
	}
	if s.AuthJWKS != "" {
		if _, err := auth.New(auth.Config{JWKS: s.AuthJWKS}); err != nil {
			bad("GODWIT_AUTH_JWKS", "a file of keys, or an https URL: %s", err)
		}
	}
	for _, origin := range s.AllowedOrigins {
		if !originPattern(origin) {
			bad("GODWIT_ALLOWED_ORIGINS", "a comma list of [scheme://]host[:port], *.host or *, without a path")
			break
		}
	}
	for _, origin := range s.RedirectOrigins {
		if origin = strings.TrimSuffix(origin, "/"); !originPattern(origin) && !slices.Contains([]string{"ws://*", "wss://*"}, origin) {
			bad("GODWIT_REDIRECT_ORIGINS", "a comma list of [scheme://]host[:port], *.host or *, without a path")
			break
		}
	}
	if s.RedisURL == "" && s.RedisWait > 0 {
		bad("GODWIT_REDIS_WAIT", "0 with the embedded store, which has no replicas")
	}
	switch store.Sharded(s.RedisSharded) {
	case store.ShardedOff:
	case store.ShardedHear, store.ShardedOn:
		if !store.IsCluster(s.RedisURL) {
			bad("GODWIT_REDIS_SHARDED", "off without a redis+cluster:// URL: only a Cluster has sharded channels")
		}
	default:
		bad("GODWIT_REDIS_SHARDED", "off, hear or on")
	}
	if !(s.TraceSample >= 0 && s.TraceSample <= 1) {
		bad("GODWIT_TRACE_SAMPLE", "a share, from 0 (none) to 1 (all)")
	}
	if s.TraceSample > 0 {
		s.checkTraces(bad)
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, s.LogLevel) {
		bad("GODWIT_LOG_LEVEL", "debug, info, warn or error")
	}
	if !slices.Contains([]string{"", "text", "json"}, s.LogFormat) {
		bad("GODWIT_LOG_FORMAT", "text or json")
	}
	return wrong
}

// originPattern says whether an entry can match a browser's origin, which is a
// scheme, a host and maybe a port.
func originPattern(entry string) bool {
	if entry == "*" {
		return true
	}
	scheme, host, ok := strings.Cut(entry, "://")
	if !ok {
		scheme, host = "https", entry
	}
	host = strings.TrimPrefix(host, "*.")
	u, err := url.Parse(scheme + "://" + host)
	return err == nil && u.Hostname() != "" && u.Host == host && !strings.Contains(host, "*")
}
