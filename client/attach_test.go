package client_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"godwit/client"
	"godwit/wire"
)

func TestDial_ErrorsSayWhoRefused(t *testing.T) {
	t.Run("unauthorized", func(t *testing.T) {
		s := newScript(t)
		res := async(func() (*client.Client, error) { return client.Dial(t.Context(), options(s)) })
		p := s.accept()
		p.refuse(p.want("hello"), wire.Errorf(wire.Unauthorized, "bad token"))
		p.close(wire.CloseUnauthorized)
		if _, err := res(t); !client.Is(err, wire.Unauthorized) {
			t.Errorf("dial: %v, want unauthorized", err)
		}
	})
	t.Run("close code alone", func(t *testing.T) {
		s := newScript(t)
		res := async(func() (*client.Client, error) { return client.Dial(t.Context(), options(s)) })
		p := s.accept()
		p.want("hello")
		p.close(wire.CloseProtocol)
		var ce *client.CloseError
		if _, err := res(t); !errors.As(err, &ce) || ce.Code != wire.CloseProtocol {
			t.Errorf("dial: %v, want close code 4400", err)
		}
	})
	t.Run("no node there", func(t *testing.T) {
		o := client.Options{URLs: []string{"ws://127.0.0.1:1/v1/ws"}, Token: options(newScript(t)).Token}
		if _, err := client.Dial(t.Context(), o); err == nil {
			t.Error("dial: no error")
		}
	})
	t.Run("no websocket there", func(t *testing.T) {
		s := newScript(t)
		s.refuse = []string{"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"}
		var he *client.HTTPError
		if _, err := client.Dial(t.Context(), options(s)); !errors.As(err, &he) || he.Status != 404 {
			t.Errorf("dial: %v, want http status 404", err)
		}
	})
	t.Run("no token", func(t *testing.T) {
		o := options(newScript(t))
		broken := errors.New("vault is shut")
		o.Token = func(context.Context) (string, error) { return "", broken }
		if _, err := client.Dial(t.Context(), o); !errors.Is(err, broken) {
			t.Errorf("dial: %v, want the error of Token", err)
		}
	})
	for name, o := range map[string]client.Options{
		"no URL":     {Token: func(context.Context) (string, error) { return "", nil }},
		"no Token":   {URLs: []string{"ws://x/v1/ws"}},
		"http URL":   {URLs: []string{"http://x/v1/ws"}, Token: func(context.Context) (string, error) { return "", nil }},
		"no address": {URLs: []string{"ws:///v1/ws"}, Token: func(context.Context) (string, error) { return "", nil }},
	} {
		if _, err := client.Dial(t.Context(), o); err == nil {
			t.Errorf("%s: dial has no error", name)
		}
	}
}

func TestDial_WaitsForABusyNodeAndTriesTheOthers(t *testing.T) {
	busy, free := newScript(t), newScript(t)
	busy.refuse = []string{"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"}
	o := options(busy)
	o.URLs = append(o.URLs, free.url())
	res := async(func() (*client.Client, error) { return client.Dial(t.Context(), o) })
	p := free.accept()
	p.refuse(p.want("hello"), wire.ErrUnavailable())
	p.close(wire.CloseRestart)
	p = busy.accept()
	p.answer(p.want("hello"), hello())
	c, err := res(t)
	if err != nil {
		t.Fatal(err)
	}
	closed := async(func() (any, error) { return nil, c.Close(t.Context()) })
	p.want("bye")
	p.close(wire.CloseBye)
	_, _ = closed(t)

	// A busy node is waited for no longer than ctx lasts.
	busy.refuse = []string{"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n"}
	o.URLs = o.URLs[:1]
	ctx, cancel := context.WithTimeout(t.Context(), time.Second) // in which it is answered 503
	defer cancel()
	var he *client.HTTPError
	if _, err := client.Dial(ctx, o); !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &he) {
		t.Errorf("dial: %v, want the end of ctx and the status", err)
	}
}

// Whoever closes it second does not take the first one's word away.
func TestClose_ASecondOneWaitsForTheFirst(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(options(s))
	first := async(func() (any, error) { return nil, c.Close(t.Context()) })
	f := p.want("bye")
	second := async(func() (any, error) { return nil, c.Close(t.Context()) })
	p.sync()
	select {
	case <-c.Done():
		t.Error("it has ended before bye is answered")
	default:
	}
	p.answer(f, wire.Empty{})
	p.close(wire.CloseBye)
	if _, err := first(t); err != nil {
		t.Errorf("the first: %v", err)
	}
	if _, err := second(t); err != nil {
		t.Errorf("the second: %v", err)
	}
}

func TestDial_AnErrorSaysOnceWhatWasTried(t *testing.T) {
	s := newScript(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	res := async(func() (*client.Client, error) { return client.Dial(ctx, options(s)) })
	p := s.accept()
	p.want("hello") // and no answer
	cancel(errors.New("enough"))
	if _, err := res(t); err == nil || err.Error() != "log in: hello at "+s.url()+": enough" {
		t.Errorf("dial: %v, want each thing said once", err)
	}
}

func TestClose_SaysByeAndRefusesCallsAfterwards(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(options(s))
	s.join(c, p, "r", 0)
	a := send(t, c, "a")
	p.wantSend(1, "a")
	closed := async(func() (any, error) { return nil, c.Close(t.Context()) })
	p.answer(p.want("bye"), wire.Empty{})
	p.close(wire.CloseBye)
	if _, err := closed(t); err != nil {
		t.Errorf("close: %v", err)
	}
	if _, err := a(t); !errors.Is(err, client.ErrClosed) || !errors.Is(err, client.ErrUnsettled) {
		t.Errorf("send in flight: %v, want ErrClosed, ErrUnsettled", err)
	}
	if _, err := c.Join(t.Context(), "r"); !errors.Is(err, client.ErrClosed) {
		t.Errorf("join after close: %v, want ErrClosed", err)
	}
	if _, err := c.Next(t.Context()); !errors.Is(err, client.ErrClosed) {
		t.Errorf("next after close: %v, want ErrClosed", err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Errorf("second close: %v", err)
	}
	for e, err := range c.Events(t.Context()) {
		t.Errorf("events after close: %v, %v", e, err)
	}
}

func TestClose_WhileDetachedLeavesNothing(t *testing.T) {
	s := newScript(t)
	o := options(s)
	o.MinBackoff, o.MaxBackoff = time.Hour, time.Hour
	down := make(chan struct{})
	o.OnState = func(st client.State) {
		if _, ok := st.(client.Disconnected); ok {
			close(down)
		}
	}
	c, p := s.dial(o)
	p.cut()
	<-down
	if err := c.Close(t.Context()); err == nil {
		t.Error("close has no error, though nobody was told bye")
	}
	if !errors.Is(c.Err(), client.ErrClosed) {
		t.Errorf("err is %v, want ErrClosed", c.Err())
	}
}

func TestCloseCodes_SayWhatComesNext(t *testing.T) {
	for code, want := range map[wire.CloseCode]string{
		1001: "resume", 1006: "resume", 1012: "resume", 4100: "resume", 4200: "resume", 4201: "resume", 4299: "resume", 4567: "resume",
		4300: "hello", 4301: "hello", 4398: "hello",
		1000: "stop", 1003: "stop", 1007: "stop", 1009: "stop",
		4101: "stop", 4199: "stop", 4400: "stop", 4401: "stop", 4403: "stop", 4408: "stop", 4499: "stop",
	} {
		t.Run(code.String(), func(t *testing.T) {
			s := newScript(t)
			c, p := s.dial(options(s))
			if code == 1006 {
				p.cut()
			} else {
				p.close(code)
			}
			if want == "stop" {
				<-c.Done()
				var ce *client.CloseError
				if !errors.As(c.Err(), &ce) || ce.Code != code || ce.Reason != "scripted" {
					t.Errorf("ended with %v, want close code %d and its reason", c.Err(), code)
				}
				return
			}
			s.accept().want(want)
		})
	}
}

func TestReconnect_WaitsAsLongAsTheServerAsked(t *testing.T) {
	s := newScript(t)
	o := options(s)
	lost := make(chan client.Disconnected, 8)
	o.OnState = func(st client.State) {
		if d, ok := st.(client.Disconnected); ok {
			lost <- d
		}
	}
	const asked = 60 * time.Millisecond
	within := func(d client.Disconnected, floor time.Duration) {
		t.Helper()
		if d.RetryIn < floor || d.RetryIn > floor+o.MaxBackoff {
			t.Errorf("retry in %v, want %v and at most %v more", d.RetryIn, floor, o.MaxBackoff)
		}
	}
	_, p := s.dial(o)
	start := time.Now()
	p.notice("bye", wire.Bye{Reason: "drain", RetryAfterMS: asked.Milliseconds()})
	p.close(wire.CloseRestart)
	within(<-lost, asked)

	p = s.accept()
	if d := time.Since(start); d < asked {
		t.Errorf("came back after %v, want %v at least", d, asked)
	}
	e := wire.ErrUnavailable()
	e.Data.RetryAfterMS = asked.Milliseconds()
	f := p.want("resume")
	s.mu.Lock()
	s.refuse = []string{"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"}
	s.mu.Unlock()
	p.refuse(f, e)
	within(<-lost, asked)
	within(<-lost, time.Second)
	p = s.accept()
	p.answer(p.want("resume"), resumed())
}

// A node that is slow may take a resume up whose client has given it up, and
// come before the one that was answered.
func TestReconnect_AResumeOfItsOwnThatComesLateDoesNotEndIt(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(options(s))
	p.cut()
	p = s.accept()
	p.want("resume")
	p.cut() // and it may be taken up
	p = s.accept()
	p.answer(p.want("resume"), resumed())
	p.close(wire.CloseReplaced)
	p = s.accept()
	p.answer(p.want("resume"), resumed())
	p.close(wire.CloseReplaced) // no more doubt: this is another client
	<-c.Done()
	var ce *client.CloseError
	if !errors.As(c.Err(), &ce) || ce.Code != wire.CloseReplaced {
		t.Errorf("ended with %v, want close code 4101", c.Err())
	}
}

func TestReconnect_TriesTheAddressesInTurn(t *testing.T) {
	a, b := newScript(t), newScript(t)
	o := options(a)
	o.URLs = append(o.URLs, b.url())
	_, p := a.dial(o)
	p.cut()
	p = b.accept()
	p.want("resume")
	p.close(wire.CloseGoingAway)
	p = a.accept()
	p.answer(p.want("resume"), resumed())
}

func TestSilence_ASocketOnWhichNothingIsHeardIsGivenUp(t *testing.T) {
	s := newScript(t)
	res := async(func() (*client.Client, error) { return client.Dial(t.Context(), options(s)) })
	p := s.accept()
	h := hello()
	h.Timers.PingMS = -2450 // two pings and the slack of 5 s make 100 ms
	p.answer(p.want("hello"), h)
	c, err := res(t)
	if err != nil {
		t.Fatal(err)
	}
	p = s.accept()
	p.answer(p.want("resume"), resumed())
	if err := c.Close(t.Context()); err == nil {
		t.Log("closed while attached")
	}
}

func TestPing_IsAnsweredWithItsPayload(t *testing.T) {
	s := newScript(t)
	_, p := s.dial(options(s))
	pong := make(chan string, 1)
	p.pong.Store(&pong)
	if err := p.ws.WritePing([]byte("p1")); err != nil {
		t.Fatal(err)
	}
	if got := <-pong; got != "p1" {
		t.Errorf("pong has payload %q, want p1", got)
	}
}

func jwt(exp time.Time) string {
	claims := fmt.Sprintf(`{"sub":"ann","exp":%.3f}`, float64(exp.UnixMilli())/1000)
	return "h." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".s"
}

func TestToken_IsReplacedBeforeItExpires(t *testing.T) {
	s := newScript(t)
	o := options(s)
	var asked atomic.Int32
	start := time.Now()
	first := jwt(start.Add(500 * time.Millisecond))
	o.Token = func(context.Context) (string, error) {
		switch asked.Add(1) {
		case 1:
			return first, nil
		case 2:
			return "second", nil
		}
		return "third", nil
	}
	_, p := s.dial(o)
	f := p.want("hello.refresh")
	if d := time.Since(start); d < 300*time.Millisecond {
		t.Errorf("replaced after %v, want four fifths of 500 ms", d)
	}
	if got := param[wire.Refresh](t, f).Token; got != "second" {
		t.Errorf("refresh with token %q, want a fresh one", got)
	}
	p.answer(f, wire.Refreshed{ExpiresInMS: 1300})
	f = p.want("hello.refresh") // planned by the answer, over a lost connection too
	p.cut()
	p = s.accept()
	p.answer(p.want("resume"), resumed())
	if got := param[wire.Refresh](t, p.want("hello.refresh")).Token; got != "third" {
		t.Errorf("refresh with token %q, want a fresh one", got)
	}
	_ = f
}

func TestToken_StaleOnesEndTheClientAfterAFewTries(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(options(s))
	p.close(wire.CloseTokenExpired)
	for n := 0; ; n++ {
		select {
		case p := <-s.peers:
			p.refuse(p.want("hello"), wire.Errorf(wire.TokenExpired, "expired"))
			continue
		case <-c.Done():
		case <-time.After(patience):
			t.Fatal("still trying")
		}
		if n < 2 || n > 5 {
			t.Errorf("gave up after %d stale tokens, want a few", n)
		}
		break
	}
	if !client.Is(c.Err(), wire.TokenExpired) {
		t.Errorf("ended with %v, want token_expired", c.Err())
	}
}

func TestResume_FrameFitsTheLimitWhateverTheRooms(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(options(s))
	for i := range 250 {
		s.join(c, p, fmt.Sprintf("%03d%s", i, strings.Repeat(`"`, 197)), 1)
	}
	p.cut()
	p = s.accept()
	f := p.want("resume")
	if n := len(f.Params); n > 65536-100 {
		t.Errorf("resume has %d bytes, over the frame limit", n)
	}
	if n := len(param[wire.Resume](t, f).Positions); n < 100 {
		t.Errorf("resume has %d positions, want as many as fit", n)
	}
}
