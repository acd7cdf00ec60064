package binary_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"godwit/e2e/raw"
	"godwit/internal/trial"
	"godwit/wire"
)

// bubble runs a test with one node in virtual time.
func bubble(t *testing.T, change func(*trial.Settings), test func(t *testing.T, f *trial.Fleet)) {
	synctest.Test(t, func(t *testing.T) {
		f := trial.Start(trial.Options{Bubble: true, Change: change})
		defer f.Close()
		test(t, f)
	})
}

// peer is a connection of a binary dialect. What fails ends the test.
type peer struct {
	*raw.Binary
	t      *testing.T
	client uint32
}

func bearer(user string) http.Header {
	return http.Header{"Authorization": {"Bearer dev:" + user}}
}

// open dials a path of the first node, as chatd or statusd.
func open(t *testing.T, f *trial.Fleet, path string, header http.Header) *peer {
	t.Helper()
	conn, err := f.Dial(t.Context(), "tcp", "n1:80")
	if err != nil {
		t.Fatal(err)
	}
	over := raw.OverChatd
	if path == "/v1/statusd" {
		over = raw.OverStatusd
	}
	c, err := over(conn, "ws://n1:80"+path, header)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Drop)
	return &peer{Binary: c, t: t}
}

var helloOne = raw.Hex("01 0100 0000")

// enter is a new chatd session in the room.
func enter(t *testing.T, f *trial.Fleet, room, user string) *peer {
	t.Helper()
	p := open(t, f, "/v1/chatd/"+room, bearer(user))
	p.say(helloOne)
	b := p.next()
	if b[0] != 0x01 {
		t.Fatalf("HELLO is answered %x", b)
	}
	p.client = uint32(b[1]) | uint32(b[2])<<8 | uint32(b[3])<<16 | uint32(b[4])<<24
	if p.client == 0 {
		t.Fatal("client 0 is nobody")
	}
	p.hears("03 00")
	return p
}

func (p *peer) say(commands ...[]byte) {
	p.t.Helper()
	if err := p.Say(commands...); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) next() []byte {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 5*time.Second)
	defer cancel()
	b, err := p.Next(ctx)
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

// hears expects the next command.
func (p *peer) hears(want string) {
	p.t.Helper()
	if got := p.next(); !bytes.Equal(got, raw.Hex(want)) {
		p.t.Fatalf("heard %x, want %s", got, want)
	}
}

// gets expects a message of a sender next.
func (p *peer) gets(handle string, client uint32, kind byte, msg string) {
	p.t.Helper()
	if got, want := p.next(), raw.RTMsg(handle, client, kind, []byte(msg)); !bytes.Equal(got, want) {
		p.t.Fatalf("heard %x, want %x (%q)", got, want, msg)
	}
}

// quiet expects that all that was caused has come and was taken.
func (p *peer) quiet() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 2*time.Second)
	defer cancel()
	if b, err := p.Next(ctx); err == nil {
		p.t.Fatalf("heard %x, want nothing", b)
	} else if p.Closed() != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) ends(code wire.CloseCode) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	end, err := p.End(ctx)
	if err != nil || end.Code != code {
		p.t.Fatalf("%v, %v, want close %s", end, err, code)
	}
}

// guest is a session on /v1/ws.
type guest struct {
	*raw.Conn
	t  *testing.T
	is wire.Session
}

func ws(t *testing.T, f *trial.Fleet, room, user string) *guest {
	t.Helper()
	conn, err := f.Dial(t.Context(), "tcp", "n1:80")
	if err != nil {
		t.Fatal(err)
	}
	c, err := raw.Over(conn, "ws://n1:80/v1/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Drop)
	g := &guest{Conn: c, t: t}
	g.must("hello", wire.Hello{Token: "dev:" + user}, &g.is)
	if room != "" {
		g.must("room.join", wire.Join{Room: room}, nil)
	}
	return g
}

func (g *guest) must(method string, params, result any) {
	g.t.Helper()
	if err := g.Call(g.t.Context(), method, params, result); err != nil {
		g.t.Fatalf("%s: %v", method, err)
	}
}

// event is the next room event; other notices are passed over.
func (g *guest) event() *wire.RoomEvent {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), time.Minute)
	defer cancel()
	for {
		n, err := g.Next(ctx)
		if err != nil {
			g.t.Fatalf("waiting for a room event: %v", err)
		}
		if n.Event != nil {
			return n.Event
		}
	}
}

// seesNoMore expects no room event among what has come.
func (g *guest) seesNoMore() {
	g.t.Helper()
	for g.Untaken() > 0 {
		if n, err := g.Next(g.t.Context()); err != nil || n.Event != nil {
			g.t.Errorf("saw %+v, %v, want no further event", n.Event, err)
		}
	}
}

// sees expects an event next.
func (g *guest) sees(kind wire.Kind, client uint32) *wire.RoomEvent {
	g.t.Helper()
	ev := g.event()
	if ev.Kind != kind || ev.From.Client != client {
		g.t.Fatalf("saw %s of %d, want %s of %d", ev.Kind, ev.From.Client, kind, client)
	}
	return ev
}

func TestChatd_AndJSONHearEachOther(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
		ann := ws(t, f, "lobby", "ann")
		bob := enter(t, f, "lobby", "bob")
		if ev := ann.sees(wire.KindJoin, bob.client); ev.From.User != "bob" || ev.Seq != 2 {
			t.Errorf("bob's join is %+v", ev)
		}
		for i, msg := range []string{"hi", "", "\x00\xff\xfe", strings.Repeat("x", 1000), `{"b64":"x"}`} {
			bob.say(raw.RTMsg(raw.Nobody, 0, byte(i), []byte(msg)))
			ev := ann.sees(wire.KindMessage, bob.client)
			want := fmt.Sprintf(`{"b64":%q}`, b64(msg))
			if string(ev.Data) != want || ev.From.User != "bob" || *ev.Type != byte(i) || ev.To != nil || ev.Seq != uint64(3+i) {
				t.Errorf("%q came as %+v %s, want data %s", msg, ev, ev.Data, want)
			}
		}
		seven := uint8(7)
		for _, c := range []struct {
			data string
			kind *uint8
			want string
		}{
			{`{"b64":"aGk="}`, &seven, "hi"},
			{` { "b64" : "aGk=" } `, nil, "hi"},
			{`{"b64":"\/\/8="}`, nil, "\xff\xff"},
			{`{"b\u00364":""}`, nil, ""},
			{`{"b64":"aGk"}`, nil, `{"b64":"aGk"}`},
			{`{"b64":"a-_="}`, nil, `{"b64":"a-_="}`},
			{`{"b64":5}`, nil, `{"b64":5}`},
			{`{"b64":"aGk=","x":1}`, nil, `{"b64":"aGk=","x":1}`},
			{`{}`, nil, `{}`},
			{`[{"b64":"aGk="}]`, nil, `[{"b64":"aGk="}]`},
			{`"hi"`, &seven, `"hi"`},
			{`null`, nil, `null`},
			{`{ "a" : [ 1 ] }`, nil, `{ "a" : [ 1 ] }`},
		} {
			kind, member := byte(0), ""
			if c.kind != nil {
				kind, member = *c.kind, fmt.Sprintf(`,"type":%d`, *c.kind)
			}
			ann.Text(`{"jsonrpc":"2.0","method":"room.send","params":{"room":"lobby","data":` + c.data + member + `}}`)
			bob.gets(ann.is.Handle, ann.is.Client, kind, c.want)
		}
		ann.must("room.send", wire.Send{Room: "lobby", Data: wire.Raw(`"passing"`), Ephemeral: true}, nil)
		bob.gets(ann.is.Handle, ann.is.Client, 0, `"passing"`)
		bob.quiet() // joins and leaves are no commands
	})
}

func TestChatd_ReachesWhoIsAddressedAndNobodyElse(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
		ann := ws(t, f, "lobby", "ann")
		ann2 := enter(t, f, "lobby", "ann")
		bob, bob2 := enter(t, f, "lobby", "bob"), enter(t, f, "lobby", "bob")
		for _, c := range []*peer{ann2, bob, bob2} {
			ann.sees(wire.KindJoin, c.client)
		}
		bobs := handleOf(t, f, "bob")
		for _, c := range []struct {
			name   string
			user   string
			client uint32
			to     []*peer
			json   bool
		}{
			{"everyone", raw.Nobody, 0, []*peer{ann2, bob2}, true},
			{"a user", ann.is.Handle, 0, []*peer{ann2}, true},
			{"the sender's own user", bobs, 0, []*peer{bob2}, false},
			{"one device, JSON", ann.is.Handle, ann.is.Client, nil, true},
			{"one device", ann.is.Handle, ann2.client, []*peer{ann2}, false},
			{"one device, by its id alone", raw.Nobody, bob2.client, []*peer{bob2}, false},
		} {
			bob.say(raw.RTMsg(c.user, c.client, 9, []byte(c.name)))
			for _, p := range c.to {
				p.gets(bobs, bob.client, 9, c.name)
			}
			if c.json {
				ann.sees(wire.KindMessage, bob.client)
			}
		}
		for name, to := range map[string][]byte{
			"an unknown user":             raw.RTMsg("00000000000000ff", 0, 0, nil),
			"a user who is not there":     raw.RTMsg(handleOf(t, f, "eve"), 0, 0, nil),
			"a device who is not there":   raw.RTMsg(ann.is.Handle, 5, 0, nil),
			"another user's device":       raw.RTMsg(bobs, ann.is.Client, 0, nil),
			"the sending device":          raw.RTMsg(bobs, bob.client, 0, nil),
			"an unknown user's device":    raw.RTMsg("00000000000000ff", ann.is.Client, 0, nil),
			"a device alone, unknown too": raw.RTMsg(raw.Nobody, 5, 0, nil),
		} {
			t.Log(name)
			bob.say(to)
			bob.hears("7f 02 04")
		}
		for _, p := range []*peer{ann2, bob, bob2} {
			p.quiet()
		}
		ann.seesNoMore()
	})
}

// Whatever a client says of who it is, the server says who sends.
func TestChatd_ASenderCannotBeForged(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
		ann, bob, eve := ws(t, f, "lobby", "ann"), enter(t, f, "lobby", "bob"), enter(t, f, "lobby", "eve")
		ann.sees(wire.KindJoin, bob.client)
		ann.sees(wire.KindJoin, eve.client)
		ann.Text(fmt.Sprintf(`{"jsonrpc":"2.0","method":"room.send","from":{"user":"eve"},"params":{"room":"lobby","data":1,`+
			`"from":{"user":"eve","client":%d},"user":"eve","client":%[1]d,"handle":%q}}`, eve.client, handleOf(t, f, "eve")))
		bob.gets(ann.is.Handle, ann.is.Client, 0, "1")
		eve.gets(ann.is.Handle, ann.is.Client, 0, "1")
		// Where a sender stands on the way to a client, a client says who is to hear.
		bob.say(raw.RTMsg(handleOf(t, f, "eve"), eve.client, 0, []byte("me")))
		eve.gets(handleOf(t, f, "bob"), bob.client, 0, "me")
		ann.seesNoMore()
	})
}

// handleOf logs a user in once to be told its handle.
func handleOf(t *testing.T, f *trial.Fleet, user string) string {
	g := ws(t, f, "", user)
	g.must("bye", wire.Empty{}, nil)
	return g.is.Handle
}

// A second user with the same first handle: the sender's is the one that it has.
func TestChatd_ASendersHandleIsTheOneThatItHas(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
		first := handleOf(t, f, "ann")
		f.Redis.Set("gw:{h:"+first+"}:user", "another ann")
		bob := enter(t, f, "lobby", "bob")
		ann := ws(t, f, "lobby", "ann")
		if ann.is.Handle == first {
			t.Fatalf("ann still has %s", first)
		}
		ann.must("room.send", wire.Send{Room: "lobby", Data: wire.Raw(`1`)}, nil)
		bob.gets(ann.is.Handle, ann.is.Client, 0, "1")
		bob.say(raw.RTMsg(ann.is.Handle, 0, 0, []byte("hi")))
		ann.sees(wire.KindMessage, bob.client)
		bob.say(raw.RTMsg(first, 0, 0, []byte("hi")))
		bob.hears("7f 02 04")
	})
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
