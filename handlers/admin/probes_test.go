package admin

import (
	"net/http/httptest"
	"strings"
	"testing"

	"godwit/server"
)

func TestProbes_SayHowTheNodeStandsAndWhy(t *testing.T) {
	up := server.State{Joined: true, JoinedOnce: true, StoreReachable: true}
	with := func(change func(*server.State)) server.State {
		s := up
		change(&s)
		return s
	}
	for _, c := range []struct {
		name             string
		state            server.State
		ready, startup   int
		readyz, startupz string
	}{
		{"up", up, 200, 200, "ok", "ok"},
		{"starting", server.State{StoreReachable: true}, 503, 503, "joining", "joining"},
		{"starting without a store", server.State{}, 503, 503, "store", "joining"},
		{"fenced", with(func(s *server.State) { s.Joined = false }), 503, 200, "lease", "ok"},
		{"store away", with(func(s *server.State) { s.StoreReachable = false }), 503, 200, "store", "ok"},
		{"deaf", with(func(s *server.State) { s.Deaf = true }), 503, 200, "heard", "ok"},
		{"draining", with(func(s *server.State) { s.Draining = true }), 503, 200, "draining", "ok"},
	} {
		h := New(Config{Metrics: &counts{}, State: func() server.State { return c.state }})
		for _, p := range []struct {
			path string
			code int
			says string
		}{{"/livez", 200, "ok"}, {"/readyz", c.ready, c.readyz}, {"/startupz", c.startup, c.startupz}, {"/other", 404, ""}} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("GET", p.path, nil))
			if w.Code != p.code || !strings.Contains(w.Body.String(), p.says) {
				t.Errorf("%s: %s answers %d %q, want %d with %q", c.name, p.path, w.Code, w.Body, p.code, p.says)
			}
		}
	}
}
