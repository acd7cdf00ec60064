package admin

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"godwit/server"
	"godwit/server/fleet"
	"godwit/store"
)

func ptr[T any](v T) *T { return &v }

func TestAPI_RoomsAndSessionsAreToldAsTheFleetHasThem(t *testing.T) {
	room := store.RoomState{Room: "a/b", Epoch: "e1", Seq: 9, InCall: true, Members: 2, Entries: 5}
	state := `"room":"a/b","epoch":"e1","seq":9,"in_call":true,"member_count":2,"log_length":5`
	s := &script{
		rooms: []store.RoomState{room},
		room: fleet.Room{RoomState: room, Members: []fleet.Member{{
			Member: store.Member{User: "ann", Client: 7, Device: "tab", Session: "s1", Gen: 3},
			At:     store.Attachment{Node: "n1", State: "live"},
		}}, Callers: []store.Member{{User: "ann", Client: 7, Device: "tab", Session: "s1", Gen: 3}}},
		log: store.Page{Epoch: "e1", Head: 9, Entries: []store.Entry{
			{Header: store.Header{Kind: "join", User: "ann", Client: 7, Device: "tab"}, Seq: 3, TS: 1000},
			{Header: store.Header{Kind: "message", User: "ann", Client: 7, ToUser: ptr("bob"), ToClient: ptr(uint32(8)), Type: ptr(uint8(0))}, Seq: 4, TS: 1001, Data: []byte(`{"a": [1, "ü"]}`)},
			{Header: store.Header{Kind: "call", InCall: ptr(false)}, Seq: 5, TS: 1002},
			{Header: store.Header{Kind: "leave", Reason: "closed"}, Seq: 9, TS: 1003},
		}},
		rec: store.Session{
			ID: "s1", User: "ann", Client: 7, Device: "tab", Handle: "00ff", Gen: 3, Owner: store.Ref{Node: "n1", Boot: "b"},
			Secret: "never shown", Expires: time.UnixMilli(1_700_000_000_000), Caps: "redirect", State: store.StateLive,
			Moves: []store.Move{{At: time.UnixMilli(1_600_000_000_000), From: store.Ref{Node: "n2", Boot: "c"}}},
		},
	}
	events := `{"seq":3,"kind":"join","from":{"user":"ann","client":7,"device":"tab"},"ts":1000},` +
		`{"seq":4,"kind":"message","from":{"user":"ann","client":7},"to":{"user":"bob","client":8},"type":0,"data":{"a":[1,"ü"]},"ts":1001},` +
		`{"seq":5,"kind":"call","from":{"user":"","client":0},"in_call":false,"ts":1002},` +
		`{"seq":9,"kind":"leave","from":{"user":"","client":0},"reason":"closed","ts":1003}`
	for _, c := range []struct {
		method, path, body string
		status             int
		answer, asked      string
	}{
		{"GET", "/admin/v1/rooms", "", 200, `{"items":[{` + state + `}]}`, `rooms["" "" 100]`},
		{"GET", "/admin/v1/rooms?prefix=a%2F&limit=5", "", 200, `{"items":[{` + state + `}]}`, `rooms["a/" "" 5]`},
		{"GET", "/admin/v1/rooms?prefix=z", "", 200, `{"items":[]}`, `rooms["z" "" 100]`},
		{
			"GET", "/admin/v1/rooms/a%2Fb", "", 200,
			`{` + state + `,"members":[{"user":"ann","client":7,"device":"tab","session":"s1","node":"n1","state":"live"}],"more":true,"call":[{"user":"ann","client":7}]}`, "room[a/b]",
		},
		{"GET", "/admin/v1/rooms/100%25%20%F0%9F%90%A6", "", 200, "", "room[100% \U0001F426]"},
		{"GET", "/admin/v1/rooms/r/log", "", 200, `{"epoch":"e1","events":[` + events + `],"more":false}`, "log[r 0 100]"},
		{"GET", "/admin/v1/rooms/r/log?after=9007199254740991&limit=1000", "", 200, "", "log[r 9007199254740991 1000]"},
		{"POST", "/admin/v1/rooms/r/messages", `{"data":null}`, 200, `{"seq":7}`, `say[r "" null to all]`},
		{
			"POST", "/admin/v1/rooms/a%2Fb/messages", `{"to":{"user":"bob","client":8},"type":255,"data": {"b" :1.0} }`, 200,
			`{"seq":7}`, `say[a/b "" {"b" :1.0} to user bob, client 8, type 255]`,
		},
		{"DELETE", "/admin/v1/rooms/a%2Fb/members/4294967295", "", 204, "", "kick[a/b 4294967295]"},
		{"DELETE", "/admin/v1/rooms/a%2Fb", "", 204, "", "close[a/b]"},
		{
			"GET", "/admin/v1/sessions/s1", "", 200,
			`{"session":"s1","user":"ann","client":7,"device":"tab","handle":"00ff","state":"live","node":"n1","boot":"b","gen":3,"caps":["redirect"],` +
				`"rooms":["a","b"],"expires":"2023-11-14T22:13:20Z","moves":[{"at":"2020-09-13T12:26:40Z","from":"n2","boot":"c"}]}`, "session[s1]",
		},
		{"DELETE", "/admin/v1/sessions/s1", "", 204, "", "end[s1]"},
	} {
		s.asked = nil
		w := request(s.served("right"), c.method, c.path, c.body)
		got := strings.TrimSpace(w.Body.String())
		if w.Code != c.status || got != c.answer && (c.answer != "" || c.status == 204) || strings.Join(s.asked, ", ") != c.asked {
			t.Errorf("%s %s: %d %s, asked %q\nwant %d %s, %q", c.method, c.path, w.Code, got, s.asked, c.status, c.answer, c.asked)
		}
	}
	s.asked = nil
	request(s.served("right"), "POST", "/admin/v1/rooms/r/messages", `{"data":1}`, "Idempotency-Key", "once, please")
	if want := `say[r "once, please" 1 to all]`; strings.Join(s.asked, ", ") != want {
		t.Errorf("asked %q, want %q", s.asked, want)
	}
	w := request(s.served("right"), "POST", "/admin/v1/rooms/r/messages", `{"data":1}`, "Idempotency-Key", strings.Repeat("k", 256))
	problemOf(t, "a key too long", w, 422, "Idempotency-Key")
}

func TestAPI_RoomsComeInParts(t *testing.T) {
	s := &script{}
	var want, got []string
	for i := range 7 {
		name := fmt.Sprintf("r/%d %%", i)
		s.rooms, want = append(s.rooms, store.RoomState{Room: name}), append(want, name)
	}
	for cursor, parts := "", 1; ; parts++ {
		var page struct {
			Items  []RoomState `json:"items"`
			Cursor string      `json:"cursor"`
		}
		w := request(s.served("right"), "GET", "/admin/v1/rooms?prefix=r&limit=3&cursor="+cursor, "")
		if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || w.Code != 200 || parts > 3 {
			t.Fatalf("part %d: %d %s: %v", parts, w.Code, w.Body, err)
		}
		for _, r := range page.Items {
			got = append(got, r.Room)
		}
		if cursor = page.Cursor; cursor == "" {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestAPI_ALogIsCutByItsBytesAndSaysThatThereIsMore(t *testing.T) {
	s := &script{log: store.Page{Epoch: "e", Head: 3}}
	big := []byte(`"` + strings.Repeat("x", 200<<10) + `"`)
	for seq := range uint64(3) {
		s.log.Entries = append(s.log.Entries, store.Entry{Header: store.Header{Kind: "message"}, Seq: seq + 1, Data: big})
	}
	var l Log
	w := request(s.served("right"), "GET", "/admin/v1/rooms/r/log", "")
	if err := json.Unmarshal(w.Body.Bytes(), &l); err != nil || len(l.Events) != 1 || !l.More {
		t.Errorf("%d events, more %t, %v; want one and more", len(l.Events), l.More, err)
	}
	s.log.Entries = nil // trimmed away
	w = request(s.served("right"), "GET", "/admin/v1/rooms/r/log", "")
	if got := strings.TrimSpace(w.Body.String()); got != `{"epoch":"e","events":[],"more":false}` {
		t.Errorf("with nothing kept: %s", got)
	}
}

func TestAPI_EveryChangeIsLoggedAndNothingElse(t *testing.T) {
	for _, p := range paths[:len(paths)-1] {
		var b bytes.Buffer
		s := &script{nodes: []store.Node{{}}}
		h := New(Config{Token: "right", State: func() server.State { return server.State{} }, Fleet: s, Metrics: &counts{}, Log: slog.New(slog.DiscardHandler), Audit: slog.New(slog.NewTextHandler(&b, nil))})
		request(h, p.method, p.path, p.body, "X-Operator", "eve", "User-Agent", "curl")
		line := b.String()
		if p.method == "GET" {
			if line != "" {
				t.Errorf("%s %s is logged: %s", p.method, p.path, line)
			}
			continue
		}
		for _, want := range []string{`msg="admin change"`, "method=" + p.method, "path=" + p.path, "status=20", "operator=eve", "from=192.0.2.1:1234", "agent=curl"} {
			if !strings.Contains(line, want) {
				t.Errorf("%s %s: no %s in %s", p.method, p.path, want, line)
			}
		}
		if strings.Contains(line, "right") || strings.Contains(line, "data") {
			t.Errorf("%s %s: the token or the body is logged: %s", p.method, p.path, line)
		}
	}
}
