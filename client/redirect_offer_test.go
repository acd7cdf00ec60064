package client_test

import (
	"context"
	"strings"
	"testing"

	"godwit/client"
	"godwit/wire"
)

func TestRedirect_ATokenIsNotShownToAForeignOrigin(t *testing.T) {
	s, to := newScript(t), newScript(t)
	res := async(func() (*client.Client, error) { return client.Dial(t.Context(), options(s)) })
	old := s.accept()
	h := hello()
	h.Origins = []string{"wss://*.example.org"}
	old.answer(old.want("hello"), h)
	c, err := res(t)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	old.offer("o1", to)
	old.wantRefusal("o1", "url")
	select {
	case <-to.peers:
		t.Error("the foreign origin was dialled")
	default:
	}
	// Its own origin is none, and the path does not matter.
	old.offerAt("o2", strings.Replace(s.url(), "/v1/ws", "/elsewhere", 1))
	p := s.accept()
	x := &crossing{T: t, s: s, to: s, c: c, old: old, p: p, ask: p.want("handover")}
	x.over()
	p.want("handover.done")
	old.close(wire.CloseMoved)
	old.gone()
	closed := async(func() (any, error) { return nil, c.Close(t.Context()) })
	p.answer(p.want("bye"), wire.Empty{})
	p.close(wire.CloseBye)
	_, _ = closed(t)
}

func TestRedirectCancel_BeforeTheAnswerEndsTheAttempt(t *testing.T) {
	x := cross(t)
	x.old.notice("redirect.cancel", wire.RedirectCancel{ID: "another"})
	x.old.sync()
	x.p.sync() // it goes on
	x.old.notice("redirect.cancel", wire.RedirectCancel{ID: "o1"})
	x.p.gone()
	x.stays(5) // and the client has not refused what is withdrawn
	x.offer("o2")
	x.over(at(6, 1))
	x.p.want("handover.done")
}

func TestRedirectCancel_AfterTheAnswerIsTooLate(t *testing.T) {
	x := cross(t)
	x.over(at(4, 0))
	x.p.want("handover.done")
	x.old.notice("redirect.cancel", wire.RedirectCancel{ID: "o1"})
	x.old.sync()
	x.p.event("r", 5)
	nextSeq(t, x.c, 5)
	wantState[client.Redirected](x)
}

func TestRedirect_OneAtATime(t *testing.T) {
	x := cross(t)
	other, last := newScript(t), newScript(t)
	x.old.offer("o1", x.to) // said twice
	x.old.offer("o2", other)
	x.old.wantRefusal("o2", "busy")
	x.over(at(4, 0))
	x.p.want("handover.done")
	// While the old socket is there the next offer waits, and a later one takes
	// its place; a cancelled one is none.
	x.p.offer("o3", other)
	x.p.sync()
	x.p.offer("o4", other)
	x.p.offer("o5", last)
	x.p.sync()
	x.old.offer("o6", other) // has no say any more
	x.p.sync()
	x.old.sync()
	x.p.quiet()
	x.old.quiet()
	x.old.close(wire.CloseMoved)
	p := last.accept()
	if h := param[wire.Handover](t, p.want("handover")); h.ID != "o5" {
		t.Errorf("handover of %s, want o5", h.ID)
	}
	select {
	case <-other.peers:
		t.Error("an offer was followed that another had replaced")
	default:
	}
}

func TestRedirect_AnOfferThatWaitsMayBeWithdrawnOrDieWithItsSocket(t *testing.T) {
	for name, end := range map[string]func(x *crossing) *peer{
		"withdrawn": func(x *crossing) *peer {
			x.p.notice("redirect.cancel", wire.RedirectCancel{ID: "o2"})
			x.p.sync()
			x.old.close(wire.CloseMoved)
			x.old.gone()
			return x.p
		},
		"its socket ended": func(x *crossing) *peer {
			x.p.cut()
			p := x.s.accept()
			s := resumed(at(4, 0))
			s.Gen = 3
			p.answer(p.want("resume"), s)
			wantState[client.Redirected](x)
			wantState[client.Disconnected](x)
			wantState[client.Connected](x)
			return p
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := cross(t)
			other := newScript(t)
			x.over(at(4, 0))
			x.p.want("handover.done")
			x.p.offer("o2", other) // the old socket is still there
			x.p.sync()
			p := end(x)
			for range 10 {
				p.sync()
			}
			x.old = p
			x.offer("o3")
			select {
			case <-other.peers:
				t.Error("o2 was followed")
			default:
			}
		})
	}
}
