package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"godwit/e2e/fleet"
	"godwit/e2e/raw"
	"godwit/wire"
)

// guest is one session on plain frames. What fails ends the test.
type guest struct {
	*raw.Conn
	t       *testing.T
	user    string
	session wire.Session
}

// within is a context that bounds one wait.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), fleet.Patience)
	t.Cleanup(cancel)
	return ctx
}

func dial(t *testing.T, n *fleet.Node) *raw.Conn {
	t.Helper()
	c, err := raw.Dial(n.URL, nil)
	if err != nil {
		t.Fatalf("dial %s: %v", n.Name, err)
	}
	t.Cleanup(c.Drop)
	return c
}

// enter is a new session of the user at the node.
func enter(t *testing.T, n *fleet.Node, user string) *guest {
	t.Helper()
	g := &guest{Conn: dial(t, n), t: t, user: user}
	g.must("hello", wire.Hello{Token: fleet.Token(user, time.Hour), Device: "of " + user}, &g.session)
	if g.session.Node != n.Name || g.session.User != user || g.session.Secret == "" || g.session.Resumed {
		t.Fatalf("hello as %s at %s answers %+v", user, n.Name, g.session)
	}
	return g
}

// resume takes the guest's session up at the node, on a new socket.
func (g *guest) resume(n *fleet.Node, positions map[string]wire.Position) *guest {
	g.t.Helper()
	h := &guest{Conn: dial(g.t, n), t: g.t, user: g.user}
	h.must("resume", wire.Resume{Session: g.session.Session, Secret: g.session.Secret, Positions: positions}, &h.session)
	if !h.session.Resumed || h.session.Client != g.session.Client || h.session.Gen <= g.session.Gen {
		g.t.Fatalf("%s resumed client %d gen %d, and is client %d gen %d (resumed %t)",
			g.user, g.session.Client, g.session.Gen, h.session.Client, h.session.Gen, h.session.Resumed)
	}
	h.session.Secret = g.session.Secret
	return h
}

func (g *guest) must(method string, params, result any) {
	g.t.Helper()
	if err := g.Call(within(g.t), method, params, result); err != nil {
		g.t.Fatalf("%s of %s: %v", method, g.user, err)
	}
}

// patiently is must for what may be repeated, as unavailable asks for: on a busy
// machine Redis may not answer in time.
func (g *guest) patiently(method string, params, result any) {
	g.t.Helper()
	for range 5 {
		err := g.Call(within(g.t), method, params, result)
		var refused *wire.Error
		if !errors.As(err, &refused) || refused.Reason() != wire.Unavailable {
			if err != nil {
				g.t.Fatalf("%s of %s: %v", method, g.user, err)
			}
			return
		}
	}
	g.t.Fatalf("%s of %s: unavailable, five times", method, g.user)
}

func (g *guest) join(room string) wire.Joined {
	g.t.Helper()
	var j wire.Joined
	g.patiently("room.join", wire.Join{Room: room}, &j)
	return j
}

// words is the params of a send of a short text; cseq 0 is none.
func words(room, text string, cseq uint64) wire.Send {
	s := wire.Send{Room: room, Data: wire.Raw(`"` + text + `"`)}
	if cseq != 0 {
		s.CSeq = &cseq
	}
	return s
}

func (g *guest) say(room, text string, cseq uint64) wire.Sent {
	g.t.Helper()
	var s wire.Sent
	call := g.patiently
	if cseq == 0 {
		call = g.must // a repeat might double it
	}
	call("room.send", words(room, text, cseq), &s)
	return s
}

// event is the next room event; other notices are passed over.
func (g *guest) event() *wire.RoomEvent {
	g.t.Helper()
	for {
		n, err := g.Next(within(g.t))
		if err != nil {
			g.t.Fatalf("%s waits for a room event: %v", g.user, err)
		}
		if n.Event != nil {
			return n.Event
		}
	}
}

// sees expects the next room event to be this message.
func (g *guest) sees(text string) *wire.RoomEvent {
	g.t.Helper()
	e := g.event()
	if e.Kind != wire.KindMessage || string(e.Data) != `"`+text+`"` {
		g.t.Fatalf("%s sees %s, want the message %q", g.user, describe(e), text)
	}
	return e
}

// seesKind expects the next room event to be a join or leave of another guest.
func (g *guest) seesKind(kind wire.Kind, reason string, who *guest) *wire.RoomEvent {
	g.t.Helper()
	e := g.event()
	if e.Kind != kind || e.Reason != reason || e.From.Client != who.session.Client {
		g.t.Fatalf("%s sees %s, want %s (%s) of %s", g.user, describe(e), kind, reason, who.user)
	}
	return e
}

// notice is the next notice of that method; room events are passed over.
func (g *guest) notice(method string) raw.Notice {
	g.t.Helper()
	for {
		n, err := g.Next(within(g.t))
		if err != nil {
			g.t.Fatalf("%s waits for %s: %v", g.user, method, err)
		}
		if n.Method == method {
			return n
		}
	}
}

// hearsNothing expects that no room event comes in the time.
func (g *guest) hearsNothing(d time.Duration) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), d)
	defer cancel()
	for {
		n, err := g.Next(ctx)
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return
		case err != nil:
			g.t.Fatalf("%s listens for nothing: %v", g.user, err)
		case n.Event != nil:
			g.t.Fatalf("%s sees %s, want nothing for %s", g.user, describe(n.Event), d)
		}
	}
}

// isClosed expects the end of the socket with the code.
func (g *guest) isClosed(code wire.CloseCode) {
	g.t.Helper()
	end, err := g.End(within(g.t))
	if err != nil {
		g.t.Fatalf("%s waits for a close %s: %v", g.user, code, err)
	}
	if end.Code != code {
		g.t.Fatalf("%s: %v, want close %s", g.user, end, code)
	}
}

func describe(e *wire.RoomEvent) string {
	return fmt.Sprintf("%s %d of %s/%d %s %s", e.Kind, e.Seq, e.From.User, e.From.Client, e.Reason, e.Data)
}

// refusal is the reason of an application error, or "".
func refusal(err error) wire.Reason {
	var w *wire.Error
	if errors.As(err, &w) {
		return w.Reason()
	}
	return ""
}
