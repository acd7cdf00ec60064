package binary

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"godwit/e2e/raw"
	"godwit/handlers/socket"
	"godwit/rules/handle"
	"godwit/server/auth"
	"godwit/server/session"
	"godwit/wire"
	"godwit/wire/chatd"
)

// doorman is a node that takes every token, for claims of the test's, and
// refuses every session for a reason of the test's.
type doorman struct {
	claims auth.Claims
	bad    *wire.Error
	no     *wire.Error
	// handles answers HandlesOf.
	handles func(ctx context.Context, users []string) ([]handle.Handle, error)
}

func (doorman) Admit() *session.Refusal { return nil }
func (doorman) Left()                   {}

func (doorman) Login(context.Context, session.Socket, string, jsontext.Value) (*session.Session, session.Reply) {
	panic("nobody speaks JSON here")
}

func (d doorman) Verify(context.Context, string) (auth.Claims, *wire.Error) { return d.claims, d.bad }

func (d doorman) Enter(context.Context, session.Socket, session.Entry) (*session.Session, session.Reply) {
	return nil, session.Reply{Err: d.no}
}

func (d doorman) HandlesOf(ctx context.Context, users []string) ([]handle.Handle, error) {
	return d.handles(ctx, users)
}

func (doorman) UserOf(context.Context, handle.Handle) (string, error) { return "", nil }

// serve runs a doorman's ways in, and gives the URL of the one.
func serve(t *testing.T, d doorman) string {
	t.Helper()
	sockets := socket.New(socket.Config{HelloTimeout: time.Minute, Ping: time.Minute, MaxFrame: 1 << 16, Outbox: 1 << 16}, d, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { _ = sockets.Run(ctx) })
	srv := httptest.NewServer(Chatd(Config{MessageBytes: 100}, d, sockets))
	t.Cleanup(func() {
		cancel()
		run.Wait()
		srv.Close()
	})
	return "ws" + strings.TrimPrefix(srv.URL, "http") + "/v1/chatd/r"
}

func TestHello_ThatCannotBeServedIsAnsweredAndClosed(t *testing.T) {
	later := auth.Claims{User: "ann", Expires: time.Now().Add(time.Hour)}
	for _, c := range []struct {
		name   string
		door   doorman
		answer string
		code   wire.CloseCode
	}{
		{"the token expired since the upgrade", doorman{claims: auth.Claims{User: "ann", Expires: time.Now()}}, "", wire.CloseTokenExpired},
		{"no room of the token's", doorman{claims: auth.Claims{User: "ann", Expires: later.Expires, Rooms: []string{"x"}}}, "7f 01 06", wire.CloseSignedOut},
		{"a room without a place", doorman{claims: later, no: wire.Errorf(wire.RoomFull, "")}, "7f 01 06", wire.CloseSignedOut},
		{"no store", doorman{claims: later, no: wire.ErrUnavailable()}, "7f 01 07", wire.CloseRestart},
		{"a bug", doorman{claims: later, no: wire.ErrInternal()}, "7f 01 07", wire.CloseRestart},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := raw.DialChatd(serve(t, c.door), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Drop()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if err := p.Say(raw.Hex("01 0100 0000"), raw.Hex("03 01")); err != nil {
				t.Fatal(err)
			}
			if c.answer != "" {
				if b, err := p.Next(ctx); err != nil || string(b) != string(raw.Hex(c.answer)) {
					t.Fatalf("answered %x, %v, want %s", b, err, c.answer)
				}
			}
			if end, err := p.End(ctx); err != nil || end.Code != c.code {
				t.Errorf("%v, %v, want close %s", end, err, c.code)
			}
			if b, err := p.Next(ctx); err == nil {
				t.Errorf("and then came %x", b)
			}
		})
	}
}

func TestUpgrade_WithoutTheKeysOfTokensIs503(t *testing.T) {
	_, err := raw.DialChatd(serve(t, doorman{bad: wire.Errorf(wire.Unavailable, "no keys")}), nil)
	if r, ok := err.(*raw.Refused); !ok || r.Status != 503 || r.RetryAfter == "" {
		t.Errorf("%v, want 503 with Retry-After", err)
	}
}

func TestReason_OfEveryRefusal(t *testing.T) {
	for reason, want := range map[wire.Reason]byte{
		wire.TooLarge: 3, wire.NoRecipient: 4, wire.RateLimited: 5, wire.Forbidden: 6, wire.NotMember: 6,
		wire.RoomFull: 6, wire.TooManyRooms: 6, wire.Moved: 6, wire.NoSession: 6, wire.Unavailable: 7, "to come": 7,
	} {
		if got := reasonOf(wire.Errorf(reason, "")); byte(got) != want {
			t.Errorf("%s is %d, want %d", reason, got, want)
		}
	}
	for _, c := range []struct {
		err  *wire.Error
		want byte
	}{{wire.ErrParams(""), 1}, {wire.ErrMethod(""), 7}, {wire.ErrInternal(), 7}} {
		if got := reasonOf(c.err); byte(got) != c.want {
			t.Errorf("%d is %d, want %d", c.err.Code, got, c.want)
		}
	}
}

// One frame for all who get an event, whatever they are.
func TestEvent_IsOneFrameForEverybody(t *testing.T) {
	ev := &wire.RoomEvent{Kind: wire.KindMessage, From: wire.Member{User: "ann", Client: 7}, Data: wire.Raw(`{"b64":"aGk="}`)}
	one, other := (&chat{client: 1}).Event(ev), (&chat{client: 2}).Event(ev)
	if len(one) == 0 || &one[0] != &other[0] {
		t.Error("two connections got two frames")
	}
	first := handle.First("ann").Handle()
	if want := (chatd.RTMsg{User: first, Client: 7, Msg: []byte("hi")}).Append(nil); string(one) != string(want) {
		t.Errorf("the frame is %x, want %x", one, want)
	}
	system := &wire.RoomEvent{Kind: wire.KindMessage, Data: wire.Raw(`1`)}
	if got := (&chat{client: 1}).Event(system); string(got) != string((chatd.RTMsg{Msg: []byte("1")}).Append(nil)) {
		t.Errorf("the system's is %x, want user 0 and client 0", got)
	}
	for _, in := range []bool{true, false} {
		c, flag := &chat{client: 1}, in
		call := &wire.RoomEvent{Kind: wire.KindCall, InCall: &flag}
		if got := c.Event(call); in != (len(got) == 2 && got[0] == 3 && got[1] == 1) {
			t.Errorf("in_call %t is %x", in, got)
		}
		if got := c.Event(call); got != nil {
			t.Errorf("in_call %t once more is %x, want nothing", in, got)
		}
		if got := c.Notice("room.reset", wire.Reset{InCall: !in}); len(got) != 2 {
			t.Errorf("a reset to in_call %t is %x", !in, got)
		}
	}
}
