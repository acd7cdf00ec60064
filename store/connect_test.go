package store

import (
	"errors"
	"strings"
	"testing"
	"time"

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
