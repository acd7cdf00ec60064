package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"godwit/bench/load"
	"godwit/e2e/raw"
	"godwit/wire"
)

// launchBench starts a bench that is over soon, and leaves nothing in its
// directory for temporary files.
func launchBench(t *testing.T, env []string, args ...string) (p *program, logs string) {
	t.Helper()
	dir := t.TempDir()
	logs = filepath.Join(t.TempDir(), "logs")
	p = launch(t, append([]string{"TMPDIR=" + dir}, env...), append([]string{
		"bench", "--rooms", "2", "--members", "4", "--duration", "200ms", "--warm", "50ms", "--logs", logs,
	}, args...)...)
	t.Cleanup(func() {
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("left behind: %v, %v; want no file", left, err)
		}
	})
	return p, logs
}

// benched is the JSON object among what was said.
func (p *program) benched() (r benchResult, raw string) {
	p.t.Helper()
	_, text, _ := strings.Cut("\n"+p.String(), "\n{\n")
	text, _, found := strings.Cut(text, "\n}\n")
	raw = "{" + text + "}"
	if err := json.Unmarshal([]byte(raw), &r); err != nil || !found {
		p.t.Fatalf("no JSON object (%v) in:\n%s", err, p)
	}
	return r, raw
}

func TestBench_EachWorkIsCountedOnBothSides(t *testing.T) {
	t.Parallel()
	works := []string{"fanout", "login", "idle", "resume"}
	p, logs := launchBench(t, nil, append(works, "--json")...)
	if code := p.exit(); code != 0 {
		t.Fatalf("exit %d, want 0", code)
	}
	r, _ := p.benched()
	if len(r.Works) != len(works) || r.Revision == "" || r.Machine.Cores == 0 {
		t.Fatalf("%+v, want every work, and where it was done", r)
	}
	for i, w := range r.Works {
		if w.Work != works[i] || len(w.Wrong) != 0 || w.Shape.Nodes != 2 || w.Shape.Rooms != 2 || w.Shape.Members != 4 {
			t.Errorf("%+v, want %s, of the shape that was asked for", w, works[i])
		}
		sides := map[string]figures{"fleet": w.Fleet, "floor": w.Floor}
		if w.Work == "resume" {
			delete(sides, "floor")
			w.Under.Clients = 8
		}
		if w.Count.Clients != 8 || w.Under.Clients != 8 || w.Count.Expected != w.Count.Delivered || w.Under.Expected != w.Under.Delivered {
			t.Errorf("%s: %+v, %+v; want eight clients that counted what they had to", w.Work, w.Count, w.Under)
		}
		var positive, there []string
		switch w.Work {
		case "fanout":
			positive = []string{"publishes_per_s", "deliveries_per_s", "latency_p50_ms", "latency_p99_ms", "latency_p999_ms", "latency_max_ms"}
			there = []string{"server_us_per_delivery", "server_cores", "load_cores"}
			if w.Count.Accepted == 0 || w.Count.Delivered != 3*w.Count.Accepted || w.Under.Delivered != 3*w.Under.Accepted {
				t.Errorf("%+v, %+v; want three deliveries a message", w.Count, w.Under)
			}
		case "login":
			positive = []string{"logins_per_s", "latency_p50_ms"}
			there = []string{"server_us_per_login"}
			if w.Count.Accepted != 4 || w.Fleet["redis_scripts_per_login"] < 1 || w.Fleet["redis_reads_per_login"] < 1 {
				t.Errorf("%+v, %v; want four logins at once, and what four alone asked of Redis", w.Count, w.Fleet)
			}
		case "resume":
			if w.Count.Expected != 8 || w.Fleet["all_resumed_s"] <= 0 || w.Fleet["latency_max_ms"] <= 0 || w.Floor != nil {
				t.Errorf("%+v, want eight sessions to be back at the other node", w)
			}
		case "idle":
			there = []string{"server_rss_bytes_per_session", "server_idle_percent"}
			if w.Fleet["redis_bytes_per_session"] < 100 {
				t.Errorf("%+v, want what a session keeps in Redis", w)
			}
		}
		for side, f := range sides {
			for _, name := range append(positive, there...) {
				if v, ok := f[name]; !ok || v <= 0 && !slices.Contains(there, name) {
					t.Errorf("%s, %s: %s is %v, %v", w.Work, side, name, v, ok)
				}
			}
		}
		for _, name := range positive { // empty where there is no floor
			if got, want := w.Ratio[name], w.Fleet[name]/w.Floor[name]; got != want {
				t.Errorf("%s: the ratio of %s is %v, want %v", w.Work, name, got, want)
			}
		}
	}
	for _, name := range []string{"redis_us_per_publish", "redis_cores"} {
		if _, ok := r.Works[0].Fleet[name]; !ok {
			t.Errorf("no %s of a fleet that has a Redis", name)
		}
		if _, ok := r.Works[0].Floor[name]; ok {
			t.Errorf("%s of a floor that has none", name)
		}
	}
	said, err := os.ReadFile(logs)
	if err != nil {
		t.Fatal(err)
	}
	for _, mark := range []string{"n1", "n2", "redis", "bench-floor", "load"} {
		if !strings.Contains(string(said), mark) {
			t.Errorf("nothing of %s in the logs", mark)
		}
	}
}

func TestBench_DevicesAreCountedOnBothSides(t *testing.T) {
	t.Parallel()
	// Slow enough that each change is told before the user's next one.
	p, _ := launchBench(t, nil, "presence", "calls", "--json", "--rate", "20", "--duration", "1s", "--warm", "0s")
	if code := p.exit(); code != 0 {
		t.Fatalf("exit %d, want 0", code)
	}
	r, _ := p.benched()
	for i, want := range []tallied{{Accepted: 20, Expected: 60, Delivered: 60}, {Accepted: 2}} {
		w := r.Works[i]
		for side, got := range map[string]tallied{"fleet": w.Count, "floor": w.Under} {
			if got.Accepted != want.Accepted || got.Expected != want.Expected || got.Delivered != want.Delivered || len(w.Wrong) != 0 {
				t.Errorf("%s on the %s: %+v, %v; want %+v", w.Work, side, got, w.Wrong, want)
			}
		}
	}
	if scripts := r.Works[1].Fleet["redis_scripts_per_beat"]; scripts <= 0 {
		t.Errorf("%v scripts a beat, want some", scripts)
	}
	for i, name := range []string{"server_us_per_notice", "server_us_per_beat"} {
		if _, ok := r.Works[i].Fleet[name]; !ok {
			t.Errorf("no %s in %v", name, r.Works[i].Fleet)
		}
	}
}

func TestBench_ADrainMovesSessionsBeforeTheBreak(t *testing.T) {
	t.Parallel()
	// It is over when all have moved; the budget is for a machine that is slow.
	p, _ := launchBench(t, nil, "drain", "--json", "--duration", "30s")
	if code := p.exit(); code != 0 {
		t.Fatalf("exit %d, want 0", code)
	}
	r, _ := p.benched()
	w := r.Works[0]
	if w.Count.Expected != 8 || w.Count.Delivered != 8 || w.Fleet["handed_percent"] != 100 || w.Fleet["all_moved_s"] <= 0 || w.Floor != nil {
		t.Errorf("%+v, want eight sessions to be handed over", w)
	}
}

func TestBench_ADrainThatKeepsNoPromiseIsSeen(t *testing.T) {
	for _, c := range []struct {
		name, does string
		budget     time.Duration
		want       string // in the flaw; empty: there is none
	}{
		{"ends as it should", `trap 'exit 0' TERM; echo ready; while :; do :; done`, time.Minute, ""},
		{"ends overdue", `trap 'exit 1' TERM; echo ready; while :; do :; done`, time.Minute, "n1 drained and ended with exit status 1"},
		{"does not end", `trap '' TERM; echo ready; exec sleep 60`, time.Millisecond - soakLate, "n1 was still there 1ms after"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &side{fleet: &fleet{out: &lines{w: io.Discard}}, budget: c.budget}
			defer s.kill()
			p := newProc("n1", nil, "sh", "-c", c.does)
			ready := make(chan struct{}, 1)
			p.hear = func([]byte) { ready <- struct{}{} }
			if err := s.begin(p); err != nil {
				t.Fatal(err)
			}
			<-ready
			s.servers = []*proc{p}
			if err := s.overrun(t.Context()); err != nil {
				t.Errorf("%v, before it was told to go", err)
			}
			s.endFirst(syscall.SIGTERM)
			if got := s.overrun(t.Context()); (got == nil) != (c.want == "") || got != nil && !strings.Contains(got.Error(), c.want) {
				t.Errorf("%v, want %q", got, c.want)
			}
		})
	}
}

func TestBench_AnEarlierRunIsLaidBeside(t *testing.T) {
	t.Parallel()
	args := []string{"fanout", "--rate", "200", "--no-floor", "--payload", "5000", "--duration", "1s"}
	p, _ := launchBench(t, nil, append(args, "--json")...)
	if code := p.exit(); code != 0 {
		t.Fatalf("exit %d, want 0", code)
	}
	first, text := p.benched()
	if w := first.Works[0]; w.Count.Accepted != 200 || w.Floor != nil || w.Ratio != nil || w.Fleet["late_p99_ms"] < 0 {
		t.Errorf("%+v, want 200 a second for 1 s, and no floor", w)
	}
	file := filepath.Join(t.TempDir(), "first.json")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, _ = launchBench(t, nil, append(args, "--against", file, "--stalled", "2")...)
	if code := p.exit(); code != 0 {
		t.Fatalf("exit %d, want 0", code)
	}
	p.await(`^fanout: 2 rooms of 4, 5000 bytes, 200 publishes a second, 2 readers stalled, 2 nodes$`)
	p.await(`^ +fleet +to earlier$`)
	p.await(`^accepted publishes a second +\d+ +\d+\.\d\d$`) // whatever this machine does meanwhile
	p.await(`^200 accepted in \d+\.\ds; 400 deliveries follow, the clients counted 400$`)
	p.await(`^2 clients were put out as too slow$`)
}

func TestBench_WhoeverIsToBeStalledIsStalled(t *testing.T) {
	t.Parallel()
	p, _ := launchBench(t, nil, "fanout", "--rate", "200", "--stalled", "2", "--json")
	if code := p.exit(); code != 1 {
		t.Fatalf("exit %d, want 1: 40 messages of 128 bytes fill no outbox", code)
	}
	if r, _ := p.benched(); r.Works[0].Evicted != 0 || r.Works[0].Floor != nil {
		t.Errorf("%+v, want nobody put out, and no floor", r.Works[0])
	}
	p.await(`fleet: 2 clients read nothing, and the nodes have put out 0: too little was sent`)
}

func TestBench_AFleetElsewhereAndAPlantedMiscount(t *testing.T) {
	t.Parallel()
	node := launch(t, []string{"GODWIT_LISTEN=127.0.0.1:0", "GODWIT_ADMIN_LISTEN=127.0.0.1:0"}, "serve")
	url, _ := node.node()
	t.Run("all is right", func(t *testing.T) {
		p, _ := launchBench(t, nil, "fanout", "--json", "--url", url, "--rate", "100")
		if code := p.exit(); code != 0 {
			t.Fatalf("exit %d, want 0", code)
		}
		r, _ := p.benched()
		if w := r.Works[0]; w.Count.Delivered != 60 || w.Shape.Nodes != 0 || w.Floor != nil {
			t.Errorf("%+v, want 20 messages to three each, and no floor", w)
		}
		if _, ok := r.Works[0].Fleet["server_us_per_delivery"]; ok {
			t.Error("what the processes of somebody else spent is told")
		}
	})
	t.Run("somebody else speaks", func(t *testing.T) {
		p, _ := launchBench(t, nil, "fanout", "--json", "--url", url, "--rate", "100", "--duration", "3s")
		room := p.await(`^bench: fanout, fleet, as (bench-\w+)$`)[0] + "/1"
		p.await(`^bench: fanout, fleet: measure$`)
		c, err := raw.Dial(url, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Drop()
		call := func(method string, params any) {
			t.Helper()
			if err := c.Call(t.Context(), method, params, nil); err != nil {
				t.Fatal(err)
			}
		}
		call("hello", wire.Hello{Token: "dev:eve"})
		call("room.join", wire.Join{Room: room})
		call("room.send", wire.Send{Room: room, Data: jsontext.Value(`"~0000000000000001"`)}) // as the load's
		call("room.send", wire.Send{Room: room, Data: jsontext.Value(`1`)})
		if code := p.exit(); code != 1 {
			t.Errorf("exit %d, want 1", code)
		}
		r, _ := p.benched()
		// Four members heard each of the two, and what they say themselves still counts.
		if w := r.Works[0]; w.Count.Delivered != w.Count.Expected+4 || w.Count.Accepted != 300 || len(w.Wrong) != 1 {
			t.Errorf("%+v, want four deliveries too many", w)
		}
		p.await(`fleet: 900 deliveries follow from 300 accepted sends, the clients counted 904$`)
		p.await(`^4 messages came that nobody here has sent`)
	})
}

func TestBench_ProfilesOfEachNodeOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p, _ := launchBench(t, nil, "fanout", "--no-floor", "--profile", dir)
	if code := p.exit(); code != 0 {
		t.Fatalf("exit %d, want 0", code)
	}
	for _, kind := range []string{"cpu", "allocs", "before.allocs"} {
		files, err := filepath.Glob(filepath.Join(dir, "godwit-*-1."+kind+".pprof"))
		if err != nil || len(files) < 2 {
			t.Fatalf("%s: %v, %v; want one of each node", kind, files, err)
		}
		for _, file := range files {
			f, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			z, err := gzip.NewReader(f)
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if b, err := io.ReadAll(z); err != nil || !bytes.Contains(b, []byte("nanoseconds")) && !bytes.Contains(b, []byte("bytes")) {
				t.Errorf("%s: %d bytes, %v; want a whole profile", file, len(b), err)
			}
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.part")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestBench_CtrlCEndsAll(t *testing.T) {
	t.Parallel()
	p, logs := launchBench(t, nil, "fanout", "--duration", "1h")
	p.await(`^bench: fanout, fleet: measure$`)
	p.signal(syscall.SIGINT)
	if code := p.exit(); code != 1 {
		t.Errorf("exit %d, want 1", code)
	}
	p.await(`^godwit: bench: interrupted$`)
	said, err := os.ReadFile(logs)
	if err != nil {
		t.Fatal(err)
	}
	for _, mark := range []string{"n1", "n2", "redis", "load"} {
		if !strings.Contains(string(said), mark+strings.Repeat(" ", 5-len(mark))+"| ended: ") {
			t.Errorf("%s did not end:\n%s", mark, said)
		}
	}
}

func TestBench_WhatWasMeasuredBeforeAFailureIsTold(t *testing.T) {
	t.Parallel()
	p, _ := launchBench(t, nil, "fanout", "login", "--no-floor")
	p.await(`^bench: login, fleet: rest$`)
	p.signal(syscall.SIGINT)
	if code := p.exit(); code != 1 {
		t.Errorf("exit %d, want 1", code)
	}
	p.await(`^accepted publishes a second +\d`)
	p.await(`^godwit: bench: interrupted$`)
}

func TestBench_SaysWhyItCannotRun(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	saysWhy(t, "bench", []mistake{
		{"all wrong at once", nil, []string{
			"fanout", "--nodes", "0", "--rooms", "0", "--members", "1", "--rate", "0", "--inflight", "0", "--payload", "10", "--parallel", "0",
			"--duration", "1ms", "--warm", "-1s", "--stalled", "-1", "--against", none, "--profile", none,
		}, 2, []string{
			"--nodes: expected 1 to 16", "--rooms: expected at least 1", "--members: expected at least 2", "--rate: expected more than 0",
			"--inflight: expected 1 to", "--payload: expected 32 to", "--parallel: expected 1 to", "--duration: expected 100ms to", "--warm: expected 0s to",
			"--stalled: expected as many in every room", "--against: open", "--profile: expected a directory",
		}},
		{"too many clients", nil, []string{"idle", "--rooms", "5000"}, 2, []string{"--rooms: expected with --members, at most 20000 clients together, idle has 50000"}},
		{"nobody is left to talk", nil, []string{"fanout", "--rooms", "2", "--members", "3", "--stalled", "4"}, 2, []string{"--stalled: expected"}},
		{"no number", nil, []string{"--rate", "NaN"}, 2, []string{"--rate: expected"}},
		{"no result", nil, []string{"--against", garbage}, 2, []string{"is no result of godwit bench --json"}},
		{"what the work has not", nil, []string{"login", "calls", "--rate", "5", "--stalled", "2", "--payload", "64", "--inflight", "1"}, 2, []string{
			"--rate: expected nothing without fanout or presence", "--stalled: expected nothing without fanout", "--payload: expected nothing without fanout", "--inflight: expected nothing without fanout",
		}},
		{"no such work", nil, []string{"sleep"}, 2, []string{`no such work: "sleep"; there are fanout`}},
		{"no such flag", nil, []string{"--fast"}, 2, []string{"--fast"}},
		{"no address", nil, []string{"--url", "http://x", "--nodes", "3"}, 2, []string{"--url: expected ws://host:port/v1/ws or wss://", "--nodes: expected nothing beside --url"}},
		{"a secret in an address", nil, []string{"--url", "wss://ann:pass@chat.test/v1/ws"}, 2, []string{"--url: expected ws://"}},
		{"nowhere to resume", nil, []string{"resume", "--nodes", "1"}, 2, []string{"--nodes: expected at least 2"}},
		{"a node of others is not killed", nil, []string{"resume", "--url", "ws://127.0.0.1:1/v1/ws"}, 2, []string{"--url: expected another work than resume"}},
		{"no place for logs", nil, []string{"--logs", filepath.Join(none, "x")}, 2, []string{"--logs: "}},
		{"no redis-server", []string{"PATH=" + t.TempDir()}, nil, 2, []string{"redis-server is not installed; type: sudo apt-get install redis-server"}},
		{"wrong settings", []string{"GODWIT_GRACE=soon"}, nil, 1, []string{"bench: fanout on the fleet: n1 ended before it was ready", "GODWIT_GRACE: expected a duration"}},
		{"nobody there who speaks TLS", nil, []string{"--url", "wss://127.0.0.1:1/v1/ws"}, 1, []string{"bench: fanout on the fleet: client ", "refused"}},
		{"nobody there", nil, []string{"--url", "ws://127.0.0.1:1/v1/ws"}, 1, []string{"bench: fanout on the fleet: client ", "refused"}},
	})
}

func TestBench_OneWrongFlagIsOneComplaint(t *testing.T) {
	p := launch(t, nil, "bench", "fanout", "--members", "1")
	if code := p.exit(); code != 2 {
		t.Errorf("exit %d, want 2", code)
	}
	if got, want := strings.TrimSpace(p.String()), "godwit: --members: expected at least 2: who sends is not told"; got != want {
		t.Errorf("it says\n%s\nwant\n%s", got, want)
	}
}

func TestCost_IsReadFromProc(t *testing.T) {
	// A name that looks like the end of itself; 250 ticks of the user's, 50 of the system's.
	stat := "42 (god) wit) S 1 42 42 0 -1 4194560 1 0 0 0 250 50 7 7 20 0 1 0 99 1000 22 18446744073709551615"
	if got, err := cpu([]byte(stat)); err != nil || got != 3*time.Second {
		t.Errorf("%s, %v; want 3s", got, err)
	}
	if got, err := resident([]byte("1000 22 3 4 0 5 0\n")); err != nil || got != 22*int64(os.Getpagesize()) {
		t.Errorf("%d bytes, %v; want 22 pages", got, err)
	}
	for _, bad := range []string{"", "42 (x", "42 (x) S 1 2", "42 (x) S 1 42 42 0 -1 4194560 1 0 0 0 a b 7 7"} {
		if got, err := cpu([]byte(bad)); err == nil {
			t.Errorf("%q was read as %s", bad, got)
		}
	}
	if got, err := resident([]byte("1")); err == nil {
		t.Errorf("one field was read as %d", got)
	}
	busy, rss, err := spent(os.Getpid())
	if err != nil || busy <= 0 || rss < 1<<20 {
		t.Errorf("this process: %s, %d bytes, %v", busy, rss, err)
	}
	info := "# Stats\r\ntotal_reads_processed:12\r\ncmdstat_evalsha:calls=345,usec=6\r\ncmdstat_evalsha_ro:calls=9\r\n"
	if a, b, c := infoCount(info, "total_reads_processed:"), infoCount(info, "cmdstat_evalsha:calls="), infoCount(info, "cmdstat_eval:calls="); a != 12 || b != 345 || c != 0 {
		t.Errorf("%d reads, %d and %d calls; want 12, 345, 0", a, b, c)
	}
}

func TestFigures_AreOfWhatWasSpentBetweenTheMarks(t *testing.T) {
	at := time.Unix(0, 0)
	fleet := func() *measured {
		return &measured{known: true, redis: true, marks: map[string]cost{
			"empty": {rss: 1 << 20, kept: 1 << 20},
			"rest":  {at: at, reads: 10, scripts: 1},
			"alone": {at: at.Add(2 * time.Second), reads: 30, scripts: 5},                                                                             // 10 reads, 2 scripts a second by themselves
			"begin": {at: at.Add(3 * time.Second), server: time.Second, redis: time.Second, load: time.Second, reads: 80, scripts: 37, kept: 2 << 20}, // 50 and 32 in one
			"term":  {at: at.Add(5 * time.Second), server: time.Second, redis: time.Second, load: time.Second},
			"kill":  {at: at.Add(5 * time.Second), server: 2 * time.Second, redis: 1500 * time.Millisecond, load: 1500 * time.Millisecond},
			"end":   {at: at.Add(7 * time.Second), server: 3 * time.Second, redis: 2 * time.Second, load: 2 * time.Second, rss: 3 << 20, scripts: 117, kept: 2<<20 + 300_000},
		}}
	}
	for _, c := range []struct {
		work   string
		result load.Result
		want   figures
	}{
		{
			"fanout",
			load.Result{Seconds: 4, Accepted: 1000, Delivered: 200_000, Latency: load.Quantiles{Count: 1, P50: 1, P99: 2, P999: 3, Max: 4}, Late: load.Quantiles{Count: 1, P99: 5}},
			figures{
				"publishes_per_s": 250, "deliveries_per_s": 50_000, "server_us_per_delivery": 10, "redis_us_per_publish": 1000, "redis_bytes_per_publish": 300,
				"latency_p50_ms": 1, "latency_p99_ms": 2, "latency_p999_ms": 3, "latency_max_ms": 4, "late_p99_ms": 5,
				"server_cores": 0.5, "redis_cores": 0.25, "load_cores": 0.25,
			},
		},
		{
			"login",
			load.Result{Seconds: 2, Accepted: 500, Alone: 10, Latency: load.Quantiles{Count: 1, P50: 1, P99: 2, P999: 3, Max: 4}},
			figures{
				"logins_per_s": 250, "server_us_per_login": 4000, "redis_us_per_login": 2000, "redis_reads_per_login": 4, "redis_scripts_per_login": 3,
				"latency_p50_ms": 1, "latency_p99_ms": 2, "latency_p999_ms": 3, "latency_max_ms": 4,
				"server_cores": 0.5, "redis_cores": 0.25, "load_cores": 0.25,
			},
		},
		{
			"calls",
			load.Result{Seconds: 4, Accepted: 40},
			figures{
				"beats_per_s": 10, "server_us_per_beat": 50_000, "redis_us_per_beat": 25_000, "redis_scripts_per_beat": 2, "redis_scripts_per_s": 20,
				"server_cores": 0.5, "redis_cores": 0.25, "load_cores": 0.25,
			},
		},
		{
			"idle",
			load.Result{Seconds: 4, Clients: 64},
			figures{"server_rss_bytes_per_session": 32768, "redis_bytes_per_session": float64(1<<20+300_000) / 64, "server_idle_percent": 50, "server_cores": 0.5, "redis_cores": 0.25, "load_cores": 0.25},
		},
	} {
		m := fleet()
		m.result = &c.result
		got := m.figure(c.work)
		for name := range got.with(c.want) {
			if got[name] != c.want[name] {
				t.Errorf("%s: %s is %v, want %v", c.work, name, got[name], c.want[name])
			}
			if !slices.ContainsFunc(metrics, func(m metric) bool { return m.name == name }) {
				t.Errorf("%s: %s is shown nowhere", c.work, name)
			}
		}
	}
	m := &measured{result: &load.Result{Seconds: 4, Accepted: 1000, Delivered: 2000}}
	if got := m.figure("fanout"); len(got) != 2 || got["deliveries_per_s"] != 500 {
		t.Errorf("%v of processes that are not ours, want what the clients counted alone", got)
	}
}

// with is the names of both.
func (f figures) with(other figures) map[string]bool {
	all := map[string]bool{}
	for _, f := range []figures{f, other} {
		for name := range f {
			all[name] = true
		}
	}
	return all
}

func TestVerdict_OneWrongCountIsEnough(t *testing.T) {
	r := &benchResult{Works: []workResult{{Work: "fanout"}, {Work: "idle", Wrong: []string{"floor: 3 came twice"}}}}
	if err := r.verdict(); err == nil || !strings.Contains(err.Error(), "idle: floor: 3 came twice") {
		t.Errorf("%v, want it named", err)
	}
	r.Works[1].Wrong = nil
	if err := r.verdict(); err != nil {
		t.Error(err)
	}
}

func TestAgainst_ComparesOnlyWhatIsAlike(t *testing.T) {
	one := workResult{Work: "fanout", Shape: shape{Rooms: 1}, Fleet: figures{"latency_p99_ms": 10, "load_cores": 1}}
	stalled, wider, other := one, one, one
	stalled.Shape.Stalled, wider.Shape.Rooms, other.Work = 1, 2, "idle"
	old := one
	old.Fleet = figures{"latency_p99_ms": 8, "redis_cores": 1}
	r := &benchResult{Works: []workResult{one, stalled, wider, other}}
	alone := r.against(&benchResult{Works: []workResult{old}})
	for i, want := range []bool{true, true, false, false} {
		got := r.Works[i].Then
		if (got != nil) != want || want && (len(got) != 1 || got["latency_p99_ms"] != 1.25) {
			t.Errorf("work %d: %v, want a ratio: %v", i, got, want)
		}
	}
	if len(alone) != 2 {
		t.Errorf("%v have no like, want two", alone)
	}
}

func TestProgress_IsALineForEachPart(t *testing.T) {
	var out strings.Builder
	p := &progress{out: &out}
	p.begin("fanout, fleet", "bench-x")
	for i := range 3 {
		p.part("log in", i+1, 3)
	}
	p.part("measure", 1, 2)
	p.end()
	want := "bench: fanout, fleet, as bench-x\nbench: fanout, fleet: log in\nbench: fanout, fleet: measure\n"
	if out.String() != want {
		t.Errorf("said %q, want %q", out.String(), want)
	}
	for _, c := range []struct {
		done, of int
		want     string
	}{{0, 4, "[" + strings.Repeat(".", 30) + "]"}, {2, 4, "[" + strings.Repeat("#", 15) + strings.Repeat(".", 15) + "]"}, {9, 4, "[" + strings.Repeat("#", 30) + "]"}} {
		if got := bar(c.done, c.of); got != c.want {
			t.Errorf("%d of %d: %s", c.done, c.of, got)
		}
	}
}
