package main

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"godwit/client"
	api "godwit/handlers/admin"
)

func TestInspect_AFleetIsShownAsItIs(t *testing.T) {
	c := startCrew(t)
	env := []string{opsToken, "USER=eve"}
	room := "team/50% \U0001F426"
	var sid string
	var talker *client.Client
	const name = "bob/50% \U0001F426"
	for i, who := range []string{"dev:ann", "dev:" + name} {
		p, err := login(t, c.urls[i], who)
		if err != nil {
			t.Fatal(err)
		}
		talker = p
		for _, name := range []string{room, "other"} {
			if _, err := p.Join(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
		sid = p.Session().Session
	}
	show := func(args ...string) string {
		t.Helper()
		code, out, errs := once(env, append(args, "--admin", c.admins[1])...)
		if code != 0 {
			t.Fatalf("%v: exit %d\n%s%s", args, code, out, errs)
		}
		return out
	}
	has := func(out string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("no %q in:\n%s", w, out)
			}
		}
	}
	has(show("nodes"), "NODE", "n1", "n2")
	out := show("rooms")
	has(out, "ROOM", room+"  2        2", "other")
	if out = show("rooms", "team/50%"); !strings.Contains(out, room) || strings.Contains(out, "other") {
		t.Errorf("with a prefix:\n%s", out)
	}
	if out = show("room", room); strings.Contains(out, "IN THE CALL") {
		t.Errorf("nobody is in its call:\n%s", out)
	}
	has(out, "ann", "bob", "n1", "n2", "live", sid)
	if _, err := talker.Call(t.Context(), room); err != nil {
		t.Fatal(err)
	}
	_, in, _ := strings.Cut(show("room", room), "IN THE CALL")
	if has(in, name); strings.Contains(in, "ann") {
		t.Errorf("ann is in no call:\n%s", in)
	}
	has(show("session", sid), "user     "+name, "n2 (", "in room  other", "in room  "+room)

	has(show("user", name), "user      "+name, "presence  3", "in room   other", "in room   "+room, "a timer", "n2", "live", sid)
	has(show("user", "nobody"), "user      nobody", "presence  0")

	var rooms []api.RoomState
	if err := json.Unmarshal([]byte(show("rooms", "--json")), &rooms); err != nil || len(rooms) != 2 || rooms[1].Room != room || rooms[1].MemberCount != 2 {
		t.Errorf("as JSON: %+v, %v", rooms, err)
	}
	var one api.Room
	if err := json.Unmarshal([]byte(show("room", room, "--json")), &one); err != nil || one.Room != room || len(one.Members) != 2 {
		t.Errorf("as JSON: %+v, %v", one, err)
	}
	var session api.Session
	if err := json.Unmarshal([]byte(show("session", sid, "--json")), &session); err != nil || session.User != name || len(session.Rooms) != 2 {
		t.Errorf("as JSON: %+v, %v", session, err)
	}
	var u api.User
	if err := json.Unmarshal([]byte(show("user", name, "--json")), &u); err != nil || u.User != name || len(u.Devices) != 1 || u.Devices[0].Session != sid ||
		len(u.Sessions) != 1 || len(u.Sessions[0].Rooms) != 2 || len(u.Rooms) != 2 {
		t.Errorf("as JSON: %+v, %v", u, err)
	}
	var nodes []api.Node
	if err := json.Unmarshal([]byte(show("nodes", "--json")), &nodes); err != nil || len(nodes) != 2 {
		t.Errorf("as JSON: %+v, %v", nodes, err)
	}
	for _, w := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"room", "nowhere"}, 1, "no such room: nowhere (404)"},
		{[]string{"session", "nobody"}, 1, "no such session: nobody (404)"},
		{[]string{"user", strings.Repeat("n", 129)}, 1, "at most 128 are allowed (422)"},
		{[]string{"user"}, 2, "usage: godwit user NAME"},
		{[]string{"room"}, 2, "usage: godwit room NAME"},
		{[]string{"rooms", "a", "b"}, 2, "usage: godwit rooms [PREFIX]"},
		{[]string{"nodes", "x"}, 2, "usage: godwit nodes"},
	} {
		code, _, errs := once(env, append(w.args, "--admin", c.admins[0])...)
		if code != w.code || !strings.Contains(errs, w.says) {
			t.Errorf("%v: exit %d, %s; want %d and %q", w.args, code, errs, w.code, w.says)
		}
	}
	// A change names who made it, in the log of the node that was asked.
	a := &operator{env: env, url: c.admins[0]}
	closed, err := a.open()
	if err != nil {
		t.Fatal(err)
	}
	defer closed()
	var said api.Said
	if err := a.call(t.Context(), http.MethodPost, "/rooms/other/messages", map[string]any{"data": 1}, &said); err != nil || said.Seq != 3 {
		t.Errorf("said: %+v, %v", said, err)
	}
	c.nodes[0].await(`"admin change".*"path":"/admin/v1/rooms/other/messages","status":200,"operator":"eve@`)
	if err := a.call(t.Context(), http.MethodDelete, "/users/"+url.PathEscape(name)+"/sessions", nil, nil); err != nil {
		t.Errorf("signed out: %v", err)
	}
	c.nodes[0].await(`"admin change".*"method":"DELETE","path":"/admin/v1/users/bob%2F50%25%20.*/sessions","status":204,"operator":"eve@`)
	has(show("user", name), "presence  0")
}

func TestInspect_NothingThatATerminalObeysIsShown(t *testing.T) {
	n := serveInside(t, opsToken)
	const title = "\x1b]0;x\x07\u009b2J\n\t"
	p, err := login(t, n.url, "dev:mal"+title+"lory", func(o *client.Options) { o.Device = "phone" + title })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Join(t.Context(), "room"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Call(t.Context(), "room"); err != nil {
		t.Fatal(err)
	}
	const shown = "\uFFFD]0;x\uFFFD\uFFFD2J\uFFFD\uFFFD"
	for _, c := range []struct {
		args  []string
		lines int
		want  []string
	}{
		{[]string{"rooms"}, 2, []string{"room"}},
		{[]string{"room", "room"}, 12, []string{"room", "mal" + shown + "lory", "phone" + shown}},
		{[]string{"user", "mal" + title + "lory"}, 10, []string{"room", "mal" + shown + "lory", "phone" + shown}},
		{[]string{"session", p.Session().Session}, 11, []string{"room", "mal" + shown + "lory", "phone" + shown}},
		{[]string{"room", "no" + title}, 1, []string{"no" + shown}},
		{[]string{"drain", "no" + title}, 1, []string{"no" + shown}},
	} {
		_, out, errs := once([]string{opsToken}, append(c.args, "--admin", n.admin)...)
		out += errs
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in:\n%q", c.args[0], want, out)
			}
		}
		if strings.ContainsAny(out, "\x1b\x07\u009b\t") || strings.Count(out, "\n") != c.lines {
			t.Errorf("%s prints %d lines, want %d and nothing that is obeyed:\n%q", c.args[0], strings.Count(out, "\n"), c.lines, out)
		}
	}
}
