package store

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"godwit/internal/redistest"
	"godwit/rules/presence"
)

// aclRules are those that docs/redis.md gives for a user, as ACL SETUSER has them.
func aclRules(t *testing.T) []any {
	t.Helper()
	b, err := os.ReadFile("../docs/redis.md")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^on >PASSWORD .*$`).FindString(string(b))
	if line == "" {
		t.Fatal("the page has no rules")
	}
	args := []any{"ACL", "SETUSER", "godwit", "reset"}
	for rule := range strings.FieldsSeq(line) {
		args = append(args, rule)
	}
	return args
}

func TestACL_TheRulesOfThePageAreEnough(t *testing.T) {
	one, many := redistest.Start(t), redistest.Cluster(t)
	if err := one.Client().Do(t.Context(), aclRules(t)...).Err(); err != nil {
		t.Fatal(err)
	}
	for _, s := range many.Servers() {
		if err := s.Client.Do(t.Context(), aclRules(t)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for name, url := range map[string]string{"redis": one.URL(), "cluster": many.URL()} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Config{URL: strings.Replace(url, "://", "://godwit:PASSWORD@", 1), Wait: map[string]int{"cluster": 1}[name], Timeout: 10 * time.Second})
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
			if c, ok := s.rdb.(*redis.Client); ok {
				conn := c.Conn()
				defer conn.Close()
				if err := isPrimary(t.Context(), conn); err != nil {
					t.Errorf("role: %v", err)
				}
				if err := c.Set(t.Context(), "other", "1", 0).Err(); err == nil {
					t.Error("it may write beside its own keys")
				}
			}
		})
	}
}
