package client_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"godwit/client"
	"godwit/internal/pipe"
	"godwit/wire"
)

// bubble is a node that is dialled as "n1" and another as "n2", without a
// network, and a session at n1 in room r at seq 4.
type bubble struct {
	s, to  *script
	c      *client.Client
	old    *peer
	states []client.State // read them after synctest.Wait
}

func inBubble(t *testing.T, f func(t *testing.T, b *bubble), dial ...func(ctx context.Context) (net.Conn, error)) {
	synctest.Test(t, func(t *testing.T) {
		ln := map[string]*pipe.Listener{"n1:80": pipe.Listen(), "n2:80": pipe.Listen()}
		b := &bubble{s: newScriptOn(t, ln["n1:80"]), to: newScriptOn(t, ln["n2:80"])}
		o := options(b.s)
		o.URLs = []string{"ws://n1/v1/ws"}
		o.OnState = func(st client.State) { b.states = append(b.states, st) }
		o.Dial = func(ctx context.Context, _, addr string) (net.Conn, error) {
			if addr == "n2:80" && len(dial) > 0 {
				return dial[0](ctx)
			}
			return ln[addr].Dial()
		}
		b.c, b.old = b.s.dial(o)
		b.s.join(b.c, b.old, "r", 4)
		f(t, b)
	})
}

func (b *bubble) offer(life time.Duration) { b.offerAt("ws://n2/v1/ws", life) }

func (b *bubble) offerAt(url string, life time.Duration) {
	b.old.notice("redirect", wire.Redirect{ID: "o1", URL: url, Token: "t", ExpiresInMS: life.Milliseconds(), Reason: wire.ForDrain})
}

func never(ctx context.Context) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestRedirect_AnOldSocketThatStaysOpenIsClosedInTheEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.offer(15 * time.Second)
		p := b.to.accept()
		p.answer(p.want("handover"), handed(2, at(4, 0)))
		p.want("handover.done")
		began := time.Now()
		time.Sleep(9 * time.Second)
		b.old.event("r", 5)
		nextSeq(t, b.c, 5) // it is still read
		<-b.old.closed
		if d := time.Since(began); d != 10*time.Second {
			t.Errorf("closed after %v, want 10s", d)
		}
		p.event("r", 6)
		nextSeq(t, b.c, 6)
		synctest.Wait()
		if n := len(b.states); n != 2 {
			t.Errorf("%d states: %+v, want connected and redirected", n, b.states)
		}
	})
}

// Which of the two the client notes first is chance.
func TestRedirect_TheOldSocketEndsWithTheAnswer(t *testing.T) {
	for range 20 {
		inBubble(t, func(t *testing.T, b *bubble) {
			b.offer(15 * time.Second)
			p := b.to.accept()
			f := p.want("handover")
			synctest.Wait()
			p.answer(f, handed(2, at(4, 0)))
			b.old.close(wire.CloseMoved)
			synctest.Wait()
			p.want("handover.done")
			p.event("r", 5)
			nextSeq(t, b.c, 5)
			synctest.Wait()
			if n := len(b.states); n != 2 {
				t.Errorf("%d states: %+v, want connected and redirected", n, b.states)
			}
		})
	}
}

func TestRedirect_ADialIsGivenUpInTimeForAnotherOffer(t *testing.T) {
	for life, want := range map[time.Duration]time.Duration{15 * time.Second: 8 * time.Second, 3 * time.Second: 0} {
		inBubble(t, func(t *testing.T, b *bubble) {
			began := time.Now()
			b.offer(life)
			if want > 0 {
				f := <-b.old.frames
				if r := param[wire.RedirectRefuse](t, f); r.Reason != "dial" || time.Since(began) != want {
					t.Errorf("refused %+v after %v, want dial after %v", r, time.Since(began), want)
				}
				return
			}
			time.Sleep(life + time.Second) // there is nothing to refuse by then
			synctest.Wait()
			b.old.quiet()
			b.old.event("r", 5)
			nextSeq(t, b.c, 5)
		}, never)
	}
}

func TestRedirect_AnAnswerThatDoesNotComeIsNotWaitedForLong(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.offer(15 * time.Second)
		p := b.to.accept()
		f := p.want("handover")
		began := time.Now()
		b.old.wantRefusal("o1", "closed")
		if d := time.Since(began); d != 5*time.Second {
			t.Errorf("given up after %v, want 5s", d)
		}
		p.answer(f, handed(2, at(4, 0))) // too late
		b.old.event("r", 5)
		nextSeq(t, b.c, 5)
		if b.c.Session().Gen != 1 {
			t.Error("the answer was taken")
		}
	})
	inBubble(t, func(t *testing.T, b *bubble) { // with the old socket gone, the session resumes then
		b.offer(15 * time.Second)
		b.to.accept().want("handover")
		began := time.Now()
		b.old.close(wire.CloseGoingAway)
		b.s.accept().want("resume")
		if d := time.Since(began); d < 5*time.Second || d > 6*time.Second {
			t.Errorf("resumed after %v, want 5s", d)
		}
	})
}

func TestRedirect_AnAnswerMayComeAfterTheOffersLife(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.offer(time.Second)
		p := b.to.accept()
		f := p.want("handover")
		time.Sleep(3 * time.Second) // the claim was in time
		p.answer(f, handed(2, at(4, 0)))
		p.want("handover.done")
	})
}

func TestRedirect_AJoinThatIsNotAnsweredHoldsItUpForASecond(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		joined := async(func() (wire.Joined, error) { return b.c.Join(t.Context(), "q") })
		f := b.old.want("room.join")
		began := time.Now()
		b.offer(15 * time.Second)
		p := b.to.accept()
		ask := p.want("handover")
		if d := time.Since(began); d != time.Second {
			t.Errorf("said after %v, want 1s", d)
		}
		p.answer(ask, handed(2, at(4, 0), wire.SessionRoom{Room: "q", Epoch: "e1", Seq: 7}))
		p.want("handover.done")
		b.old.answer(f, wire.Joined{Room: "q", Epoch: "e1", Seq: 5}) // the new node knows better
		again := p.want("room.join")
		if since := param[wire.Join](t, again).Since; since == nil || since.Seq != 7 {
			t.Errorf("the repeat asks for what follows %+v, want 7", since)
		}
		p.answer(again, wire.Joined{Room: "q", Epoch: "e1", Seq: 7, Recovered: true})
		if _, err := joined(t); err != nil {
			t.Error(err)
		}
		if got := next(t, b.c); got != (client.Joined{Room: "q", Epoch: "e1", Seq: 7}) {
			t.Errorf("event is %+v, want joined at 7", got)
		}
	})
}

func TestRedirect_TriesAtABalancerEndWithTheOffer(t *testing.T) {
	dials := 0
	inBubble(t, func(t *testing.T, b *bubble) {
		b.s.mu.Lock()
		for range 9 {
			b.s.refuse = append(b.s.refuse, "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\nContent-Length: 0\r\n\r\n")
		}
		b.s.mu.Unlock()
		b.offerAt("ws://n1:80/", 15*time.Second)
		time.Sleep(16 * time.Second)
		synctest.Wait()
		b.s.mu.Lock()
		dials = 9 - len(b.s.refuse)
		b.s.mu.Unlock()
		b.old.quiet()
		b.old.event("r", 5)
		nextSeq(t, b.c, 5)
	})
	if dials != 2 {
		t.Errorf("%d dials, want 2: at once and when the server said", dials)
	}
}

func TestRedirect_CloseDoesNotWaitForADial(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.offer(15 * time.Second)
		synctest.Wait()
		began := time.Now()
		closed := async(func() (any, error) { return nil, b.c.Close(t.Context()) })
		b.old.answer(b.old.want("bye"), wire.Empty{})
		b.old.close(wire.CloseBye)
		if _, err := closed(t); err != nil || time.Since(began) > time.Second {
			t.Errorf("close: %v after %v", err, time.Since(began))
		}
		if !errors.Is(b.c.Err(), client.ErrClosed) {
			t.Errorf("ended with %v", b.c.Err())
		}
	}, never)
}

func TestRedirect_WhatComesToNothingIsOverAtOnce(t *testing.T) {
	soon := func(t *testing.T, began time.Time) {
		t.Helper()
		if d := time.Since(began); d > time.Second {
			t.Errorf("it took %v", d)
		}
	}
	again := wire.Errorf(wire.SameNode, "it is me")
	again.Data.RetryAfterMS = 4000
	for name, f := range map[string]func(t *testing.T, b *bubble, p *peer, ask frame){
		"withdrawn": func(_ *testing.T, b *bubble, p *peer, _ frame) {
			b.old.notice("redirect.cancel", wire.RedirectCancel{ID: "o1"})
			p.gone()
		},
		"the session ended": func(_ *testing.T, b *bubble, p *peer, _ frame) {
			b.old.close(wire.CloseSignedOut)
			p.gone()
			<-b.c.Done()
		},
		"another dial, but there is nothing to go back to": func(_ *testing.T, b *bubble, p *peer, ask frame) {
			b.old.close(wire.CloseGoingAway)
			synctest.Wait()
			p.refuse(ask, again)
			b.s.accept().want("resume")
		},
		"a join waits for the answer, not for another dial": func(_ *testing.T, b *bubble, p *peer, ask frame) {
			ctx, cancel := context.WithCancel(context.Background())
			res := async(func() (wire.Joined, error) { return b.c.Join(ctx, "q") })
			synctest.Wait()
			b.old.quiet()
			p.refuse(ask, again)
			b.old.want("room.join")
			cancel()
			_, _ = res(b.s.t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bubble) {
				b.offer(15 * time.Second)
				p := b.to.accept()
				ask := p.want("handover")
				began := time.Now()
				f(t, b, p, ask)
				soon(t, began)
			})
		})
	}
	t.Run("dialling, and the old socket ends", func(t *testing.T) {
		inBubble(t, func(t *testing.T, b *bubble) {
			b.offer(15 * time.Second)
			synctest.Wait()
			began := time.Now()
			b.old.close(wire.CloseGoingAway)
			b.s.accept().want("resume")
			soon(t, began)
		}, never)
	})
}

func TestRedirect_AHandoverIsNotSaidAfterTheOffersLife(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		res := async(func() (wire.Joined, error) { return b.c.Join(ctx, "q") })
		b.old.want("room.join") // and no answer, for which a handover waits
		began := time.Now()
		b.offer(500 * time.Millisecond)
		p := b.to.accept()
		p.gone()
		p.quiet()
		if d := time.Since(began); d != 500*time.Millisecond {
			t.Errorf("given up after %v, want the offer's life", d)
		}
		cancel()
		_, _ = res(t)
	})
}
