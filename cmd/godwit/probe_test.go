package main

import (
	"strings"
	"syscall"
	"testing"

	"godwit/internal/redistest"
)

func TestProbe_SaysHowTheNodeStandsByItsExitCode(t *testing.T) {
	redis := redistest.Start(t)
	n := launch(t, local("GODWIT_REDIS_URL="+redis.URL(), "GODWIT_AUTH_DEV=true", "GODWIT_LEASE=1m"), "serve")
	_, admin := n.node()
	ready(t, admin)
	addr := strings.TrimPrefix(admin, "http://")
	_, port, _ := strings.Cut(addr, ":")
	ask := func(want int, says string, env []string, args ...string) {
		t.Helper()
		code, out, errs := once(env, append([]string{"probe"}, args...)...)
		if code != want || !strings.Contains(out+errs, says) {
			t.Errorf("probe %v: exit %d\n%s%s, want %d and %q", args, code, out, errs, want, says)
		}
	}
	for _, which := range [][]string{nil, {"ready"}, {"live"}, {"startup"}} {
		ask(0, "ok", nil, append(which, "--admin", addr)...)
	}
	ask(0, "ok", []string{"GODWIT_ADMIN_LISTEN=:" + port})
	ask(0, "ok", []string{"GODWIT_ADMIN_LISTEN=0.0.0.0:" + port}, "live")
	ask(2, "expected one of", nil, "well")
	ask(2, "expected one of", nil, "live", "ready")
	ask(2, "host:port", nil, "--admin", "8081")
	redis.Stop()
	defer redis.Cont()
	n.signal(syscall.SIGTERM) // it cannot move a session, and waits for none: there is none
	n.exit()
	ask(1, "does not answer", nil, "--admin", addr)
}

func TestProbe_ADrainingNodeIsNotReadyButAlive(t *testing.T) {
	c := startCrew(t)
	stayer(t, c)
	p := launch(t, []string{opsToken, "GODWIT_NODE_ID=n1"}, "drain", "--budget", "10m", "--admin", c.admins[1]) // its own name, as in a pod
	p.await(`n1 running: 0 moved, 1 left`)
	addr := strings.TrimPrefix(c.admins[0], "http://")
	if code, out, errs := once(nil, "probe", "--admin", addr); code != 1 || !strings.Contains(errs, "not ready: draining (503)") {
		t.Errorf("ready: exit %d\n%s%s", code, out, errs)
	}
	if code, _, _ := once(nil, "probe", "live", "--admin", addr); code != 0 {
		t.Errorf("live: exit %d", code)
	}
}
