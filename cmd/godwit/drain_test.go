package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"godwit/client"
	"godwit/e2e/raw"
	"godwit/internal/freeport"
	"godwit/internal/redistest"
	"godwit/wire"
)

const opsToken = "GODWIT_ADMIN_TOKEN=ops-ops-ops"

// crew is two nodes, as processes on a real Redis, that send clients to each
// other.
type crew struct {
	nodes  [2]*program
	urls   [2]string
	admins [2]string
}

func startCrew(t *testing.T) *crew {
	t.Helper()
	redis := redistest.Start(t)
	ports, err := freeport.Find("127.0.0.1", 2)
	if err != nil {
		t.Fatal(err)
	}
	at := func(i int) string { return fmt.Sprintf("ws://127.0.0.1:%d", ports[i]) }
	c := &crew{}
	for i := range c.nodes {
		c.nodes[i] = launch(t, local("GODWIT_REDIS_URL="+redis.URL(), "GODWIT_AUTH_DEV=true", opsToken,
			fmt.Sprintf("GODWIT_NODE_ID=n%d", i+1), "GODWIT_REVISION=r7", fmt.Sprintf("GODWIT_LISTEN=127.0.0.1:%d", ports[i]),
			"GODWIT_NODE_URL="+at(i)+"/v1/ws", "GODWIT_REDIRECT_ORIGINS="+at(0)+","+at(1)), "serve")
	}
	for i, n := range c.nodes {
		c.urls[i], c.admins[i] = n.node()
		ready(t, c.admins[i])
	}
	return c
}

func TestDrain_MovesTheClientsOfANodeAndItsExitCodeSaysSo(t *testing.T) {
	c := startCrew(t)
	env := []string{opsToken}
	code, out, errs := once(env, "nodes", "--admin", c.admins[1])
	if code != 0 || strings.Count(out, "\n") != 3 || !strings.Contains(out, "n1    ready  0") || !strings.Contains(out, "r7") {
		t.Fatalf("nodes: exit %d\n%s%s", code, out, errs)
	}
	const many = 8
	states := make(chan client.State, 100)
	tell := func(o *client.Options) { o.OnState = func(s client.State) { states <- s } }
	for i := range many {
		ann, err := login(t, c.urls[0], fmt.Sprint("dev:ann", i), tell)
		if err != nil {
			t.Fatal(err)
		}
		<-states // connected
		if _, err := ann.Join(t.Context(), "lobby"); err != nil {
			t.Fatal(err)
		}
	}
	code, out, errs = once(env, "drain", "n1", "--budget", "30s", "--admin", c.admins[1])
	if code != 0 || !strings.Contains(out, "n1 done: 8 moved, 0 left, 0 refused, 0 resumed") {
		t.Fatalf("drain: exit %d\n%s%s", code, out, errs)
	}
	for range many {
		switch s := (<-states).(type) {
		case client.Redirected:
			if s.To != "n2" || s.Reason != wire.ForDrain {
				t.Errorf("%+v", s)
			}
		default:
			t.Errorf("a client is told %T %+v", s, s)
		}
	}
	var refused *raw.Refused
	if _, err := raw.Dial(c.urls[0], nil); !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable || refused.RetryAfter == "" {
		t.Errorf("a socket at the node that is drained: %v", err)
	}
	eventually(t, func() error {
		if code, out, _ := once(env, "nodes", "--admin", c.admins[0]); code != 0 || !strings.Contains(out, "n1    draining  0") || !strings.Contains(out, "n2    ready     8") {
			return fmt.Errorf("nodes: exit %d\n%s", code, out)
		}
		return nil
	})

	// Undone, the node takes sockets again.
	code, out, errs = once(env, "drain", "n1", "--undo", "--admin", c.admins[1])
	if code != 0 || !strings.Contains(out, "node n1 takes sockets again; 8 moved") {
		t.Fatalf("undo: exit %d\n%s%s", code, out, errs)
	}
	ready(t, c.admins[0])
	if _, err := login(t, c.urls[0], "dev:bob", func(o *client.Options) { o.NoRedirect = true }); err != nil {
		t.Fatal(err)
	}
	// Who follows no redirect resumes: that is not all moved.
	code, out, errs = once(env, "drain", "n1", "--budget", "30s", "--admin", c.admins[0])
	if code != 1 || !strings.Contains(errs, "not all were moved from node n1: 0 moved, 0 left, 0 refused, 1 resumed") {
		t.Errorf("drain of one that follows none: exit %d\n%s%s", code, out, errs)
	}
	c.nodes[0].signal(syscall.SIGTERM)
	if code := c.nodes[0].exit(); code != 0 {
		t.Errorf("the drained node: exit %d, want 0", code)
	}
}

// stayer is a client that is offered another node, and does not go.
func stayer(t *testing.T, c *crew) *raw.Conn {
	t.Helper()
	conn, err := raw.Dial(c.urls[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Drop)
	if err := conn.Call(t.Context(), "hello", wire.Hello{Token: "dev:cy", Caps: []string{"redirect"}}, nil); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestDrain_CtrlCEndsTheWatchingAndASecondSignalTheDrainingNode(t *testing.T) {
	c := startCrew(t)
	stayer(t, c)
	p := launch(t, []string{opsToken}, "drain", "n1", "--budget", "10m", "--admin", c.admins[1])
	p.await(`n1 running: 0 moved, 1 left`)
	p.signal(syscall.SIGINT)
	p.await(`no longer watching; the drain goes on \(godwit drain n1 --undo ends it\)`)
	if code := p.exit(); code != 1 {
		t.Errorf("exit %d, want 1", code)
	}
	if status, body := probe(t, c.admins[0]+"/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, "draining") {
		t.Errorf("readyz: %d %q", status, body)
	}
	n := c.nodes[0]
	n.signal(syscall.SIGTERM)
	eventually(t, func() error {
		code, _, errs := once([]string{opsToken}, "drain", "n1", "--undo", "--admin", c.admins[1])
		if code != 1 || !strings.Contains(errs, "told to end") {
			return fmt.Errorf("undone after the signal: exit %d, %s", code, errs)
		}
		return nil
	})
	select {
	case <-n.done:
		t.Fatal("ended by one signal, with a client that is there yet")
	default:
	}
	n.signal(syscall.SIGTERM)
	n.exit()
	if s := n.cmd.ProcessState.Sys().(syscall.WaitStatus); !s.Signaled() || s.Signal() != syscall.SIGTERM {
		t.Errorf("ended with %v, want by the second signal", n.cmd.ProcessState)
	}
}

func TestDrain_WhatMakesNoSenseExits2AndWhatTheFleetRefuses1(t *testing.T) {
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	n := serveInside(t, opsToken, "GODWIT_NODE_ID=n1")
	for _, c := range []struct {
		name string
		env  []string
		args []string
		code int
		says string
	}{
		{"no node", []string{opsToken}, []string{"drain"}, 2, "name of one node"},
		{"two nodes", []string{opsToken}, []string{"drain", "n1", "n2"}, 2, "name of one node"},
		{"a negative budget", []string{opsToken}, []string{"drain", "n1", "--budget", "-1s"}, 2, "--budget"},
		{"no time at all", []string{opsToken}, []string{"drain", "n1", "--budget", "0s"}, 2, "--budget"},
		{"a budget that is none", []string{opsToken}, []string{"drain", "n1", "--budget", "soon"}, 2, "budget"},
		{"a budget to undo", []string{opsToken}, []string{"drain", "n1", "--budget", "1s", "--undo"}, 2, "--undo"},
		{"no token", nil, []string{"drain", "n1"}, 2, "GODWIT_ADMIN_TOKEN"},
		{"a file that is not there", []string{"GODWIT_ADMIN_TOKEN_FILE=/nowhere/token"}, []string{"nodes"}, 2, "GODWIT_ADMIN_TOKEN_FILE"},
		{"an address that is none", []string{opsToken}, []string{"nodes", "--admin", "127.0.0.1:8081"}, 2, "--admin"},
		{"a wrong token", nil, []string{"drain", "n1", "--token", "guess", "--admin", n.admin}, 1, "(401)"},
		{"an unknown node", []string{opsToken}, []string{"drain", "n/9", "--admin", n.admin}, 1, "no such node: n/9 (404)"},
		{"undone what never began", []string{opsToken}, []string{"drain", "n1", "--undo", "--admin", n.admin}, 1, "no drain of node n1"},
		{"a budget too long", []string{opsToken}, []string{"drain", "n1", "--budget", "25h", "--admin", n.admin}, 1, "budget_ms"},
		{"nobody listens", []string{opsToken}, []string{"nodes", "--admin", "http://127.0.0.1:1"}, 1, "refused"},
		{"somebody else listens", []string{opsToken}, []string{"nodes", "--admin", web.URL}, 1, "--admin is the address of an admin listener (GODWIT_ADMIN_LISTEN) (404)"},
	} {
		began := time.Now()
		code, out, errs := once(c.env, c.args...)
		if code != c.code || !strings.Contains(errs, c.says) || !strings.HasPrefix(errs, "godwit: ") || time.Since(began) > patience {
			t.Errorf("%s: exit %d, said %q and %q, want exit %d and %q", c.name, code, out, errs, c.code, c.says)
		}
	}
}
