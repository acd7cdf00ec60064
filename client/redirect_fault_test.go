package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"godwit/client"
	"godwit/wire"
)

func TestRedirect_AHandoverThatIsRefusedChangesNothing(t *testing.T) {
	for _, reason := range []wire.Reason{
		wire.BadToken, wire.WrongAudience, wire.Expired, wire.Used, wire.Cancelled, wire.NoSession, wire.GenMismatch,
		wire.Capacity, wire.Unavailable, wire.RateLimited, "of a later version",
	} {
		t.Run(string(reason), func(t *testing.T) {
			x := cross(t)
			x.p.refuse(x.ask, wire.Errorf(reason, "no"))
			x.p.close(wire.CloseMoved)
			x.p.gone()
			x.old.wantRefusal("o1", string(reason))
			x.stays(5)
		})
	}
	for name, end := range map[string]func(p *peer, f frame){
		"standard error":  func(p *peer, f frame) { p.refuse(f, wire.ErrMethod("handover")) },
		"closed":          func(p *peer, _ frame) { p.close(wire.CloseMoved) },
		"closed for good": func(p *peer, _ frame) { p.close(wire.CloseSignedOut) },
		"cut":             func(p *peer, _ frame) { p.cut() },
		"an earlier gen":  func(p *peer, f frame) { p.answer(f, handed(0, at(4, 0))) },
		"another session": func(p *peer, f frame) {
			s := handed(2, at(4, 0))
			s.Session = "s2"
			p.answer(f, s)
		},
		"no session object": func(p *peer, f frame) { p.answer(f, "?") },
	} {
		t.Run(name, func(t *testing.T) {
			x := cross(t)
			end(x.p, x.ask)
			x.p.gone()
			x.old.wantRefusal("o1", "closed")
			x.stays(5)
		})
	}
}

func TestRedirect_ANodeThatCannotBeDialledChangesNothing(t *testing.T) {
	for name, raw := range map[string]string{"no node there": "", "no websocket there": "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"} {
		t.Run(name, func(t *testing.T) {
			x := cross(t)
			x.p.refuse(x.ask, wire.Errorf(wire.Capacity, "full"))
			x.old.wantRefusal("o1", "capacity")
			url := "ws://127.0.0.1:1/v1/ws"
			if raw != "" {
				x.to.refuse = []string{raw}
				url = x.to.url()
			}
			x.old.offerAt("o2", url)
			x.old.wantRefusal("o2", "dial")
			x.stays(5)
			x.offer("o3") // the next offer is as good as the first
			x.over(at(6, 1))
			x.p.want("handover.done")
		})
	}
}

func TestRedirect_AtABalancerTheClientDialsAgainAFewTimes(t *testing.T) {
	x := cross(t)
	x.p.refuse(x.ask, wire.Errorf(wire.Capacity, "full"))
	x.old.wantRefusal("o1", "capacity")
	x.to = x.s
	x.to.mu.Lock()
	for _, status := range []string{"503 Service Unavailable", "502 Bad Gateway", "504 Gateway Timeout"} {
		x.to.refuse = append(x.to.refuse, "HTTP/1.1 "+status+"\r\nContent-Length: 0\r\n\r\n")
	}
	x.to.mu.Unlock()
	x.old.offerAt("o2", strings.Replace(x.to.url(), "/v1/ws", "/v1/ws?by=another", 1)) // the origin counts
	x.p = x.to.accept()
	x.ask = x.p.want("handover")
	x.p.refuse(x.ask, wire.Errorf(wire.SameNode, "it is me"))
	x.p = x.to.accept()
	x.ask = x.p.want("handover")
	x.old.event("r", 5) // meanwhile
	nextSeq(t, x.c, 5)
	x.p.refuse(x.ask, wire.Errorf(wire.SameNode, "it is me"))
	x.p = x.to.accept()
	x.ask = x.p.want("handover")
	if pos := param[wire.Handover](t, x.ask).Positions["r"]; pos.Seq != 5 {
		t.Errorf("position is %+v, want that of the last try, 5", pos)
	}
	x.over(at(5, 0))
	x.p.want("handover.done")

	// It gives up in the end.
	x.old.close(wire.CloseMoved)
	x.old = x.p
	x.offer("o3")
	for n := 1; ; n++ {
		x.p.refuse(x.ask, wire.Errorf(wire.SameNode, "it is me"))
		select {
		case x.p = <-x.to.peers:
			x.ask = x.p.want("handover")
			continue
		case f := <-x.old.frames:
			if got := param[wire.RedirectRefuse](t, f); f.Method != "redirect.refuse" || got.Reason != "same_node" {
				t.Errorf("client said %s %s, want same_node", f.Method, f.Params)
			}
			if n < 3 || n > 10 {
				t.Errorf("gave up after %d dials, want a few", n)
			}
		case <-time.After(patience):
			t.Fatal("still trying")
		}
		break
	}
}

// One node's address is dialled once, for the source knows of other nodes.
func TestRedirect_ANodeThatTurnsUsAwayIsRefusedAtOnce(t *testing.T) {
	for _, status := range []string{"503 Service Unavailable", "502 Bad Gateway", "504 Gateway Timeout"} {
		t.Run(status, func(t *testing.T) {
			x := cross(t)
			x.p.refuse(x.ask, wire.Errorf(wire.Capacity, "full"))
			x.old.wantRefusal("o1", "capacity")
			x.to.mu.Lock()
			x.to.refuse = []string{"HTTP/1.1 " + status + "\r\nContent-Length: 0\r\n\r\n"}
			x.to.mu.Unlock()
			x.old.offerAt("o2", x.to.url())
			x.old.wantRefusal("o2", "dial")
			select {
			case <-x.to.peers:
				t.Error("dialled again")
			default:
			}
			x.stays(5)
		})
	}
}

func TestRedirect_ANodeOfSeveralAtOneAddressThatHasNoRoomIsNotTheLast(t *testing.T) {
	x := cross(t)
	x.p.refuse(x.ask, wire.Errorf(wire.Capacity, "full"))
	x.old.wantRefusal("o1", "capacity") // an address of its own: the next offer is of another node
	x.to = x.s                          // the address that the client is on
	x.offer("o2")
	x.p.refuse(x.ask, wire.Errorf(wire.Capacity, "this node is draining"))
	x.p = x.to.accept()
	x.ask = x.p.want("handover")
	x.over(at(4, 0))
	x.p.want("handover.done")
}

func TestRedirect_TheOldSocketEndsBeforeTheAnswer(t *testing.T) {
	for name, end := range map[string]func(old *peer){
		"cut":   func(old *peer) { old.cut() },
		"moved": func(old *peer) { old.close(wire.CloseMoved) },
		"bye": func(old *peer) {
			old.notice("bye", wire.Bye{Reason: "drain", RetryAfterMS: 1})
			old.close(wire.CloseRestart)
		},
	} {
		t.Run(name+", and it comes", func(t *testing.T) {
			x := cross(t)
			a := send(t, x.c, "a")
			x.old.wantSend(1, "a")
			end(x.old)
			x.old.gone()
			x.p.sync()
			x.over(at(5, 1))
			x.p.answer(x.p.wantSend(1, "a"), wire.Sent{Seq: 5, Dup: true})
			wantSent(t, a, wire.Sent{Seq: 5, Dup: true})
			x.p.want("handover.done")
			x.p.event("r", 6)
			nextSeq(t, x.c, 6) // no Resumed
			wantState[client.Redirected](x)
			select {
			case <-x.s.peers:
				t.Error("the client has dialled for a resume, too")
			default:
			}
		})
		t.Run(name+", and it does not come", func(t *testing.T) {
			x := cross(t)
			a := send(t, x.c, "a")
			x.old.wantSend(1, "a")
			end(x.old)
			x.old.gone()
			x.p.cut()
			p := x.s.accept()
			f := p.want("resume")
			if pos := param[wire.Resume](t, f).Positions["r"]; pos.Seq != 4 {
				t.Errorf("resume from %+v, want 4", pos)
			}
			p.answer(f, resumed(at(5, 1)))
			p.answer(p.wantSend(1, "a"), wire.Sent{Seq: 5, Dup: true})
			wantSent(t, a, wire.Sent{Seq: 5, Dup: true})
			wantResumed(t, x.c)
			wantState[client.Disconnected](x)
			wantState[client.Connected](x)
		})
		t.Run(name+", and it is a refusal that asks for another dial", func(t *testing.T) {
			x := cross(t)
			end(x.old)
			x.old.gone()
			x.p.sync()
			x.p.refuse(x.ask, wire.Errorf(wire.SameNode, "it is me"))
			p := x.s.accept()
			p.answer(p.want("resume"), resumed(at(4, 0)))
			wantResumed(t, x.c)
		})
	}
}

func TestRedirect_AByeIsHeededWhenTheHandoverFails(t *testing.T) {
	x := cross(t)
	const asked = 80 * time.Millisecond
	x.old.notice("bye", wire.Bye{Reason: "drain", RetryAfterMS: asked.Milliseconds()})
	x.old.close(wire.CloseRestart)
	x.old.gone()
	x.p.refuse(x.ask, wire.Errorf(wire.Capacity, "full"))
	if d := wantState[client.Disconnected](x); d.Code != wire.CloseRestart || d.RetryIn < asked {
		t.Errorf("state %+v, want 1012 and a wait of %v at least", d, asked)
	}
	x.s.accept().want("resume")
}

func TestRedirect_AnEndOfTheSessionEndsTheHandover(t *testing.T) {
	x := cross(t)
	x.old.close(wire.CloseSignedOut)
	x.p.gone()
	var ce *client.CloseError
	if d := wantState[client.Disconnected](x); !d.Final || !errors.As(d.Err, &ce) || ce.Code != wire.CloseSignedOut {
		t.Errorf("state %+v, want the final 4403", d)
	}
	x = cross(t)
	x.old.close(wire.CloseSessionGone)
	x.p.gone()
	x.s.accept().want("hello")
}

func TestRedirect_WhileItIsDialledALostSocketIsResumedAtOnce(t *testing.T) {
	var dialled int
	dialling, stopped := make(chan struct{}), make(chan struct{})
	x := cross(t, func(o *client.Options) {
		o.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if dialled++; dialled == 3 { // hello, o1, o2
				close(dialling)
				<-ctx.Done()
				close(stopped)
				return nil, ctx.Err()
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
	})
	x.p.refuse(x.ask, wire.Errorf(wire.Capacity, "full"))
	x.old.wantRefusal("o1", "capacity")
	x.old.offer("o2", x.to)
	<-dialling
	x.old.cut()
	p := x.s.accept()
	select {
	case <-stopped: // never two at once
	default:
		t.Error("the client resumes while it dials for the offer")
	}
	// An offer that comes with the answer is as good as any.
	p.answer(p.want("resume"), resumed(at(4, 0)))
	p.offer("o3", x.to)
	x.p = x.to.accept()
	x.ask = x.p.want("handover")
	wantResumed(t, x.c)
	x.over(at(4, 0))
	x.p.want("handover.done")
	x.p.event("r", 5)
	nextSeq(t, x.c, 5)
}

func TestRedirect_TheNewSocketEndsAfterTheAnswer(t *testing.T) {
	x := cross(t)
	a := send(t, x.c, "a")
	x.old.wantSend(1, "a")
	x.over(at(4, 0))
	x.p.wantSend(1, "a")
	x.old.event("r", 5)
	nextSeq(t, x.c, 5)
	x.p.cut()
	x.old.gone() // before the session has another socket
	p := x.s.accept()
	f := p.want("resume")
	if pos := param[wire.Resume](t, f).Positions["r"]; pos.Seq != 5 {
		t.Errorf("resume from %+v, want 5, by the old socket", pos)
	}
	s := resumed(at(6, 1))
	s.Gen = 3
	p.answer(f, s)
	p.answer(p.wantSend(1, "a"), wire.Sent{Seq: 6, Dup: true})
	wantSent(t, a, wire.Sent{Seq: 6, Dup: true})
	wantResumed(t, x.c)
	wantState[client.Redirected](x)
	wantState[client.Disconnected](x)
	wantState[client.Connected](x)
}

func TestMoved_WithNoHandoverToComeTheClientResumes(t *testing.T) {
	moved := wire.Errorf(wire.Moved, "moved")
	t.Run("a send", func(t *testing.T) {
		x := cross(t)
		x.p.cut() // the answer is lost
		x.old.wantRefusal("o1", "closed")
		a := send(t, x.c, "a")
		x.old.refuse(x.old.wantSend(1, "a"), moved)
		x.old.gone()
		if d := wantState[client.Disconnected](x); d.Final || !strings.Contains(d.Err.Error(), "moved to another socket") {
			t.Errorf("state %+v, want that the session has moved", d)
		}
		p := x.s.accept()
		p.answer(p.want("resume"), resumed(at(4, 0)))
		p.answer(p.wantSend(1, "a"), wire.Sent{Seq: 5})
		wantSent(t, a, wire.Sent{Seq: 5})
	})
	t.Run("the refusal", func(t *testing.T) {
		x := cross(t)
		x.p.cut()
		x.old.refuse(x.old.want("redirect.refuse"), moved)
		x.old.gone()
		x.s.accept().want("resume")
	})
	t.Run("while the answer is awaited", func(t *testing.T) {
		x := cross(t)
		a := send(t, x.c, "a")
		x.old.refuse(x.old.wantSend(1, "a"), moved)
		x.old.sync() // it stays
		x.old.event("r", 5)
		nextSeq(t, x.c, 5)
		x.p.cut()
		x.old.gone()
		p := x.s.accept()
		p.answer(p.want("resume"), resumed(at(5, 0)))
		p.answer(p.wantSend(1, "a"), wire.Sent{Seq: 6})
		wantSent(t, a, wire.Sent{Seq: 6})
	})
}

func TestMoved_AByeThatComesTooLateIsNotWaitedFor(t *testing.T) {
	x := cross(t)
	x.p.cut()
	x.old.wantRefusal("o1", "closed")
	closed := async(func() (any, error) { return nil, x.c.Close(t.Context()) })
	x.old.refuse(x.old.want("bye"), wire.Errorf(wire.Moved, "moved"))
	if _, err := closed(t); err == nil {
		t.Error("close has no error, though the session goes on")
	}
}

func TestGen_NeverGoesBack(t *testing.T) {
	x := cross(t)
	x.over(at(4, 0))
	x.old.close(wire.CloseMoved)
	x.p.cut()
	p := x.s.accept()
	s := resumed(at(4, 0))
	s.Gen = 1 // the session is at 2
	p.answer(p.want("resume"), s)
	p.gone()
	p = x.s.accept()
	s.Gen = 3
	p.answer(p.want("resume"), s)
	wantResumed(t, x.c)
	if gen := x.c.Session().Gen; gen != 3 {
		t.Errorf("gen is %d, want 3", gen)
	}
}

func TestClose_SaysByeWhereTheSessionIs(t *testing.T) {
	x := cross(t)
	closed := async(func() (any, error) { return nil, x.c.Close(t.Context()) })
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for { // until Close has begun
		if _, err := x.c.Join(over, "r"); errors.Is(err, client.ErrClosed) {
			break
		}
	}
	x.over(at(4, 0))
	x.p.want("handover.done")
	x.p.answer(x.p.want("bye"), wire.Empty{})
	x.p.close(wire.CloseBye)
	if _, err := closed(t); err != nil {
		t.Errorf("close: %v", err)
	}
	x.old.gone()
	x.old.quiet()
}

func TestRedirect_ASilentNewSocketIsGivenUp(t *testing.T) {
	x := cross(t)
	s := handed(2, at(4, 0))
	s.Timers.PingMS = -2450 // two pings and the slack of 5 s make 100 ms
	x.p.answer(x.ask, s)
	x.s.accept().want("resume")
}

func TestRedirect_FrameFitsTheLimitWhateverTheRooms(t *testing.T) {
	s, to := newScript(t), newScript(t)
	c, p := s.dial(options(s))
	for i := range 250 {
		s.join(c, p, fmt.Sprintf("%03d%s", i, strings.Repeat(`"`, 197)), 1)
	}
	p.notice("redirect", wire.Redirect{ID: "o1", URL: to.url(), Token: strings.Repeat("t", 2048), ExpiresInMS: 10000})
	f := to.accept().want("handover")
	if n := len(f.Params); n > 65536-100 {
		t.Errorf("handover has %d bytes, over the frame limit", n)
	}
	if n := len(param[wire.Handover](t, f).Positions); n < 100 {
		t.Errorf("handover has %d positions, want as many as fit", n)
	}
}
