package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/go-json-experiment/json"

	"godwit/internal/redistest"
)

// soaked is godwit soak as a process of its own, and what its processes said.
type soaked struct {
	*program
	dir, logs string
}

func launchSoak(t *testing.T, env []string, args ...string) *soaked {
	t.Helper()
	s := &soaked{dir: t.TempDir(), logs: filepath.Join(t.TempDir(), "logs")}
	s.program = launch(t, append([]string{"TMPDIR=" + s.dir}, env...), append([]string{
		"soak", "--nodes", "2", "--clients", "12", "--rooms", "2", "--rate", "40", "--budget", "3s", "--logs", s.logs,
	}, args...)...)
	return s
}

// result is the JSON object among what was said.
func (s *soaked) result() soakResult {
	s.t.Helper()
	_, text, _ := strings.Cut("\n"+s.String(), "\n{\n")
	text, _, found := strings.Cut(text, "\n}\n")
	var r soakResult
	if err := json.Unmarshal([]byte("{"+text+"}"), &r); err != nil || !found {
		s.t.Fatalf("no JSON object (%v) in:\n%s", err, s)
	}
	return r
}

// gone holds a soak that has ended to having left nothing.
func (s *soaked) gone(redis bool) {
	s.t.Helper()
	if left, err := os.ReadDir(s.dir); err != nil || len(left) != 0 {
		s.t.Errorf("left behind: %v, %v; want no file", left, err)
	}
	logs, err := os.ReadFile(s.logs)
	if err != nil {
		s.t.Fatal(err)
	}
	started := strings.Count(string(logs), "msg=listening") + strings.Count(string(logs), `"msg":"listening"`)
	ended := regexp.MustCompile(`(?m)^n\d +\| ended: `).FindAll(logs, -1)
	if started < 2 || len(ended) < started {
		s.t.Errorf("%d nodes started and %d ended, want all of them to end:\n%s", started, len(ended), logs)
	}
	if redis != strings.Contains(string(logs), "redis| ended: exit status 0") {
		s.t.Errorf("a redis-server of its own that ended: want %v:\n%s", redis, logs)
	}
}

func TestSoak_ARolloutLosesNothing(t *testing.T) {
	t.Parallel()
	// A drain ends when all have moved; the budget is for a machine that is slow.
	s := launchSoak(t, nil, "--json", "--seed", "7", "--budget", "60s")
	if code := s.exit(); code != 0 {
		t.Errorf("exit %d, want 0", code)
	}
	s.gone(true)
	r := s.result()
	if !r.Clean || !r.Complete || r.Rolled != 2 || r.Seed != 7 || r.Signal != "SIGTERM" {
		t.Errorf("%+v, want a clean and complete run", r)
	}
	if r.Sent == 0 || r.Sent != r.Answered || r.Delivered < r.Sent || r.Latency.Count == 0 || r.Latency.P50 <= 0 {
		t.Errorf("%+v, want many messages, all answered and delivered", r)
	}
	// Who leaves the second node is everybody, but for whom the first one has back.
	if r.Handed < 6 || r.Pause.Count == 0 {
		t.Errorf("%d handed over, %d resumed, pauses %+v; want most of those who leave handed over", r.Handed, r.Resumed, r.Pause)
	}
	for _, want := range []string{`^soak: soak-\w+, seed 7: 2 nodes, 12 clients in 2 rooms`, `^soak: rollout 1/1, n1: \d+ sockets`, `^soak: rollout 1/1, n2: \d+ sockets`} {
		s.await(want)
	}
}

func TestSoak_WhoFollowsNoRedirectResumes(t *testing.T) {
	t.Parallel()
	s := launchSoak(t, []string{"GODWIT_REBALANCE=false"}, "--json", "--no-redirect", "--packed")
	if code := s.exit(); code != 0 {
		t.Errorf("exit %d, want 0", code)
	}
	r := s.result()
	sum := 0
	for _, n := range r.Back {
		sum += n
	}
	if r.Handed != 0 || r.Resumed < 12 || r.Resume.Count != uint64(r.Resumed) || r.Resume.P50 <= 0 || sum < 12 || sum > int(r.Resumed) || r.Back[soakTenths] != 0 {
		t.Errorf("%+v, want all to resume, each within the budget", r)
	}
	s.await(`^soak: rollout 1/1, n1: 12 sockets`)
}

func TestSoak_NodesKilledLoseNothingAndAGivenRedisIsNotFlushed(t *testing.T) {
	server := redistest.Start(t)
	redis := server.Client()
	t.Parallel()
	if err := redis.Set(t.Context(), "mine", "1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	s := launchSoak(t, []string{"GODWIT_REDIS_URL=redis://127.0.0.1:1", "GODWIT_AUTH_SECRET=not this one", "GODWIT_LOG_LEVEL=debug"},
		"--kill", "--redis", server.URL())
	if code := s.exit(); code != 0 {
		t.Errorf("exit %d, want 0", code)
	}
	s.gone(false)
	if got, err := redis.Get(t.Context(), "mine").Result(); err != nil || got != "1" {
		t.Errorf("a key of somebody else: %q, %v; want it untouched", got, err)
	}
	s.await(`^nodes +2, each to be ended by SIGKILL 1 times; 2 done$`)
	s.await(`^messages lost +0$`)
	s.await(`^delivery to a client that moves just then +\d`)
	s.await(`^resume, from the loss of the socket +\d`)
}

func TestSoak_FindsWhatIsDoneToItsRoomsAndSessions(t *testing.T) {
	server := redistest.Start(t)
	redis := server.Client()
	t.Parallel()
	s := launchSoak(t, nil, "--json", "--redis", server.URL())
	name := s.await(`^soak: (soak-\w+), seed`)[0]
	s.await(`^soak: all clients are in`)
	room := "gw:{r:" + name + "/1}:"
	eventually(t, func() error { // as soon as the newest entry is a message
		return redis.Eval(t.Context(), `
			local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1][2]
			local said = false
			for i = 1, #last, 2 do said = said or last[i] == 'd' and last[i + 1] ~= '' end
			if not said then return redis.error_reply('no message yet') end
			local seq = redis.call('HINCRBY', KEYS[1], 'seq', 1)
			return redis.call('XADD', KEYS[2], seq .. '-0', unpack(last))`,
			[]string{room + "meta", room + "log"}).Err()
	})
	sessions, err := redis.Keys(t.Context(), "gw:{s:*").Result()
	if err != nil || len(sessions) == 0 {
		t.Fatalf("sessions: %v, %v; want some", sessions, err)
	}
	if err := redis.Del(t.Context(), sessions...).Err(); err != nil {
		t.Fatal(err)
	}
	if code := s.exit(); code != 1 {
		t.Errorf("exit %d, want 1", code)
	}
	s.gone(false)
	r := s.result()
	if r.Clean || r.Doubled == 0 || r.SessionsLost == 0 || r.Extra == 0 {
		t.Errorf("clean %v, %d doubled, %d sessions lost, %d extra events; want each found", r.Clean, r.Doubled, r.SessionsLost, r.Extra)
	}
	s.await(`^godwit: soak: .*sessions lost: \d+; .*messages doubled: \d+`)
}

func TestSoak_CtrlCEndsAllAndPrintsWhatItHas(t *testing.T) {
	t.Parallel()
	s := launchSoak(t, nil, "--rollouts", "1000")
	s.await(`^soak: rollout 1/1000, n1: `)
	s.signal(syscall.SIGINT)
	if code := s.exit(); code != 1 {
		t.Errorf("exit %d, want 1: not all was done", code)
	}
	s.gone(true)
	s.await(`^messages lost +0$`)
	s.await(`^godwit: soak: not all was done: interrupted$`)
}

func TestSoak_ItsTimeIsBounded(t *testing.T) {
	t.Parallel()
	s := launchSoak(t, nil, "--rollouts", "1000", "--timeout", "3s", "--json")
	if code := s.exit(); code != 1 {
		t.Errorf("exit %d, want 1: not all was done", code)
	}
	s.gone(true)
	if r := s.result(); r.Complete || r.Error != errSoakTime.Error() || r.Lost != 0 {
		t.Errorf("%+v, want it cut short, and nothing lost", r)
	}
}

func TestSoak_SaysWhyItCannotRun(t *testing.T) {
	saysWhy(t, "soak", []mistake{
		{"all wrong at once", nil, []string{
			"--nodes", "1", "--clients", "1", "--rooms", "0", "--rate", "0", "--rollouts", "0",
			"--budget", "0s", "--timeout", "-1s", "--redis", "localhost",
		}, 2, []string{
			"--nodes: expected 2 to 16", "--clients: expected 2 to", "--rooms: expected 1 to", "--rate: expected more than 0",
			"--rollouts: expected at least 1", "--budget: expected at least", "--timeout: expected more than 0", "--redis: expected redis://",
		}},
		{"too many", nil, []string{"--nodes", "17", "--clients", "1000000"}, 2, []string{"--nodes: expected", "--clients: expected"}},
		{"more rooms than clients", nil, []string{"--clients", "5", "--rooms", "6"}, 2, []string{"--rooms: expected"}},
		{"faster than a node allows", nil, []string{"--clients", "5", "--rate", "251"}, 2, []string{"--rate: expected"}},
		{"no number", nil, []string{"--rate", "NaN"}, 2, []string{"--rate: expected"}},
		{"not a number", nil, []string{"--seed", "x"}, 2, []string{"seed"}},
		{"no such flag", nil, []string{"--fast"}, 2, []string{"--fast"}},
		{"an argument", nil, []string{"now"}, 2, []string{"now"}},
		{"no place for logs", nil, []string{"--logs", filepath.Join(t.TempDir(), "none", "x")}, 2, []string{"--logs: "}},
		{"no redis-server", []string{"PATH=" + t.TempDir()}, nil, 2, []string{"redis-server is not installed; type: sudo apt-get install redis-server"}},
		{"wrong settings", []string{"GODWIT_GRACE=soon"}, nil, 1, []string{"GODWIT_GRACE: expected a duration", "n1 ended before it was ready: exit status 2"}},
	})
}
