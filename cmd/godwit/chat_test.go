package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"godwit/client"
	"godwit/internal/freeze"
	"godwit/internal/redistest"
	"godwit/wire"
)

// startNode starts a node as a process, in the fleet of a Redis.
func startNode(t *testing.T, redis *redistest.Server, name string) (p *program, url string) {
	t.Helper()
	p = launch(t, local("GODWIT_REDIS_URL="+redis.URL(), "GODWIT_AUTH_DEV=true", "GODWIT_NODE_ID="+name), "serve")
	url, admin := p.node()
	ready(t, admin)
	return p, url
}

func TestChat_GoesOnAtAnotherNodeWhenItsOwnIsKilled(t *testing.T) {
	redis := redistest.Start(t)
	n1, url1 := startNode(t, redis, "n1")
	_, url2 := startNode(t, redis, "n2")
	ann := launch(t, nil, "chat", "--url", url1+","+url2, "--user", "ann", "--room", "lobby")
	ann.await(`^-- in lobby at node n1, with ann; type a line`)
	bob := launch(t, nil, "chat", "--url", url2, "--user", "bob") // the lobby is the default
	bob.await(`^-- in lobby at node n2, with (ann, bob|bob, ann);`)
	ann.await(`^\[2\] -- bob joined$`)

	ann.enter("hello")
	ann.await(`^\[3\] you: hello$`)
	bob.await(`^\[3\] ann: hello$`)
	bob.enter("  ") // nothing to say
	bob.enter("hi ann")
	ann.await(`^\[4\] bob: hi ann$`)

	n1.signal(syscall.SIGKILL)
	bob.enter("did you get this?")
	ann.await(`^-- connection lost \(.+\), resuming in \d`)
	ann.await(`^-- resumed at node n2$`)
	ann.await(`^\[5\] bob: did you get this\?(  \(replayed\))?$`) // or it came after the resume
	ann.enter("every word")
	bob.await(`^\[6\] ann: every word$`) // and nobody left between 5 and 6

	ann.in.Close()
	if code := ann.exit(); code != 0 {
		t.Errorf("at the end of its input a chat exits %d, want 0", code)
	}
	bob.await(`^\[7\] -- ann left \(left\)$`)
	bob.signal(syscall.SIGINT)
	if code := bob.exit(); code != 0 {
		t.Errorf("at Ctrl-C a chat exits %d, want 0", code)
	}
}

func TestChat_WhatWasSaidMeanwhileComes(t *testing.T) {
	redis := redistest.Start(t)
	n1, url1 := startNode(t, redis, "n1")
	_, url2 := startNode(t, redis, "n2")
	ann := launch(t, nil, "chat", "--url", url1+","+url2, "--user", "ann")
	ann.await(`at node n1`)
	bob := launch(t, nil, "chat", "--url", url2, "--user", "bob")
	ann.await(`bob joined`)
	if err := freeze.Stop(ann.cmd.Process); err != nil { // it cannot resume before bob has spoken
		t.Fatal(err)
	}
	n1.signal(syscall.SIGKILL)
	n1.exit()
	bob.enter("are you there?")
	bob.await(`^\[3\] you: are you there\?$`)
	ann.signal(syscall.SIGCONT)
	ann.await(`^-- resumed at node n2$`)
	ann.await(`^\[3\] bob: are you there\?  \(replayed\)$`)
	bob.enter("good")
	ann.await(`^\[4\] bob: good$`)
}

func TestChat_LogsInAsTheNodeWants(t *testing.T) {
	n := serveInside(t, "GODWIT_AUTH_SECRET="+key)
	_, token, _ := once(nil, "token", "--user", "ann", "--secret", key)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--user", "ann", "--secret", key}, 0, "-- in lobby at node"},
		{[]string{"--token", strings.TrimSpace(token)}, 0, "-- in lobby at node"},
		{[]string{"--user", "ann"}, 1, "the node accepts no dev tokens, or not this one: log in with --token or --secret"},
		{[]string{"--user", "ann", "--secret", "another key"}, 1, "wrong signature"},
		{nil, 2, "who are you? give --user, or --token"},
		{[]string{"--user", "ann", "--url", "http://x"}, 1, "ws://"},
		{[]string{"--user", "ann", "--secret", key + "?"}, 1, "the token is refused: wrong signature"},
		{[]string{"--user", "ann", "--secret", key, "--room", "a\nb"}, 1, `join "a\nb"`},
	} {
		p := launch(t, nil, append([]string{"chat", "--url", n.url}, c.args...)...)
		p.in.Close()
		if code := p.exit(); code != c.code || !strings.Contains(p.String(), c.want) {
			t.Errorf("chat %q: exit %d, said:\n%s\nwant exit %d and %q", c.args, code, p, c.code, c.want)
		}
		if hint := "log in with --token or --secret"; len(c.args) > 2 && strings.Contains(p.String(), hint) {
			t.Errorf("chat %q: told %q, which it has:\n%s", c.args, hint, p)
		}
		for _, once := range []string{"log in:", "refused:", "join "} {
			if strings.Count(p.String(), once) > 1 {
				t.Errorf("chat %q: says %q more than once:\n%s", c.args, once, p)
			}
		}
	}
}

func TestChat_SaysOnceThatItCannotLogIn(t *testing.T) {
	const nobody = "ws://127.0.0.1:1/v1/ws"
	code, _, errs := once(nil, "chat", "--url", nobody, "--user", "ann")
	if want := "godwit: log in: dial " + nobody + ": "; code != 1 || !strings.HasPrefix(errs, want) || strings.Contains(errs[len(want):], "log in") {
		t.Errorf("exit %d, said %q; want exit 1 and %q once", code, errs, want)
	}
}

func TestChat_ALossIsSaidOnceAndEachReasonOnce(t *testing.T) {
	var out bytes.Buffer
	c := &talk{out: &out}
	refused := func(port string) error {
		return fmt.Errorf("dial ws://127.0.0.1:%s/v1/ws: %w", port,
			&net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)})
	}
	lost := client.Disconnected{Code: wire.CloseRestart, Err: &client.CloseError{Code: wire.CloseRestart}, RetryIn: time.Second}
	busy := client.Disconnected{Err: wire.ErrUnavailable()}
	for _, s := range []client.State{
		client.Connected{},
		lost,
		client.Disconnected{Err: refused("1")},
		client.Disconnected{Err: refused("2")},
		client.Disconnected{Err: refused("1")},
		busy,
		client.Disconnected{Err: refused("1")},
		busy,
		client.Disconnected{Err: wire.Errorf(wire.NoSession, "no such session")}, // the stream says it
		client.Connected{},
		lost, busy,
		client.Disconnected{Err: errors.New("the end"), Final: true}, // said by the exit
	} {
		c.state(s)
	}
	away := "-- not back yet (" + wire.ErrUnavailable().Message + "), still trying\n"
	want := "-- connection lost (1012), resuming in 1s\n" +
		"-- not back yet (connection refused), still trying\n" + away +
		"-- connection lost (1012), resuming in 1s\n" + away
	if got := out.String(); got != want {
		t.Errorf("said:\n%swant:\n%s", got, want)
	}
}

func TestChat_SaysThatANewSessionBegan(t *testing.T) {
	n1 := serveInside(t, "GODWIT_NODE_ID=n1")
	n2 := serveInside(t, "GODWIT_NODE_ID=n2") // another store: it knows no session of n1
	ann := launch(t, nil, "chat", "--url", n1.url+","+n2.url, "--user", "ann")
	ann.await(`^-- in lobby at node n1`)
	n1.end()
	ann.await(`^-- connection lost \(1012\), resuming in \d`)
	ann.await(`^-- the session had ended; a new one began at node n2: what was said meanwhile may be missing$`)
	ann.enter("anybody here?")
	ann.await(`^\[2\] you: anybody here\?$`)
	if n := strings.Count(ann.String(), "a new one began"); n != 1 {
		t.Errorf("said %d times that a session began, want once, and nothing of the first:\n%s", n, ann)
	}
}

func TestChat_GoesOnAfterALineWhoseFateIsUnknown(t *testing.T) {
	redis := redistest.Start(t)
	n1 := launch(t, local("GODWIT_REDIS_URL="+redis.URL(), "GODWIT_AUTH_DEV=true", "GODWIT_LOG_LEVEL=debug"), "serve")
	url, admin := n1.node()
	ready(t, admin)
	n2 := serveInside(t, "GODWIT_NODE_ID=n2") // another store
	ann := launch(t, nil, "chat", "--url", url+","+n2.url, "--user", "ann")
	ann.await(`^-- in lobby`)
	redis.Stop()
	ann.enter("is it there?")
	n1.await(`"msg":"request unavailable".*"method":"room.send"`)
	n1.signal(syscall.SIGKILL)
	ann.await(`^-- it is not known whether this was sent: is it there\?$`)
	ann.await(`^-- the session had ended; a new one began at node n2`)
	ann.enter("and this")
	ann.await(`^\[2\] you: and this$`)
}

func TestChat_SaysWhatHasNoAnswer(t *testing.T) {
	p := launch(t, local("GODWIT_REDIS_URL="+redistest.Start(t).URL(), "GODWIT_REDIS_WAIT=1", "GODWIT_AUTH_DEV=true"), "serve")
	url, admin := p.node()
	ready(t, admin)
	ann := launch(t, nil, "chat", "--url", url, "--user", "ann")
	ann.await(`^-- in lobby`)
	ann.enter("to no replica")
	ann.await(`^-- not answered yet, still trying: to no replica$`)
	ann.signal(syscall.SIGINT)
	ann.await(`^-- it is not known whether this was sent: to no replica$`)
}

func TestChat_WhatWasTypedIsSentBeforeItLeaves(t *testing.T) {
	n := serveInside(t)
	bob := launch(t, nil, "chat", "--url", n.url, "--user", "bob")
	bob.await(`^-- in lobby`)
	ann := launch(t, nil, "chat", "--url", n.url, "--user", "ann")
	ann.enter("one")
	ann.enter("two")
	ann.in.Close()
	if code := ann.exit(); code != 0 {
		t.Errorf("exit %d, want 0", code)
	}
	bob.await(`^\[3\] ann: one$`)
	bob.await(`^\[4\] ann: two$`)
	bob.await(`^\[5\] -- ann left \(left\)$`)
}

func TestChat_NothingThatATerminalObeysIsShown(t *testing.T) {
	for _, c := range []struct{ data, want string }{
		{`"hello"`, "hello"},
		{`"grüße, 世界"`, "grüße, 世界"},
		{`{"x": 1}`, `{"x": 1}`},
		{`"\u001b[2Jgone"`, "\uFFFD[2Jgone"},
		{`"a\r\nb\u0007"`, "a\uFFFD\uFFFDb\uFFFD"},
		{`"\u009b31m\u007f"`, "\uFFFD31m\uFFFD"},
		{"{\n\t\"x\": 1\n}", "{\uFFFD\uFFFD\"x\": 1\uFFFD}"},
	} {
		if got := plain(text([]byte(c.data))); got != c.want {
			t.Errorf("%s is shown as %q, want %q", c.data, got, c.want)
		}
	}
}

func TestChat_NorInAName(t *testing.T) {
	n := serveInside(t)
	mallory, err := login(t, n.url, "dev:mal\u001b[2Jlory")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mallory.Join(t.Context(), "lobby"); err != nil {
		t.Fatal(err)
	}
	ann := launch(t, nil, "chat", "--url", n.url, "--user", "ann")
	ann.await(`^-- in lobby at node \S+, with .*mal\x{FFFD}\[2Jlory`)
	if _, err := mallory.Send(t.Context(), "lobby", "hi"); err != nil {
		t.Fatal(err)
	}
	ann.await(`^\[3\] mal\x{FFFD}\[2Jlory: hi$`)
	if err := mallory.Leave(t.Context(), "lobby"); err != nil {
		t.Fatal(err)
	}
	ann.await(`^\[4\] -- mal\x{FFFD}\[2Jlory left \(left\)$`)
	if strings.Contains(ann.String(), "\u001b") {
		t.Errorf("an escape is in %q", ann)
	}
}
