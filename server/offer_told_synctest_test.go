package server_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json"

	"godwit/internal/trial"
	"godwit/server/session"
	"godwit/wire"
)

func TestOffer_OfWhoAsksFollowsTheAnswer(t *testing.T) {
	trio(t, nil, func(t *testing.T, f *trial.Fleet) {
		ann := follower(t, f, 1, "ann")
		for _, c := range []struct{ asks, answer string }{
			{`{"jsonrpc":"2.0","id":7,"method":"redirect.request","params":{}}`, `{"jsonrpc":"2.0","id":7,"result":{}}`},
			{`[{"jsonrpc":"2.0","id":8,"method":"redirect.request","params":{}}]`, `[{"jsonrpc":"2.0","id":8,"result":{}}]`},
			{`{"jsonrpc":"2.0","method":"redirect.request","params":{}}`, ""},
		} {
			for ann.Rest() != "" {
				if _, err := ann.NextText(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if err := ann.Text(c.asks); err != nil {
				t.Fatal(err)
			}
			if c.answer != "" {
				if got, err := ann.NextText(t.Context()); err != nil || got != c.answer {
					t.Errorf("first %s, %v; want %s", got, err, c.answer)
				}
			}
			var o wire.Redirect
			ann.notice("redirect", &o)
			if err := ann.Call(t.Context(), "redirect.refuse", wire.RedirectRefuse{ID: o.ID}, nil); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// slow is a socket that takes its time to queue an offer.
type slow struct {
	during func()

	mu   sync.Mutex
	said []string      // guarded by mu
	last wire.Redirect // guarded by mu
}

func (s *slow) Notify(method string, params any) {
	o, isOffer := params.(wire.Redirect)
	if isOffer && s.during != nil {
		s.during()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = append(s.said, method)
	if isOffer {
		s.last = o
	}
}

func (s *slow) offer() wire.Redirect {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// login is a session of a client that speaks through sock.
func (s *slow) login(t *testing.T, n *trial.Node) *session.Session {
	t.Helper()
	params, err := json.Marshal(wire.Hello{Token: "dev:ann", Caps: []string{"redirect"}})
	if err != nil {
		t.Fatal(err)
	}
	made, reply := n.Core.Login(t.Context(), s, "hello", params)
	if reply.Err != nil {
		t.Fatal(reply.Err)
	}
	return made
}

func (s *slow) Deliver(*wire.RoomEvent)                       {}
func (s *slow) Presence(*wire.Presence, bool)                 {}
func (s *slow) Sooner()                                       {}
func (s *slow) Replay(context.Context, *wire.RoomEvent) error { return nil }
func (s *slow) Close(wire.CloseCode, string)                  {}

// However soon an offer is withdrawn, the client hears of the offer first.
func TestOffer_IsToldBeforeItsEnd(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		sock := new(slow)
		s := sock.login(t, f.Nodes[0])
		defer s.Dropped(t.Context())
		sock.during = func() {
			s.Cancel()
			time.Sleep(time.Second)
		}
		s.Call(t.Context(), "redirect.request", []byte("{}"), func(r session.Reply) {
			if r.Err != nil {
				t.Error(r.Err)
			}
			r.After()
		})
		time.Sleep(time.Second)
		sock.mu.Lock()
		defer sock.mu.Unlock()
		if got := fmt.Sprint(sock.said); got != "[redirect redirect.cancel]" {
			t.Errorf("told %s", got)
		}
	})
}

// Who has the answer to its refusal gets another offer, even if what follows from
// the answer is late.
func TestOffer_FollowsOneThatWasRefused(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		sock := new(slow)
		s := sock.login(t, f.Nodes[0])
		defer s.Dropped(t.Context())
		var late []func()
		for range 3 {
			s.Call(t.Context(), "redirect.request", []byte("{}"), func(r session.Reply) {
				if r.Err != nil || r.After == nil {
					t.Errorf("asked for one: %+v", r)
					return
				}
				r.After()
			})
			refuse := fmt.Sprintf(`{"id":%q}`, sock.offer().ID)
			s.Call(t.Context(), "redirect.refuse", []byte(refuse), func(r session.Reply) {
				if r.Err != nil || r.After == nil {
					t.Errorf("refused: %+v", r)
					return
				}
				late = append(late, r.After)
			})
		}
		for _, after := range late {
			after()
		}
		synctest.Wait()
		if n := f.Nodes[0].Core.Stats().Offers; n != 0 {
			t.Errorf("%d under way, all of them refused", n)
		}
	})
}
