package server_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"godwit/internal/trial"
	"godwit/server/session"
	"godwit/store"
	"godwit/wire"
)

// slow is a socket that takes its time to queue an offer, and whose reader is the test:
// what follows an answer happens when the test has it follow.
type slow struct {
	during func()

	mu   sync.Mutex
	said []string      // guarded by mu: notifications and closes
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

func (s *slow) Close(code wire.CloseCode, _ string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = append(s.said, fmt.Sprint("close ", int(code)))
}

func (s *slow) heard() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.said)
}

func (s *slow) offer() wire.Redirect {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// login is a session of a client that speaks through sock, and greet what follows the
// answer.
func (s *slow) login(t *testing.T, n *trial.Node) (made *session.Session, greet func()) {
	t.Helper()
	params, err := json.Marshal(wire.Hello{Token: "dev:ann", Caps: []string{"redirect"}})
	if err != nil {
		t.Fatal(err)
	}
	made, reply := n.Core.Login(t.Context(), s, "hello", params)
	if reply.Err != nil {
		t.Fatal(reply.Err)
	}
	return made, reply.Follow
}

// greeted is a session whose login is answered, and its socket.
func greeted(t *testing.T, n *trial.Node) (*slow, *session.Session) {
	t.Helper()
	sock := new(slow)
	s, greet := sock.login(t, n)
	greet()
	return sock, s
}

func (s *slow) Deliver(*wire.RoomEvent)                       {}
func (s *slow) Presence(*wire.Presence, bool)                 {}
func (s *slow) Sooner()                                       {}
func (s *slow) Replay(context.Context, *wire.RoomEvent) error { return nil }

// Whatever finds that the session lives elsewhere, its answer is queued before the
// socket is closed for it.
func TestAnswer_ComesBeforeTheCloseThatItCauses(t *testing.T) {
	for method, params := range map[string]string{
		"bye": `{}`, "redirect.request": `{}`, "room.join": `{"room":"den"}`, "hello.refresh": `{"token":"dev:ann"}`,
	} {
		t.Run(method, func(t *testing.T) {
			fleet(t, func(t *testing.T, f *trial.Fleet) {
				sock, s := greeted(t, f.Nodes[0])
				defer s.Dropped()
				rec, _ := s.Record()
				if _, err := f.Nodes[1].Store.Claim(t.Context(), s.ID(), rec.Secret, store.Ref{Node: "n9", Boot: "b"}, ""); err != nil {
					t.Fatal(err)
				}
				answered := make(chan session.Reply, 1)
				s.Call(t.Context(), method, []byte(params), func(r session.Reply) { answered <- r })
				r := <-answered
				if r.Err == nil || r.Err.Reason() != wire.Moved {
					t.Fatalf("answers %+v, want moved", r)
				}
				time.Sleep(time.Second)
				if told := sock.heard(); len(told) != 0 {
					t.Errorf("told %s before the answer was queued", told)
				}
				r.Follow()
				time.Sleep(time.Second)
				if told := sock.heard(); fmt.Sprint(told) != "[close 4101]" {
					t.Errorf("told %s, want a close with 4101", told)
				}
			})
		})
	}
}

// A bye that has ended the session is not overtaken by who finds the session gone.
func TestAnswer_OfAByeComesBeforeItsClose(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		sock, s := greeted(t, f.Nodes[0])
		defer s.Dropped()
		s.Call(t.Context(), "bye", []byte(`{}`), func(r session.Reply) {
			s.Gone()
			if told := sock.heard(); r.Err != nil || len(told) != 0 {
				t.Errorf("%v; told %s before the answer was queued", r.Err, told)
			}
			r.Follow()
		})
		if told := sock.heard(); fmt.Sprint(told) != "[close 1000]" {
			t.Errorf("told %s, want a close with 1000", told)
		}
	})
}

// What follows a send is answered after it, however long that takes.
func TestAnswer_OfASendComesBeforeThatOfWhatFollows(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		_, s := greeted(t, f.Nodes[0])
		defer s.Dropped()
		s.Call(t.Context(), "room.join", []byte(`{"room":"lobby"}`), session.Reply.Follow)
		queue, answers := make(chan struct{}), make(chan string, 2)
		s.Call(t.Context(), "room.send", []byte(`{"room":"lobby","cseq":1,"data":"x"}`), func(r session.Reply) {
			<-queue
			answers <- fmt.Sprint("send ", r.Err)
		})
		go s.Call(t.Context(), "none", nil, func(r session.Reply) { answers <- fmt.Sprint("none ", r.Err.Code) })
		time.Sleep(time.Second)
		close(queue)
		if first, second := <-answers, <-answers; first != "send <nil>" || second != "none -32601" {
			t.Errorf("answered %s, then %s", first, second)
		}
	})
}

// A node that the asking one saw draining a moment ago may be ready now.
func TestAnswer_ToWhoAsksForANodeKnowsWhoHasJustBecomeReady(t *testing.T) {
	trio(t, nil, func(t *testing.T, f *trial.Fleet) {
		ann, bob, eve := follower(t, f, 1, "ann"), follower(t, f, 1, "bob"), follower(t, f, 1, "eve")
		admin := f.Nodes[2].Core.Fleet()
		request := func(p *person) error {
			return p.Call(t.Context(), "redirect.request", wire.RedirectRequest{Node: "n2"}, nil)
		}
		for who, asks := range map[string]func() error{
			"its client": func() error { return request(ann) },
			"an operator": func() error {
				_, err := admin.Redirect(t.Context(), bob.session.Session, "n2")
				return err
			},
		} {
			if _, err := admin.Drain(t.Context(), "n2", time.Hour); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second) // what n1 saw before is old
			if err := request(eve); reason(err) != wire.NoTarget {
				t.Fatalf("to one that drains: %v, want no_target", err)
			}
			if _, err := admin.Undrain(t.Context(), "n2"); err != nil {
				t.Fatal(err)
			}
			if err := asks(); err != nil {
				t.Errorf("%s asks once it is ready: %v", who, err)
			}
		}
	})
}
