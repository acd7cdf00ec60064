package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"godwit/client"
	"godwit/internal/redistest"
	"godwit/store"
	"godwit/wire"
)

// probe is what a node answers to its probes.
func probe(t *testing.T, url string) (int, string) {
	t.Helper()
	web := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	resp, err := web.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// ready waits until a node is: it listens before it has joined the fleet.
func ready(t *testing.T, admin string) {
	t.Helper()
	eventually(t, func() error {
		if status, body := probe(t, admin+"/readyz"); status != http.StatusOK {
			return fmt.Errorf("readyz answers %d %q, want 200", status, body)
		}
		return nil
	})
}

// eventually waits until check, of what nothing announces, answers nil.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("after %s: %v", patience, err)
		}
	}
}

func TestServe_SaysWhereItListensAndIsReady(t *testing.T) {
	n := serveInside(t, "GODWIT_NODE_ID=blue", "GODWIT_REVISION=r7", "GODWIT_GRACES=1s")
	for _, path := range []string{"/livez", "/readyz", "/startupz"} {
		if status, body := probe(t, n.admin+path); status != http.StatusOK {
			t.Errorf("%s answers %d %q, want 200", path, status, body)
		}
	}
	if status, body := probe(t, n.admin+"/metrics"); status != http.StatusOK || !strings.Contains(body, `revision="r7"`) ||
		!strings.Contains(body, "godwit_admin_requests_total{method=\"GET\",route=\"/livez\",status=\"200\"} 1\n") {
		t.Errorf("/metrics answers %d %q", status, body)
	}
	if status, _ := probe(t, n.admin+"/debug/pprof/"); status != http.StatusUnauthorized && status != http.StatusNotFound {
		t.Errorf("anybody gets profiles: %d", status)
	}
	if status, _ := probe(t, "http"+strings.TrimSuffix(strings.TrimPrefix(n.url, "ws"), "v1/ws")+"readyz"); status != http.StatusNotFound {
		t.Errorf("the public listener answers probes (%d)", status)
	}
	n.await(`"msg":"listening","node":"blue","addr":.*"revision":"r7"`)
	n.await(`"level":"WARN".*unknown setting.*GODWIT_GRACES`)
	n.await(`"level":"WARN".*dev tokens are accepted: anybody on this machine`)
	n.await(`"level":"WARN".*embedded store`)
	n.out.await(`"method":"hello","params":\{"token":"dev:ann"\}`) // what to type next
	n.out.await(`chat --url ` + n.url + ` --user bob --room lobby`)
}

func TestServe_WarnsOfDevTokensThatOthersCanUse(t *testing.T) {
	n := serveInside(t, "GODWIT_LISTEN=0.0.0.0:0")
	n.await(`"level":"WARN".*dev tokens are accepted from other machines.*"addr":"[^"]+"`)
	if n := strings.Count(n.String(), "dev tokens are accepted"); n != 1 {
		t.Errorf("said %d times, want once", n)
	}
	n.out.await(`^Listening on ws://127\.0\.0\.1:\d+/v1/ws$`)
	n.out.await(`^and on every other address of this machine$`)

	keyed := serveInside(t, "GODWIT_LISTEN=0.0.0.0:0", "GODWIT_AUTH_SECRET="+key)
	if strings.Contains(keyed.String(), "dev tokens") {
		t.Errorf("warns of dev tokens that it does not accept:\n%s", keyed)
	}
}

func TestServe_WarnsOfACallThatNoBeatKeepsUp(t *testing.T) {
	p := launch(t, local("GODWIT_CALL_BEAT=4s", "GODWIT_CALL_TIMEOUT=4s"), "serve")
	p.await(`"level":"WARN","msg":"who beats as it is told is out of its call`)
	p = launch(t, local("GODWIT_CALL_BEAT=4s", "GODWIT_CALL_TIMEOUT=5s"), "serve")
	p.node()
	if strings.Contains(p.String(), "out of its call") {
		t.Error("a call that its beats keep up is warned of")
	}
}

func TestServe_SaysWhatATryOutListensOn(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.1:8080": "Listening on ws://127.0.0.1:8080/v1/ws\n\n",
		"[::1]:8080":     "Listening on ws://[::1]:8080/v1/ws\n\n",
		"192.0.2.1:8080": "Listening on ws://192.0.2.1:8080/v1/ws\n\n",
		"[::]:8080":      "Listening on ws://127.0.0.1:8080/v1/ws\nand on every other address of this machine\n\n",
		"0.0.0.0:8080":   "Listening on ws://127.0.0.1:8080/v1/ws\nand on every other address of this machine\n\n",
	} {
		if got := typeNext([]string{addr}, true); !strings.HasPrefix(got, want) {
			t.Errorf("listens on %s, says:\n%s\nwant it to begin:\n%s", addr, got, want)
		}
	}
}

func TestServe_SaysOnceThatRedisIsAwayAndGoesOnTrying(t *testing.T) {
	redis := redistest.Start(t)
	redis.Stop()
	p := launch(t, local("GODWIT_REDIS_URL="+redis.URL(), "GODWIT_AUTH_DEV=true"), "serve")
	_, admin := p.node()
	p.await(`"level":"WARN","msg":"cannot reach Redis at ` + redis.Addr + `; trying again","node":"[^"]+","error":"`)
	// To see whether a Redis that hangs speaks TLS takes seconds.
	if said := p.String(); strings.Index(said, `"listening"`) > strings.Index(said, "cannot reach Redis") {
		t.Errorf("it did not listen before it knew more of Redis:\n%s", said)
	}
	redis.Cont()
	p.await(`"level":"INFO","msg":"Redis reached"`)
	ready(t, admin)
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 {
		t.Errorf("exit %d, want 0", code)
	}
	if n := strings.Count(p.String(), "cannot reach Redis"); n != 1 {
		t.Errorf("said %d times that Redis is away, want once:\n%s", n, p)
	}
}

func TestServe_AKeyspaceThatItCannotWorkOnIsRefusedThoughItCouldNotBeReadAtFirst(t *testing.T) {
	for name, c := range map[string]struct {
		hide, show func(*redistest.Server, *redis.Client) error
	}{
		"Redis is paused": {
			func(s *redistest.Server, _ *redis.Client) error { s.Stop(); return nil },
			func(s *redistest.Server, _ *redis.Client) error { s.Cont(); return nil },
		},
		"Redis answers, but not that": {
			func(_ *redistest.Server, rdb *redis.Client) error {
				return rdb.Do(t.Context(), "ACL", "SETUSER", "default", "-hgetall").Err()
			},
			func(_ *redistest.Server, rdb *redis.Client) error {
				return rdb.Do(t.Context(), "ACL", "SETUSER", "default", "+hgetall").Err()
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			rdb := server.Client()
			if err := rdb.HSet(t.Context(), "gw:schema", "version", 9, "needs", 9).Err(); err != nil {
				t.Fatal(err)
			}
			if err := c.hide(server, rdb); err != nil {
				t.Fatal(err)
			}
			p := launch(t, local("GODWIT_REDIS_URL="+server.URL(), "GODWIT_AUTH_DEV=true"), "serve")
			_, admin := p.node()
			p.await(`"level":"WARN","msg":"cannot reach Redis at ` + server.Addr)
			if status, body := probe(t, admin+"/startupz"); status != http.StatusServiceUnavailable {
				t.Errorf("startupz answers %d %q, want 503", status, body)
			}
			if err := c.show(server, rdb); err != nil {
				t.Fatal(err)
			}
			if code := p.exit(); code != 2 || !strings.Contains(p.String(), "godwit: the keyspace is too new for this binary") {
				t.Errorf("exit %d, want 2 and why", code)
			}
			if keys, err := rdb.Keys(t.Context(), "*").Result(); err != nil || !slices.Equal(keys, []string{"gw:schema"}) {
				t.Errorf("it wrote there: %q, %v", keys, err)
			}
		})
	}
}

func TestServe_SaysWhichRedisIsAwayWithoutItsPassword(t *testing.T) {
	// Nobody listens there.
	p := launch(t, local("GODWIT_REDIS_URL=redis://ann:hunter2@127.0.0.1:1", "GODWIT_AUTH_DEV=true"), "serve")
	p.await(`cannot reach Redis at 127.0.0.1:1; trying again.*connection refused`)
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 || strings.Contains(p.String(), "hunter2") {
		t.Errorf("exit %d, want 0 and no password in:\n%s", code, p)
	}
}

func TestServe_NamesARedisWithoutItsPassword(t *testing.T) {
	for raw, want := range map[string]string{
		"redis://h:1/2":               "h:1",
		"rediss://ann:hunter2@h":      "h:6379",
		"redis://":                    "localhost:6379",
		"redis://:hunter2@[::1]:6380": "[::1]:6380",
		"unix://:hunter2@/run/r.sock": "/run/r.sock",

		"redis+sentinel://ann:hunter2@h:1,i:2/main": "h:1,i:2",
		"rediss+cluster://ann:hunter2@h:1,i:2":      "h:1,i:2",
	} {
		if got, err := store.Where(raw); got != want || err != nil {
			t.Errorf("%s is %s (%v), want %s", raw, got, err, want)
		}
	}
}

func TestServe_DrainsWhenItIsToldToStop(t *testing.T) {
	n := serveInside(t)
	lost := make(chan client.Disconnected, 16)
	c, err := login(t, n.url, "dev:ann", func(o *client.Options) {
		o.OnState = func(s client.State) {
			if d, ok := s.(client.Disconnected); ok && d.Code != 0 {
				lost <- d
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Join(t.Context(), "lobby"); err != nil {
		t.Fatal(err)
	}
	if code := n.end(); code != 0 {
		t.Errorf("exit %d, want 0", code)
	}
	select {
	case d := <-lost:
		if d.Code != wire.CloseRestart {
			t.Errorf("the client's socket ended with %d, want %d", d.Code, wire.CloseRestart)
		}
	case <-time.After(patience):
		t.Error("the client was not told that the node goes")
	}
	n.await(`"msg":"drained".*"sessions":1`)
	n.await(`"msg":"stopped"`)
}

func TestServe_ASignalDrainsItAndTheExitIs0(t *testing.T) {
	for _, c := range []struct {
		signal syscall.Signal
		args   []string
	}{
		{syscall.SIGTERM, []string{"serve"}},
		{syscall.SIGINT, nil}, // serve is the default
	} {
		t.Run(c.signal.String(), func(t *testing.T) {
			p := launch(t, local(), c.args...)
			url, admin := p.node()
			ready(t, admin)
			if strings.Contains(p.String(), "migrate") { // of a store that is empty
				t.Errorf("it asks for a migration:\n%s", p)
			}
			if _, err := login(t, url, "dev:ann"); err != nil {
				t.Fatal(err)
			}
			p.signal(c.signal)
			if code := p.exit(); code != 0 {
				t.Errorf("exit %d, want 0", code)
			}
			p.await(`"msg":"drained".*"sessions":1`)
		})
	}
}

func TestServe_ASecondSignalEndsItAtOnce(t *testing.T) {
	redis := redistest.Start(t)
	p := launch(t, local("GODWIT_REDIS_URL="+redis.URL(), "GODWIT_AUTH_DEV=true", "GODWIT_LEASE=1m"), "serve")
	url, admin := p.node()
	ready(t, admin)
	c, err := login(t, url, "dev:ann")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Join(t.Context(), "lobby"); err != nil {
		t.Fatal(err)
	}
	redis.Stop() // the drain cannot end: the session's state cannot be written
	p.signal(syscall.SIGTERM)
	p.await(`"msg":"draining"`)
	// A signal may be early, while the first is still being taken: then the next
	// one ends it.
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	late := time.After(5 * time.Second)
	for ended := false; !ended; {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-p.done:
			ended = true
		case <-tick.C:
		case <-late:
			t.Fatal("still there, after 5 s of signals")
		}
	}
	if s := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !s.Signaled() || s.Signal() != syscall.SIGTERM {
		t.Errorf("ended with %v, want by the signal", p.cmd.ProcessState)
	}
	if strings.Contains(p.String(), `"msg":"stopped"`) {
		t.Errorf("it said that it had stopped:\n%s", p)
	}
}

func TestServe_ItEndsWithinItsBudgetWhateverRedisDoes(t *testing.T) {
	redis := redistest.Start(t)
	p := launch(t, local("GODWIT_REDIS_URL="+redis.URL(), "GODWIT_AUTH_DEV=true", "GODWIT_DRAIN_BUDGET=3s"), "serve")
	url, admin := p.node()
	ready(t, admin)
	if _, err := login(t, url, "dev:ann"); err != nil {
		t.Fatal(err)
	}
	redis.Stop()
	defer redis.Cont()
	began := time.Now()
	p.signal(syscall.SIGTERM)
	p.exit()
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("ended after %s, the budget is 3s", took)
	}
}

func TestServe_AListenerThatIsTakenIsNamed(t *testing.T) {
	n := serveInside(t)
	taken := strings.TrimSuffix(strings.TrimPrefix(n.url, "ws://"), "/v1/ws")
	for _, name := range []string{"GODWIT_LISTEN", "GODWIT_ADMIN_LISTEN"} {
		code, _, errs := once(local(name+"="+taken), "serve")
		if code != 1 || !strings.Contains(errs, "godwit: "+name+": ") {
			t.Errorf("%s is taken: exit %d, said:\n%s\nwant exit 1 and the setting's name", name, code, errs)
		}
	}
}

func TestServe_NoSecretIsEverEchoed(t *testing.T) {
	const secret = "hunter2-hunter2-hunter2"
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("http://"+secret), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, env := range map[string][]string{
		"with a wrong setting beside it": {"GODWIT_AUTH_SECRET=" + secret, "GODWIT_ADMIN_TOKEN=" + secret, "GODWIT_GRACE=soon"},
		"in a URL of another scheme":     {"GODWIT_REDIS_URL=http://:" + secret + "@h:1"},
		"in a URL that is none":          {"GODWIT_REDIS_URL=redis://:" + secret + "@[::1"},
		"in a URL with a wrong database": {"GODWIT_REDIS_URL=redis://:" + secret + "@h:1/x", "GODWIT_AUTH_DEV=true"},
		"in a URL with a wrong port":     {"GODWIT_REDIS_URL=redis://:" + secret + "@h:port", "GODWIT_AUTH_DEV=true"},
		"in a URL of a Cluster":          {"GODWIT_REDIS_URL=redis+cluster://:" + secret + "@h"},
		"in a URL of Sentinels":          {"GODWIT_REDIS_URL=redis+sentinel://:" + secret + "@h:1"},
		"in a URL from a file":           {"GODWIT_REDIS_URL_FILE=" + file},
		"twice":                          {"GODWIT_AUTH_SECRET=" + secret, "GODWIT_AUTH_SECRET_FILE=" + file},
	} {
		code, out, errs := once(local(env...), "serve")
		if code != 2 || strings.Contains(out+errs, "hunter2") || !strings.HasPrefix(errs, "godwit: ") {
			t.Errorf("a secret %s: exit %d, said:\n%s%s\nwant exit 2, an error and not the secret", name, code, out, errs)
		}
	}
}

// A node that may not hear what Redis publishes can let nobody in: a rollout is to
// stop at it.
func TestServe_WhoMayNotHearIsNotReady(t *testing.T) {
	redis := redistest.Start(t)
	grant := func(channels string) {
		if err := redis.Client().Do(t.Context(), "ACL", "SETUSER", "godwit", "on", ">SECRET", "~gw:*", "+@all", "resetchannels", channels).Err(); err != nil {
			t.Fatal(err)
		}
	}
	grant("&other:*")
	p := launch(t, local("GODWIT_REDIS_URL="+strings.Replace(redis.URL(), "://", "://godwit:SECRET@", 1), "GODWIT_AUTH_DEV=true"), "serve")
	_, admin := p.node()
	eventually(t, func() error {
		if status, body := probe(t, admin+"/readyz"); status != http.StatusServiceUnavailable || !strings.HasPrefix(body, "nothing is heard") {
			return fmt.Errorf("readyz answers %d %q, want 503 because nothing is heard", status, body)
		}
		return nil
	})
	p.await(`subscription lost; trying again.*NOPERM`)
	grant("&gw:*")
	ready(t, admin)
}

func TestServe_NoSecretIsInTheLog(t *testing.T) {
	const secret = "hunter2-hunter2-hunter2"
	n := serveInside(t, "GODWIT_AUTH_SECRET="+secret, "GODWIT_ADMIN_TOKEN="+secret, "GODWIT_LOG_LEVEL=debug")
	if _, err := login(t, n.url, "dev:ann"); !client.Is(err, wire.Unauthorized) {
		t.Errorf("a dev token, with a key set: %v, want unauthorized", err)
	}
	n.end()
	if strings.Contains(n.String()+n.out.String(), "hunter2") {
		t.Errorf("the secret is in:\n%s%s", n, n.out)
	}
}
