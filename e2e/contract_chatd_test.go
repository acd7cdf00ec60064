package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"godwit/e2e/fleet"
	"godwit/e2e/raw"
	"godwit/wire"
)

// chatter is one chatd connection, on plain bytes. What fails ends the test.
type chatter struct {
	*raw.Binary
	t      *testing.T
	client uint32
}

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

// knock dials a room of chatd at the node, and says nothing yet.
func knock(t *testing.T, n *fleet.Node, room, token string) *chatter {
	t.Helper()
	c, err := raw.DialChatd(strings.TrimSuffix(n.URL, "/v1/ws")+"/v1/chatd/"+room, bearer(token))
	if err != nil {
		t.Fatalf("dial chatd at %s: %v", n.Name, err)
	}
	t.Cleanup(c.Drop)
	return &chatter{Binary: c, t: t}
}

// talk is a new session of the user in the room.
func talk(t *testing.T, n *fleet.Node, room, user string) *chatter {
	t.Helper()
	p := knock(t, n, room, fleet.Token(user, time.Hour))
	p.tell(raw.Hex("01 0100 0000"))
	b := p.next()
	if b[0] != 0x01 {
		t.Fatalf("HELLO of %s is answered %x", user, b)
	}
	p.client = uint32(b[1]) | uint32(b[2])<<8 | uint32(b[3])<<16 | uint32(b[4])<<24
	p.hears("03 00")
	return p
}

func (p *chatter) tell(commands ...[]byte) {
	p.t.Helper()
	if err := p.Say(commands...); err != nil {
		p.t.Fatal(err)
	}
}

func (p *chatter) next() []byte {
	p.t.Helper()
	b, err := p.Next(within(p.t))
	if err != nil {
		p.t.Fatalf("client %d waits for a command: %v", p.client, err)
	}
	return b
}

func (p *chatter) hears(want string) {
	p.t.Helper()
	if got := p.next(); !bytes.Equal(got, raw.Hex(want)) {
		p.t.Fatalf("client %d heard %x, want %s", p.client, got, want)
	}
}

func (p *chatter) gets(handle string, client uint32, kind byte, msg string) {
	p.t.Helper()
	if got, want := p.next(), raw.RTMsg(handle, client, kind, []byte(msg)); !bytes.Equal(got, want) {
		p.t.Fatalf("client %d heard %x, want %x (%q)", p.client, got, want, msg)
	}
}

// hearsNothing expects that no command comes in the time.
func (p *chatter) hearsNothing(d time.Duration) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), d)
	defer cancel()
	if b, err := p.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		p.t.Fatalf("client %d heard %x, %v, want nothing for %s", p.client, b, err, d)
	}
}

func (p *chatter) isClosed(code wire.CloseCode) {
	p.t.Helper()
	end, err := p.End(within(p.t))
	if err != nil || end.Code != code {
		p.t.Fatalf("client %d: %v, %v, want close %s", p.client, end, err, code)
	}
}

// seesClient expects the next room event to be a chatd client's.
func (g *guest) seesClient(kind wire.Kind, who *chatter) *wire.RoomEvent {
	g.t.Helper()
	e := g.event()
	if e.Kind != kind || e.From.Client != who.client {
		g.t.Fatalf("%s sees %s, want %s of client %d", g.user, describe(e), kind, who.client)
	}
	return e
}

func opaque(msg string) string {
	return `{"b64":"` + base64.StdEncoding.EncodeToString([]byte(msg)) + `"}`
}

func TestChatd_AJSONClientAndAChatdClientAreInOneRoom(t *testing.T) {
	f := fleet.Start(t, fleet.Options{Nodes: 2})
	ann := enter(t, f.Nodes[0], "ann")
	ann.join("a/b c")
	bob := talk(t, f.Nodes[1], "a%2Fb%20c", "bob")
	if e := ann.seesClient(wire.KindJoin, bob); e.From.User != "bob" {
		t.Errorf("ann sees %s", describe(e))
	}
	for i, msg := range []string{"hi", "", "\x00\xff", strings.Repeat("x", 20_000)} {
		bob.tell(raw.RTMsg(raw.Nobody, 0, byte(i), []byte(msg)))
		e := ann.seesClient(wire.KindMessage, bob)
		if string(e.Data) != opaque(msg) || *e.Type != byte(i) || e.From.User != "bob" {
			t.Errorf("%d bytes came as %s of type %d", len(msg), describe(e), *e.Type)
		}
	}
	for data, want := range map[string]string{opaque("\xfe"): "\xfe", `"hi"`: `"hi"`, `[{"b64":""}]`: `[{"b64":""}]`} {
		ann.must("room.send", wire.Send{Room: "a/b c", Data: wire.Raw(data)}, nil)
		bob.gets(ann.session.Handle, ann.session.Client, 0, want)
	}
	// Each is a view of one log.
	var past wire.Past
	ann.must("room.history", wire.History{Room: "a/b c"}, &past)
	if n := len(past.Events); n != 8 {
		t.Errorf("the room's past has %d events, want the join and 7 messages", n)
	}
}

func TestChatd_AMessageReachesWhoIsAddressedAtAnyNode(t *testing.T) {
	f := fleet.Start(t, fleet.Options{})
	ann := enter(t, f.Nodes[0], "ann")
	ann.join("lobby")
	ann2 := talk(t, f.Nodes[1], "lobby", "ann")
	ann.seesClient(wire.KindJoin, ann2)
	bob := talk(t, f.Nodes[2], "lobby", "bob")
	ann.seesClient(wire.KindJoin, bob)
	anns, bobs := ann.session.Handle, enter(t, f.Nodes[0], "bob").session.Handle

	bob.tell(raw.RTMsg(raw.Nobody, 0, 1, []byte("all")))
	ann.seesClient(wire.KindMessage, bob)
	ann2.gets(bobs, bob.client, 1, "all")
	bob.tell(raw.RTMsg(anns, 0, 2, []byte("ann")))
	if e := ann.seesClient(wire.KindMessage, bob); e.To == nil || *e.To.User != "ann" || e.To.Client != nil {
		t.Errorf("to all of ann's came as %s to %+v", describe(e), e.To)
	}
	ann2.gets(bobs, bob.client, 2, "ann")
	bob.tell(raw.RTMsg(anns, ann2.client, 3, []byte("one device")))
	ann2.gets(bobs, bob.client, 3, "one device")
	ann2.tell(raw.RTMsg(anns, ann.session.Client, 4, []byte("between devices")))
	if e := ann.seesClient(wire.KindMessage, ann2); string(e.Data) != opaque("between devices") {
		t.Errorf("ann sees %s", describe(e))
	}
	for _, to := range [][]byte{
		raw.RTMsg("00000000000000ff", 0, 0, nil), raw.RTMsg(anns, 77, 0, nil),
		raw.RTMsg(bobs, ann2.client, 0, nil), raw.RTMsg(bobs, 0, 0, nil),
	} {
		bob.tell(to)
		bob.hears("7f 02 04")
	}
	for _, p := range []*chatter{ann2, bob} {
		p.hearsNothing(time.Second)
	}
	ann.hearsNothing(time.Second)
}

func TestChatd_OneOrderForMembersOfBothKinds(t *testing.T) {
	f := fleet.Start(t, fleet.Options{})
	const each = 50
	ann := enter(t, f.Nodes[0], "ann")
	ann.join("lobby")
	var all []*chatter
	for i := range 3 {
		all = append(all, talk(t, f.Nodes[i], "lobby", fmt.Sprintf("user%d", i)))
	}
	for range all {
		ann.event() // a join
	}
	for i := range each { // pipelined, all at once, two to a frame
		for j, p := range all {
			text := fmt.Sprintf("%d from %d", i, j)
			p.tell(raw.RTMsg(raw.Nobody, 0, 0, []byte(text)), raw.RTMsg(raw.Nobody, 0, 1, []byte(text)))
		}
	}
	var order []string
	for range 2 * each * len(all) {
		e := ann.event()
		order = append(order, fmt.Sprintf("%d %d %s", e.From.Client, *e.Type, e.Data))
	}
	for _, p := range all {
		for _, want := range order {
			if strings.HasPrefix(want, fmt.Sprintf("%d ", p.client)) {
				continue
			}
			b := p.next()
			from := uint32(b[9]) | uint32(b[10])<<8 | uint32(b[11])<<16 | uint32(b[12])<<24
			if got := fmt.Sprintf("%d %d %s", from, b[13], opaque(string(b[17:]))); got != want {
				t.Fatalf("client %d hears %s, ann %s", p.client, got, want)
			}
		}
	}
}

// limited is a token for some rooms.
func limited(t *testing.T, user string, life time.Duration, rooms ...string) string {
	t.Helper()
	s, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": user, "exp": time.Now().Add(life).Unix(), "rooms": rooms,
	}).SignedString([]byte(fleet.Secret))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestChatd_ATokenIsCheckedBeforeTheUpgradeAndItsRoomsAtHELLO(t *testing.T) {
	f := fleet.Start(t, fleet.Options{Nodes: 1})
	n := f.Nodes[0]
	for what, token := range map[string]string{
		"expired": limited(t, "ann", -time.Minute, "*"), "none": "", "a dev token": "dev:ann", "cut": fleet.Token("ann", time.Hour)[:40],
	} {
		for _, path := range []string{"/v1/chatd/lobby", "/v1/statusd"} {
			_, err := raw.DialChatd(strings.TrimSuffix(n.URL, "/v1/ws")+path, bearer(token))
			var r *raw.Refused
			if !errors.As(err, &r) || r.Status != http.StatusUnauthorized {
				t.Errorf("%s at %s: %v, want 401", what, path, err)
			}
		}
	}
	p := knock(t, n, "secret", limited(t, "ann", time.Hour, "lobby", "open.*"))
	p.tell(raw.Hex("01 0100 0000"))
	p.hears("7f 01 06")
	p.isClosed(wire.CloseSignedOut)
	p = knock(t, n, "open.day", limited(t, "ann", 10*time.Second, "lobby", "open.*"))
	p.tell(raw.Hex("01 0100 0000"))
	if b := p.next(); b[0] != 1 {
		t.Errorf("a room of the token: %x", b)
	}
	p.isClosed(wire.CloseTokenExpired)
}

func TestChatd_ADrainCloses1012AndWhoDialsAgainGoesOn(t *testing.T) {
	f := fleet.Start(t, fleet.Options{Nodes: 2, Env: map[string]string{"GODWIT_GRACE": "10s", "GODWIT_DRAIN_BUDGET": "10s"}})
	ann := enter(t, f.Nodes[1], "ann")
	ann.join("lobby")
	bob := talk(t, f.Nodes[0], "lobby", "bob")
	ann.seesClient(wire.KindJoin, bob)
	status, err := raw.DialStatusd(strings.TrimSuffix(f.Nodes[0].URL, "/v1/ws")+"/v1/statusd", bearer(fleet.Token("bob", time.Hour)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(status.Drop)
	if err := status.Say(raw.Hex("01 0100 83 00")); err != nil {
		t.Fatal(err)
	}
	if b, err := status.Next(within(t)); err != nil || !bytes.Equal(b, raw.Hex("10 0000000000000000 03")) {
		t.Errorf("statusd's HELLO is answered %x, %v", b, err)
	}
	f.Nodes[0].Term()
	bob.isClosed(wire.CloseRestart)
	if end, err := status.End(within(t)); err != nil || end.Code != wire.CloseRestart {
		t.Errorf("statusd: %v, %v, want close %s", end, err, wire.CloseRestart)
	}
	again := talk(t, f.Nodes[1], "lobby", "bob")
	ann.seesClient(wire.KindJoin, again)
	again.tell(raw.RTMsg(raw.Nobody, 0, 0, []byte("back")))
	ann.seesClient(wire.KindMessage, again)
	if e := ann.seesClient(wire.KindLeave, bob); e.Reason != wire.LeftLost {
		t.Errorf("the old one %s, want %s", describe(e), wire.LeftLost)
	}
	if code, err := f.Nodes[0].Exit(fleet.Patience); err != nil || code != 0 {
		t.Errorf("the node exits %d, %v", code, err)
	}
}

func TestChatd_WhoIsKickedIsClosed4403(t *testing.T) {
	f := fleet.Start(t, fleet.Options{Nodes: 2, Env: map[string]string{"GODWIT_ADMIN_TOKEN": adminToken}})
	ann := enter(t, f.Nodes[0], "ann")
	ann.join("lobby")
	bob := talk(t, f.Nodes[0], "lobby", "bob")
	ann.seesClient(wire.KindJoin, bob)
	url := fmt.Sprintf("http://%s/admin/v1/rooms/lobby/members/%d", f.Nodes[1].Admin, bob.client)
	req, err := http.NewRequestWithContext(within(t), http.MethodDelete, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = bearer(adminToken)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusNoContent {
		t.Fatalf("the kick is answered %s", res.Status)
	}
	bob.isClosed(wire.CloseSignedOut)
	if e := ann.seesClient(wire.KindLeave, bob); e.Reason != wire.LeftKicked {
		t.Errorf("ann sees %s, want it kicked", describe(e))
	}
	ann.hearsNothing(time.Second) // no second leave, as its session ends
	again := talk(t, f.Nodes[0], "lobby", "bob")
	ann.seesClient(wire.KindJoin, again)
}
