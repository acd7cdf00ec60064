package admin

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"godwit/server"
)

// counts is a page of metrics, and remembers what it was told.
type counts struct{ told []string }

func (c *counts) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, "godwit_ready 1\n")
}

func (c *counts) Served(route, method string, status int) {
	c.told = append(c.told, fmt.Sprint(route, " ", method, " ", status))
}

func ask(h http.Handler, method, path, token string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func watched(token string, pprof bool, log io.Writer) (http.Handler, *counts) {
	c := &counts{}
	return New(Config{
		Token: token, State: func() server.State { return server.State{} }, Fleet: &script{}, Metrics: c, Profiles: pprof,
		Log: slog.New(slog.DiscardHandler), Audit: slog.New(slog.NewTextHandler(log, nil)),
	}), c
}

func TestMetrics_NeedNoToken(t *testing.T) {
	h, _ := watched("right", false, io.Discard)
	if w := ask(h, http.MethodGet, "/metrics", ""); w.Code != http.StatusOK || w.Body.String() != "godwit_ready 1\n" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}

func TestServed_IsToldByRouteAndNeverByWhatTheRequestSays(t *testing.T) {
	h, c := watched("right", false, io.Discard)
	ask(h, http.MethodGet, "/admin/v1/rooms/lobby", "right")
	ask(h, http.MethodGet, "/admin/v1/rooms/another?limit=1", "right")
	ask(h, http.MethodGet, "/admin/v1/rooms/lobby", "wrong")
	ask(h, http.MethodGet, "/nothing/here", "")
	ask(h, "PURGE", "/livez", "")
	ask(h, http.MethodPut, "/livez", "")
	ask(h, http.MethodGet, "/livez", "")
	ask(h, http.MethodGet, "/readyz", "")
	want := []string{
		"/admin/v1/rooms/{room} GET 200", "/admin/v1/rooms/{room} GET 200", "none none 401", "none none 404",
		"none none 405", "none none 405", "/livez GET 200", "/readyz GET 503",
	}
	if !slices.Equal(c.told, want) {
		t.Errorf("told\n%s\nwant\n%s", strings.Join(c.told, "\n"), strings.Join(want, "\n"))
	}
}

func TestProfiles_AreForWhoHasTheTokenAndOnlyWhenTheyAreOn(t *testing.T) {
	for _, c := range []struct {
		name, set, given string
		on               bool
		want             int
	}{
		{"off", "right", "right", false, http.StatusNotFound},
		{"no token given", "right", "", true, http.StatusUnauthorized},
		{"another token", "right", "wrong", true, http.StatusUnauthorized},
		{"no token set", "", "", true, http.StatusNotFound},
		{"on", "right", "right", true, http.StatusOK},
	} {
		var log strings.Builder
		h, _ := watched(c.set, c.on, &log)
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/goroutine?debug=1", "/debug/pprof/cmdline", "/debug/pprof/trace?seconds=0.01"} {
			if w := ask(h, http.MethodGet, path, c.given); w.Code != c.want || c.want == http.StatusOK && w.Body.Len() == 0 {
				t.Errorf("%s: %s answers %d with %d bytes, want %d", c.name, path, w.Code, w.Body.Len(), c.want)
			}
		}
		if said := strings.Count(log.String(), "msg=profile"); c.want == http.StatusOK && said != 5 {
			t.Errorf("%s: %d profiles in the log:\n%s", c.name, said, &log)
		}
	}
}
