package store

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"godwit/internal/redisset"
	"godwit/internal/redistest"
	"godwit/rules/presence"
)

// aclRules are those that docs/redis.md gives for two users, as ACL SETUSER has
// them: one for the servers with data, one for Sentinels.
func aclRules(t *testing.T) (data, sentinels []any) {
	t.Helper()
	b, err := os.ReadFile("../docs/redis.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile(`(?m)^on >PASSWORD .*$`).FindAllString(string(b), -1)
	if len(lines) != 2 {
		t.Fatalf("the page has %d lines of rules, want 2", len(lines))
	}
	rules := func(user, line string) []any {
		args := []any{"ACL", "SETUSER", user, "reset"}
		for rule := range strings.FieldsSeq(line) {
			args = append(args, rule)
		}
		return args
	}
	return rules("godwit", lines[0]), rules("watcher", lines[1])
}

// setUser makes a user at some servers.
func setUser(t *testing.T, rules []any, at ...*redisset.Server) {
	t.Helper()
	for _, s := range at {
		if err := s.Client.Do(t.Context(), rules...).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// allowed does something, and holds servers to have denied nothing meanwhile.
func allowed(t *testing.T, at []*redisset.Server, do func()) {
	t.Helper()
	for _, s := range at {
		if err := s.Client.ACLLogReset(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	do()
	for _, s := range at {
		log, err := s.Client.ACLLog(t.Context(), 100).Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range log {
			t.Errorf("%s denied %s %s to %s", s.Addr, e.Reason, e.Object, e.Username)
		}
	}
}

func TestACL_TheRulesOfThePageAreEnough(t *testing.T) {
	one, many, watched := redistest.Start(t), redistest.Cluster(t), redistest.Sentinel(t)
	const asWatcher = "?sentinel_username=watcher&sentinel_password=PASSWORD"
	data, sentinels := aclRules(t)
	setUser(t, data, one.Server)
	setUser(t, data, many.Servers()...)
	setUser(t, data, watched.Data...)
	setUser(t, sentinels, watched.Sentinels...)
	for name, c := range map[string]struct {
		url     string
		wait    int
		servers []*redisset.Server
	}{
		"redis":    {one.URL(), 0, []*redisset.Server{one.Server}},
		"cluster":  {many.URL(), 1, many.Servers()},
		"sentinel": {watched.URL() + asWatcher, 1, watched.Servers()},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Config{URL: strings.Replace(c.url, "://", "://godwit:PASSWORD@", 1), Wait: c.wait, Timeout: 10 * time.Second})
			allowed(t, c.servers, func() { everything(t, s) })
			if s.direct != nil {
				conn := s.direct.Conn()
				defer conn.Close()
				if err := isPrimary(t.Context(), conn); err != nil {
					t.Errorf("role: %v", err)
				}
				if err := s.direct.Set(t.Context(), "other", "1", 0).Err(); err == nil {
					t.Error("it may write beside its own keys")
				}
			}
		})
	}
	t.Run("a failover is heard of", func(t *testing.T) {
		s := open(t, Config{URL: strings.Replace(watched.URL(), "://", "://godwit:PASSWORD@", 1) + asWatcher, Timeout: 10 * time.Second})
		allowed(t, watched.Servers(), func() { goesOn(t, s, func() error { return watched.FailOver(t.Context()) }) })
	})
}

// everything does once what a node does: it keeps its lease, a session logs in,
// joins, sends, is heard, and ends.
func everything(t *testing.T, s *Store) {
	t.Helper()
	sub, e := listen(t, s)
	follow(t, sub, "r")
	var errs []error
	note := func(err error) { errs = append(errs, err) }
	_, err := s.Marker(t.Context())
	note(err)
	note(s.Ping(t.Context()))
	note(s.Migrated(t.Context(), 1, 1))
	note(s.Renew(t.Context(), Node{Ref: here, State: NodeReady}))
	_, err = s.Nodes(t.Context())
	note(err)
	b, _, err := s.Begin(t.Context(), Session{ID: "s", User: "ann", Gen: 1, Owner: here, Expires: time.Now().Add(time.Hour)})
	note(err)
	m := b.Member()
	note(s.Create(t.Context(), b.Session, nil))
	_, err = s.Admit(t.Context(), "r", m, Known{}, 10)
	note(err)
	sent(t, s, "r", m, Draft{CSeq: 1, Data: []byte("1")})
	_, err = s.Read(t.Context(), "r", 1, 10, 10)
	note(err)
	_, _, err = s.SetPresence(t.Context(), m, presence.Set{})
	note(err)
	note(s.PutContacts(t.Context(), "ann", []string{"bob"}))
	_, _, _, err = s.Rooms(t.Context(), "", "", 10)
	note(err)
	_, _, err = s.ScanRooms(t.Context(), 0, 10)
	note(err)
	_, err = s.DueSessions(t.Context(), 10)
	note(err)
	note(s.Expel(t.Context(), here))
	note(s.End(t.Context(), "s", Always, "left"))
	for i, err := range errs {
		if err != nil {
			t.Errorf("operation %d: %v", i, err)
		}
	}
	e.until(t, "the messages", func() bool { return len(e.heard["r"]) > 2 })
}

// goesOn has a room written to and heard before and after a replica takes over.
func goesOn(t *testing.T, s *Store, failOver func() error) {
	t.Helper()
	sub, e := listen(t, s)
	follow(t, sub, "r2")
	ann := member(1, "ann")
	join(t, s, "r2", ann)
	sent(t, s, "r2", ann, Draft{CSeq: 1, Data: []byte("1")})
	e.until(t, "the first message", func() bool { return len(e.heard["r2"]) > 1 })
	if err := failOver(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var last Sent
	for {
		var err error
		if last, err = send(s, "r2", ann, Known{}, Draft{CSeq: 2, Data: []byte("2")}); err == nil {
			break
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("a send after the failover: %v", err)
		}
	}
	e.until(t, "a reset, because of a new primary", func() bool { return e.resets > 0 })
	if err := s.Announce(t.Context(), "r2", last.Epoch, last.Seq+1000); err != nil {
		t.Fatal(err)
	}
	e.until(t, "the room again", func() bool {
		h := e.heard["r2"]
		return h[len(h)-1] == last.Seq+1000
	})
}
