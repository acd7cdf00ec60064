package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"godwit/internal/redistest"
)

// request makes one request with the right token, which must be answered within
// some time.
func request(t *testing.T, within time.Duration, method, url, body string) (status int, kind, answer string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	_, token, _ := strings.Cut(opsToken, "=")
	req.Header.Set("Authorization", "Bearer "+token)
	web := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := web.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), string(b)
}

// operations are the methods and paths of the admin API, as it describes itself,
// with a name in each place for one.
func operations(t *testing.T, admin string) (all [][2]string) {
	t.Helper()
	status, _, text := request(t, patience, http.MethodGet, admin+"/openapi.json", "")
	var doc struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil || status != http.StatusOK {
		t.Fatalf("%d, %v", status, err)
	}
	for path, methods := range doc.Paths {
		path = strings.NewReplacer("{node}", "n1", "{room}", "lobby", "{client}", "7", "{session}", "s1", "{user}", "ann").Replace(path)
		if strings.Contains(path, "{") {
			t.Errorf("a place with no name for it: %s", path)
		}
		for method := range methods {
			all = append(all, [2]string{strings.ToUpper(method), path})
		}
	}
	if len(all) < 18 {
		t.Fatalf("%d operations", len(all))
	}
	return all
}

func TestServe_NothingOfTheAdminListenerIsBehindThePublicOne(t *testing.T) {
	n := serveInside(t, opsToken, "GODWIT_PPROF=true", "GODWIT_NODE_ID=n1")
	public := "http" + strings.TrimSuffix(strings.TrimPrefix(n.url, "ws"), "/v1/ws")
	all := operations(t, n.admin)
	for _, path := range []string{"/livez", "/readyz", "/startupz", "/metrics", "/openapi.json", "/debug/pprof/", "/debug/pprof/heap"} {
		if status, _, body := request(t, patience, http.MethodGet, n.admin+path, ""); status != http.StatusOK {
			t.Errorf("%s at the admin listener: %d %s", path, status, body)
		}
		all = append(all, [2]string{http.MethodGet, path})
	}
	for _, op := range all {
		paths := []string{op[1], "/" + op[1], "/v1" + op[1], "/v1/.." + op[1], "/v1/chatd/..%2f.." + op[1]}
		for _, path := range paths {
			if status, _, body := request(t, patience, op[0], public+path, ""); status != http.StatusNotFound {
				t.Errorf("%s %s at the public listener: %d %s, want 404", op[0], path, status, body)
			}
		}
	}
}

func TestServe_OperatorsAreToldWithinASecondThatRedisIsAway(t *testing.T) {
	redis := redistest.Start(t)
	p := launch(t, local("GODWIT_REDIS_URL="+redis.URL(), "GODWIT_AUTH_DEV=true", "GODWIT_NODE_ID=n1", opsToken), "serve")
	_, admin := p.node()
	ready(t, admin)
	all := operations(t, admin)
	bodies := map[string]string{"POST /admin/v1/rooms/lobby/messages": `{"data":1}`, "PUT /admin/v1/users/ann/contacts": `{"contacts":["bob"]}`}
	redis.Stop()
	for _, op := range all {
		what := fmt.Sprintf("%s %s", op[0], op[1])
		// The bound is a second, and more for a machine that is busy: never what
		// some of them wait for another node.
		status, kind, body := request(t, 5*time.Second, op[0], admin+op[1], bodies[what])
		if status != http.StatusServiceUnavailable || kind != "application/problem+json" || !strings.Contains(body, "ask again") {
			t.Errorf("%s with Redis away: %d %s %s, want a problem 503", what, status, kind, body)
		}
	}
	redis.Cont()
	ready(t, admin)
	eventually(t, func() error {
		if status, _, body := request(t, patience, http.MethodGet, admin+"/admin/v1/users/ann/contacts", ""); status != http.StatusOK {
			return fmt.Errorf("with Redis back: %d %s", status, body)
		}
		return nil
	})
}
