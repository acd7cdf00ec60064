package server_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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

// However soon an offer is withdrawn, the client hears of the offer first.
func TestOffer_IsToldBeforeItsEnd(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		sock, s := greeted(t, f.Nodes[0])
		defer s.Dropped()
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
		if got := fmt.Sprint(sock.heard()); got != "[redirect redirect.cancel]" {
			t.Errorf("told %s", got)
		}
	})
}

// Who has the answer to its refusal gets another offer, even if what follows from
// the answer is late.
func TestOffer_FollowsOneThatWasRefused(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		sock, s := greeted(t, f.Nodes[0])
		defer s.Dropped()
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

// Who has no answer to its login yet would not know what to do with an offer, or a bye.
func TestOffer_FollowsTheAnswerToTheLogin(t *testing.T) {
	for name, n := range map[string]int{"redirect": 1, "bye": 0} { // with and without URLs of nodes
		t.Run(name, func(t *testing.T) {
			change := func(s *trial.Settings, _ string) {
				s.Server.DrainBudget, s.Server.URL = time.Minute, strings.Repeat(s.Server.URL, n)
			}
			trio(t, change, func(t *testing.T, f *trial.Fleet) {
				sock := new(slow)
				s, greet := sock.login(t, f.Nodes[0])
				defer s.Dropped()
				if _, err := f.Nodes[0].Core.Fleet().Redirect(t.Context(), s.ID(), ""); err == nil {
					t.Error("an operator moves who is not greeted")
				}
				ctx, stop := context.WithCancel(t.Context())
				drained := make(chan error)
				go func() { drained <- f.Nodes[0].Core.Drain(ctx) }()
				time.Sleep(5 * time.Second)
				if told := sock.heard(); len(told) != 0 {
					t.Errorf("told %s before its login was answered", told)
				}
				greet()
				time.Sleep(5 * time.Second)
				if told := sock.heard(); len(told) == 0 || told[0] != name {
					t.Errorf("told %s, want %s", told, name)
				}
				stop()
				<-drained
			})
		})
	}
}
