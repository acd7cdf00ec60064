package store

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"godwit/internal/redisset"
	"godwit/internal/redistest"
	"godwit/rules/presence"
)

// An error that Redis answers to what opens a connection, such as a wrong password,
// or one connection too many while there is a password, is not one of a command's
// own. Else nothing would seem to be the answer: of a room that is there, that it is
// gone.
func TestConnect_WhereRedisLetsNobodyInNothingIsAnAnswer(t *testing.T) {
	for name, url := range map[string]string{
		"redis":   redistest.Start(t).URL(),
		"cluster": redistest.Cluster(t).URL(),
		// The data's and not the Sentinels' password.
		"sentinel":  redistest.Sentinel(t).URL(),
		"sentinels": redistest.Sentinel(t).URL() + "?sentinel_username=nobody&sentinel_password=SECRET",
	} {
		t.Run(name, func(t *testing.T) {
			if name != "sentinels" {
				url = strings.Replace(url, "://", "://nobody:SECRET@", 1)
			}
			s := open(t, Config{URL: url, Timeout: 10 * time.Second})
			ann := member(1, "ann")
			for what, ask := range map[string]func() error{
				"ping":   func() error { return s.Ping(t.Context()) },
				"marker": func() error { _, err := s.Marker(t.Context()); return err },
				"lease":  func() error { return s.Renew(t.Context(), Node{Ref: here, State: NodeReady}) },
				"nodes":  func() error { _, err := s.Nodes(t.Context()); return err },
				"join":   func() error { _, err := s.Join(t.Context(), "r", ann, Known{}); return err },
				"send":   func() error { _, err := send(s, "r", ann, Known{}, Draft{CSeq: 1}); return err },
				"read":   func() error { _, err := s.Read(t.Context(), "r", 1, 10, 10); return err },
				"heads":  func() error { _, errs := s.Heads(t.Context(), []string{"r"}, []Known{{}}); return errs[0] },
				"status": func() error { _, _, err := s.SetPresence(t.Context(), ann, presence.Set{}); return err },
			} {
				if err := ask(); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "WRONGPASS") || strings.Contains(err.Error(), "SECRET") {
					t.Errorf("%s: %v, want unavailable because of WRONGPASS, and no secret", what, err)
				}
			}
		})
	}
}

// What hears opens connections of its own: as the user of the URL, too, and nowhere
// but where a command may go. They were let in as nobody once, and where that is not
// enough, no client could log in.
func TestConnect_WhoHearsIsLetInAsWhoAsks(t *testing.T) {
	one, many, watched := redistest.Start(t), redistest.Cluster(t), redistest.Sentinel(t)
	rules, _ := aclRules(t)
	for name, c := range map[string]struct {
		url     string
		servers []*redisset.Server
	}{
		"redis":    {one.URL(), []*redisset.Server{one.Server}},
		"cluster":  {many.URL(), many.Servers()},
		"sentinel": {watched.URL(), watched.Data},
	} {
		t.Run(name, func(t *testing.T) {
			setUser(t, rules, c.servers...)
			s := open(t, Config{URL: strings.Replace(c.url, "://", "://godwit:PASSWORD@", 1), Timeout: 10 * time.Second})
			sub, _ := listen(t, s)
			follow(t, sub, "r")
			hear := 0
			for _, server := range c.servers {
				list, err := server.Client.ClientList(t.Context()).Result()
				if err != nil {
					t.Fatal(err)
				}
				for client := range strings.Lines(list) {
					if strings.Contains(client, " sub=0 ") || strings.Contains(client, " name=sentinel-") {
						continue
					}
					hear++
					if !strings.Contains(client, " user=godwit ") {
						t.Errorf("%s is heard by %s", server.Addr, client)
					}
				}
			}
			if hear == 0 {
				t.Error("nobody hears")
			}
		})
	}
}

// A password alone, as most have it.
func TestConnect_APasswordIsAllItTakes(t *testing.T) {
	one := redistest.Start(t)
	if err := one.Client().ConfigSet(t.Context(), "requirepass", "SECRET").Err(); err != nil {
		t.Fatal(err)
	}
	s := open(t, Config{URL: strings.Replace(one.URL(), "://", "://:SECRET@", 1) + "/3", Timeout: 10 * time.Second})
	everything(t, s)
	keyspace, err := s.direct.InfoMap(t.Context(), "keyspace").Result()
	if _, third := keyspace["Keyspace"]["db3"]; err != nil || !third || len(keyspace["Keyspace"]) != 1 {
		t.Errorf("what is stored: %v, %v, want something in the database that the URL names alone", keyspace, err)
	}
}

// A replica that a Sentinel names is no place to hear at: it passes on what is
// published, but not what comes once it has lost its primary.
func TestConnect_NobodyHearsAtAReplica(t *testing.T) {
	watched := redistest.Sentinel(t)
	primary, err := watched.Primary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(watched.Data, func(s *redisset.Server) bool { // one that was the primary may not know yet that it is not
		role, err := s.Client.Do(t.Context(), "ROLE").Slice()
		return err == nil && role[0] == "slave"
	})
	if at < 0 {
		t.Fatal("there is no replica")
	}
	var replica atomic.Bool
	s := open(t, Config{URL: watched.URL(), Timeout: 10 * time.Second, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr == primary.Addr && replica.Load() {
			addr = watched.Data[at].Addr
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}})
	if err := s.Ping(t.Context()); err != nil { // at the primary: who asks is there already
		t.Fatal(err)
	}
	replica.Store(true)
	ear, err := s.ear(t.Context(), &lines{})
	if err != nil {
		t.Fatal(err)
	}
	defer ear.Close()
	if err := ear.Subscribe(t.Context(), "gw:test"); err == nil || !strings.Contains(err.Error(), "the server is a replica") {
		t.Errorf("to hear at a replica: %v", err)
	}
	replica.Store(false)
	if err := ear.Subscribe(t.Context(), "gw:test"); err != nil {
		t.Errorf("at the primary: %v", err)
	}
}
