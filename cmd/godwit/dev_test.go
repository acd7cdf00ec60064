package main

import (
	"errors"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"godwit/client"

	"godwit/wire"
)

// gone says whether no process has that id.
func gone(t *testing.T, pid string) bool {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	return errors.Is(syscall.Kill(n, 0), syscall.ESRCH)
}

// children are the process ids of a dev fleet, redis-server's first.
func children(p *program, nodes int) []string {
	p.t.Helper()
	pids := p.await(`^redis\| .*\bpid=(\d+), just started`)
	for i := range nodes {
		pids = append(pids, p.await(`kill -9 (\d+)   # n`+strconv.Itoa(i+1)+`$`)...)
	}
	return pids
}

func TestDev_IsAFleetThatEndsAsOne(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			p := launch(t, nil, "dev", "--nodes", "3")
			urls := strings.Fields(p.await(`^ *\| Listening on (ws://\S+ ws://\S+ ws://\S+)$`)[0])
			p.await(`chat --url ` + strings.Join(urls, ",") + ` --user ann --room lobby`)
			pids := children(p, 3)
			for i, url := range urls {
				name := "n" + strconv.Itoa(i+1)
				addr := strings.TrimSuffix(strings.TrimPrefix(url, "ws://"), "/v1/ws")
				p.await(`^` + name + `   \| .*\bmsg=listening .*\baddr=` + addr + ` `)
				host, _, err := net.SplitHostPort(addr)
				if err != nil || host != "127.0.0.1" {
					t.Errorf("%s listens on %s (%v), want the loopback", name, addr, err)
				}
				// All end at once: who followed a redirect would come to another that ends.
				c, err := login(t, url, "dev:u"+name, func(o *client.Options) { o.NoRedirect = true })
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if got := c.Session().Node; got != name {
					t.Errorf("at %s is the node %s, want %s", url, got, name)
				}
				joined, err := c.Join(t.Context(), "lobby")
				if err != nil || len(joined.Members) != i+1 {
					t.Errorf("joined at %s: %v, members %v; want %d of them", name, err, joined.Members, i+1)
				}
			}
			for _, pid := range pids {
				if gone(t, pid) {
					t.Errorf("no process %s, though the fleet runs", pid)
				}
			}
			p.signal(signal)
			if code := p.exit(); code != 0 {
				t.Errorf("exit %d, want 0", code)
			}
			for _, pid := range pids {
				if !gone(t, pid) {
					t.Errorf("process %s is left", pid)
				}
			}
			for i := range urls {
				p.await(`^n` + strconv.Itoa(i+1) + `   \| .*\bmsg=drained .*\bsessions=1\b`)
				p.await(`^n` + strconv.Itoa(i+1) + `   \| ended: exit status 0$`)
			}
			p.await(`^redis\| ended: exit status 0$`)
		})
	}
}

// A primary that is killed is replaced, and who talks goes on.
func TestDev_OnACluster_OrSentinels_GoesOnWithoutAPrimary(t *testing.T) {
	for _, kind := range devKinds[1:] {
		t.Run(kind, func(t *testing.T) {
			p := launch(t, nil, "dev", "--nodes", "2", "--redis", kind)
			urls := strings.Fields(p.await(`Listening on (.*)$`)[0])
			primary, err := strconv.Atoi(p.await(`kill -9 (\d+)   # primary `)[0])
			if err != nil {
				t.Fatal(err)
			}
			c, err := login(t, urls[0], "dev:ann")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Join(t.Context(), "lobby"); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(primary, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Send(t.Context(), "lobby", "hello"); err != nil {
				t.Errorf("send: %v", err)
			}
			all := p.await(`kill -9 (\d+)   # (?:replica|sentinel) `)
			p.signal(syscall.SIGINT)
			if code := p.exit(); code != 0 {
				t.Errorf("exit %d, want 0", code)
			}
			for _, pid := range all {
				if !gone(t, pid) {
					t.Errorf("process %s is left", pid)
				}
			}
		})
	}
}

func TestDev_ANodeThatIsToldToStopSendsItsClientsOn(t *testing.T) {
	p := launch(t, nil, "dev", "--nodes", "2")
	urls := strings.Fields(p.await(`Listening on (.*)$`)[0])
	pids := children(p, 2)
	n1, err := strconv.Atoi(pids[1])
	if err != nil {
		t.Fatal(err)
	}
	ann := launch(t, nil, "chat", "--url", urls[0], "--user", "ann")
	ann.await(`^-- in lobby at node n1, with ann;`)
	if err := syscall.Kill(n1, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ann.await(`^-- moved to node n2$`)
	p.await(`^n1   \| .*\bmsg=drained .*\bmoved=1\b`)
	p.await(`^n1   \| ended: exit status 0$`)
	ann.enter("nobody noticed")
	ann.await(`^\[2\] you: nobody noticed$`) // without a leave or a join before it
	ann.in.Close()
	if code := ann.exit(); code != 0 {
		t.Errorf("the chat exits %d, want 0", code)
	}
	p.signal(syscall.SIGINT)
	if code := p.exit(); code != 0 {
		t.Errorf("exit %d, want 0", code)
	}
}

func TestDev_GoesOnWithoutANodeThatIsKilled(t *testing.T) {
	p := launch(t, nil, "dev", "--nodes", "2")
	urls := strings.Fields(p.await(`Listening on (.*)$`)[0])
	pids := children(p, 2)
	n1, err := strconv.Atoi(pids[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(n1, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.await(`^n1   \| ended: signal: killed$`)
	if _, err := login(t, urls[1], "dev:ann"); err != nil {
		t.Errorf("the other node: %v", err)
	}
	p.signal(syscall.SIGINT)
	if code := p.exit(); code != 0 {
		t.Errorf("exit %d, want 0", code)
	}
}

func TestDev_SaysHowItIsAsked(t *testing.T) {
	p := launch(t, []string{opsToken}, "dev", "--nodes", "1")
	admin := p.await(` nodes --admin (http://127\.0\.0\.1:\d+)$`)[0]
	p.await(` drain n1 --admin ` + admin + `$`)
	if code, out, errs := once([]string{opsToken}, "nodes", "--admin", admin); code != 0 || !strings.Contains(out, "n1    ready") {
		t.Errorf("what it says to type: exit %d, said %q and %q", code, out, errs)
	}
	p.signal(syscall.SIGINT)
	p.exit()
	if strings.Contains(p.String(), strings.TrimPrefix(opsToken, "GODWIT_ADMIN_TOKEN=")) {
		t.Errorf("the token is in:\n%s", p)
	}
	for _, c := range []struct {
		admin string
		api   bool
		want  string
	}{
		{"[::]:8081", true, "--admin http://localhost:8081\n"},
		{"127.0.0.1:8081", false, "with a GODWIT_ADMIN_TOKEN"},
	} {
		if got := operate(c.admin, c.api); !strings.Contains(got, c.want) {
			t.Errorf("%+v: %q, want %q in it", c, got, c.want)
		}
	}
}

func TestDev_GivesItsNodesTheSettingsOfWhoStartsIt(t *testing.T) {
	p := launch(t, []string{"GODWIT_AUTH_SECRET=" + key, "GODWIT_LOG_FORMAT=json", "GODWIT_LOG_LEVEL=warn", "GODWIT_LISTEN=0.0.0.0:0"}, "dev", "--nodes", "1")
	url := p.await(`Listening on (\S+)$`)[0]
	p.await(`^ *\| and on every other address of this machine$`)
	p.await(`^n1   \| \{.*"msg":"listening"`)
	p.await(`chat --url ` + url + ` --token <JWT of ann>`)
	if _, err := login(t, url, "dev:ann"); !errors.As(err, new(*wire.Error)) {
		t.Errorf("a dev token, with a key set: %v, want unauthorized", err)
	}
	_, token, _ := once(nil, "token", "--user", "ann", "--secret", key)
	if _, err := login(t, url, strings.TrimSpace(token)); err != nil {
		t.Error(err)
	}
	p.signal(syscall.SIGINT)
	p.exit()
	if strings.Contains(p.String(), key) {
		t.Errorf("the key is in:\n%s", p)
	}
}

func TestDev_ListensWhereItIsAskedTo(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := taken.Addr().String()
	free := func(base string, nth int) string { // a default whose port is not taken, or the next
		host, port, err := net.SplitHostPort(base)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		return net.JoinHostPort(host, strconv.Itoa(n+nth))
	}
	for _, c := range []struct {
		asked, otherwise string
		nth              int
		want             string
	}{
		{"", addr, 0, ""},              // any that is free
		{"", "127.0.0.1:0", 2, ""},     // likewise
		{addr, "127.0.0.1:1", 0, addr}, // the node says that it is taken
		{addr, "127.0.0.1:1", 2, free(addr, 2)},
		{":9000", "127.0.0.1:1", 1, ":9001"},
		{"0.0.0.0:0", "127.0.0.1:1", 1, "0.0.0.0:0"},
		{"nonsense", "127.0.0.1:1", 1, "nonsense"}, // the node says what is expected
	} {
		got, err := devAddr(c.asked, c.otherwise, c.nth)
		if c.want == "" {
			l, taken := net.Listen("tcp", got)
			if taken == nil {
				l.Close()
			}
			err = errors.Join(err, taken)
			c.want = got
		}
		if err != nil || got != c.want || got == addr && c.asked == "" {
			t.Errorf("node %d, asked for %q or else %q: %s, %v, want %s", c.nth, c.asked, c.otherwise, got, err, c.want)
		}
	}
}

func TestDev_NodesSendTheirClientsToEachOther(t *testing.T) {
	listen := []string{"127.0.0.1:8080", "127.0.0.1:8081"}
	want := []string{"GODWIT_NODE_URL=ws://127.0.0.1:8081/v1/ws", "GODWIT_REDIRECT_ORIGINS=ws://127.0.0.1:8080,ws://127.0.0.1:8081"}
	if got := redirectable(nil, listen, 1); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for name, got := range map[string][]string{
		"told otherwise":           redirectable(map[string]string{"GODWIT_PUBLIC_URL": "wss://x.test/v1/ws"}, listen, 1),
		"a port that is not known": redirectable(nil, []string{"127.0.0.1:0", "127.0.0.1:0"}, 1),
		"on every interface":       redirectable(nil, []string{"0.0.0.0:8080", ":8081"}, 1),
		"no address":               redirectable(nil, []string{"nonsense"}, 0),
	} {
		if got != nil {
			t.Errorf("%s: %v, want none", name, got)
		}
	}
}

func TestDev_SaysWhyItCannotRun(t *testing.T) {
	saysWhy(t, "dev", []mistake{
		{"no redis-server", []string{"PATH=" + t.TempDir()}, nil, 2, []string{"redis-server is not installed; type: sudo apt-get install redis-server"}},
		{"no nodes", nil, []string{"--nodes", "0"}, 2, []string{"--nodes: expected 1 to 16"}},
		{"too many nodes", nil, []string{"--nodes", "17"}, 2, []string{"--nodes: expected 1 to 16"}},
		{"wrong settings", []string{"GODWIT_GRACE=soon"}, nil, 1, []string{
			"n1   | GODWIT_GRACE: expected a duration", "n1 ended before it listened; its log says why", "redis| ended: exit status 0",
		}},
	})
}

func TestDev_LeavesNoFile(t *testing.T) {
	dir := t.TempDir()
	p := launch(t, []string{"TMPDIR=" + dir}, "dev", "--nodes", "1")
	children(p, 1)
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("while it runs: %v, %v; want the directory of redis", left, err)
	}
	p.signal(syscall.SIGINT)
	p.exit()
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v; want nothing", left, err)
	}
}
