package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"godwit/internal/golden"
	"godwit/server"
	"godwit/server/fleet"
	"godwit/store"
)

// script is a fleet that answers as told, and remembers what it was asked.
type script struct {
	nodes []store.Node
	drain fleet.Drain
	room  fleet.Room
	rooms []store.RoomState
	log   store.Page
	rec   store.Session
	err   error
	asked []string

	contacts []string
	user     fleet.User
}

func (s *script) ask(what string, args ...any) { s.asked = append(s.asked, fmt.Sprint(what, args)) }

func (s *script) Nodes(context.Context) ([]store.Node, error) { return s.nodes, s.err }

func (s *script) Node(_ context.Context, name string) (store.Node, error) {
	s.ask("node", name)
	if s.err != nil {
		return store.Node{}, s.err
	}
	return s.nodes[0], nil
}

func (s *script) Drain(_ context.Context, node string, budget time.Duration) (fleet.Drain, error) {
	s.ask("drain", node, budget)
	return s.drain, s.err
}

func (s *script) Drained(_ context.Context, node string) (fleet.Drain, error) {
	s.ask("drained", node)
	return s.drain, s.err
}

func (s *script) Undrain(_ context.Context, node string) (fleet.Drain, error) {
	s.ask("undrain", node)
	return s.drain, s.err
}

func (s *script) Redirect(_ context.Context, session, node string) (string, error) {
	s.ask("redirect", session, node)
	return "offer-1", s.err
}

func (s *script) User(_ context.Context, name string) (fleet.User, error) {
	s.ask("user", name)
	return s.user, s.err
}

func (s *script) SignOut(_ context.Context, name string) error {
	s.ask("sign out", name)
	return s.err
}

func (s *script) Contacts(_ context.Context, user string) ([]string, error) {
	s.ask("contacts", user)
	return s.contacts, s.err
}

func (s *script) SetContacts(_ context.Context, user string, list []string) ([]string, error) {
	s.ask("put", user, list)
	return list, s.err
}

func (s *script) Rooms(_ context.Context, prefix, after string, most int) ([]store.RoomState, string, bool, error) {
	s.ask("rooms", fmt.Sprintf("%q %q", prefix, after), most)
	var out []store.RoomState
	for _, r := range s.rooms {
		switch {
		case !strings.HasPrefix(r.Room, prefix) || r.Room <= after:
		case len(out) == most:
			return out, out[most-1].Room, true, s.err
		default:
			out = append(out, r)
		}
	}
	return out, "", false, s.err
}

func (s *script) Room(_ context.Context, name string) (fleet.Room, error) {
	s.ask("room", name)
	return s.room, s.err
}

func (s *script) Log(_ context.Context, room string, after uint64, most int) (store.Page, error) {
	s.ask("log", room, after, most)
	return s.log, s.err
}

func (s *script) Say(_ context.Context, room, key string, d store.Draft) (store.Sent, error) {
	to := "all"
	if d.ToUser != nil {
		to = "user " + *d.ToUser
	}
	if d.ToClient != nil {
		to += fmt.Sprintf(", client %d", *d.ToClient)
	}
	if d.Type != nil {
		to += fmt.Sprintf(", type %d", *d.Type)
	}
	s.ask("say", room, fmt.Sprintf("%q", key), string(d.Data), "to "+to)
	return store.Sent{Seq: 7}, s.err
}

func (s *script) Kick(_ context.Context, room string, client uint32) error {
	s.ask("kick", room, client)
	return s.err
}

func (s *script) CloseRoom(_ context.Context, room string) error {
	s.ask("close", room)
	return s.err
}

func (s *script) Session(_ context.Context, sid string) (store.Session, []string, error) {
	s.ask("session", sid)
	return s.rec, []string{"b", "a"}, s.err
}

func (s *script) End(_ context.Context, sid string) error {
	s.ask("end", sid)
	return s.err
}

func (s *script) served(token string) http.Handler {
	return New(Config{Token: token, State: func() server.State { return server.State{} }, Fleet: s, MessageBytes: 100, MaxContacts: 1000, Metrics: &counts{}, Log: slog.New(slog.DiscardHandler), Audit: slog.New(slog.DiscardHandler)})
}

// request makes one request with the token, unless a header says otherwise.
func request(h http.Handler, method, path, body string, header ...string) *httptest.ResponseRecorder {
	var sent io.Reader
	if body != "" {
		sent = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, path, sent)
	r.Header.Set("Authorization", "Bearer right")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// problemOf expects a problem as RFC 9457 has it.
func problemOf(t *testing.T, name string, w *httptest.ResponseRecorder, status int, says string) {
	t.Helper()
	var p struct {
		Title, Detail string
		Status        int
	}
	err := json.Unmarshal(w.Body.Bytes(), &p, json.MatchCaseInsensitiveNames(true))
	if w.Code != status || w.Header().Get("Content-Type") != "application/problem+json" || err != nil ||
		p.Status != status || p.Title != http.StatusText(status) || !strings.Contains(w.Body.String(), says) {
		t.Errorf("%s: %d %s %s (%v), want a problem %d with %q", name, w.Code, w.Header().Get("Content-Type"), w.Body, err, status, says)
	}
}

// paths are all that there is, and one that is not; body is a good one.
var paths = []struct{ method, path, body string }{
	{"GET", "/admin/v1/nodes", ""},
	{"GET", "/admin/v1/nodes/n1", ""},
	{"POST", "/admin/v1/nodes/n1/drain", ""},
	{"GET", "/admin/v1/nodes/n1/drain", ""},
	{"DELETE", "/admin/v1/nodes/n1/drain", ""},
	{"GET", "/admin/v1/rooms", ""},
	{"GET", "/admin/v1/rooms/r1", ""},
	{"DELETE", "/admin/v1/rooms/r1", ""},
	{"DELETE", "/admin/v1/rooms/r1/members/7", ""},
	{"GET", "/admin/v1/rooms/r1/log", ""},
	{"POST", "/admin/v1/rooms/r1/messages", `{"data":1}`},
	{"GET", "/admin/v1/sessions/s1", ""},
	{"DELETE", "/admin/v1/sessions/s1", ""},
	{"POST", "/admin/v1/sessions/s1/redirect", ""},
	{"GET", "/admin/v1/users/u1", ""},
	{"DELETE", "/admin/v1/users/u1/sessions", ""},
	{"GET", "/admin/v1/users/u1/contacts", ""},
	{"PUT", "/admin/v1/users/u1/contacts", `{"contacts":[]}`},
	{"GET", "/admin/v1/nothing", ""},
}

func TestAPI_NobodyGetsInWithoutTheToken(t *testing.T) {
	s := &script{}
	for _, p := range paths {
		for name, auth := range map[string]string{
			"no token": "", "another": "Bearer wrong", "a part of it": "Bearer righ", "more than it": "Bearer right ", "basic": "Basic right",
			"no scheme": "right", "an empty one": "Bearer ",
		} {
			w := request(s.served("right"), p.method, p.path, p.body, "Authorization", auth)
			problemOf(t, name+" at "+p.method+" "+p.path, w, 401, "token")
			if w.Header().Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("%s: WWW-Authenticate is %q", name, w.Header().Get("WWW-Authenticate"))
			}
		}
		for _, auth := range []string{"Bearer right", "Bearer ", ""} {
			problemOf(t, "no token set, with "+auth, request(s.served(""), p.method, p.path, p.body, "Authorization", auth), 404, "GODWIT_ADMIN_TOKEN")
		}
	}
	if len(s.asked) > 0 {
		t.Errorf("the fleet was asked %q all the same", s.asked)
	}
	if w := request(s.served("right"), "GET", "/livez", "", "Authorization", ""); w.Code != 200 {
		t.Errorf("a probe without the token: %d", w.Code)
	}
	if w := request(s.served("right"), "GET", "/admin/v1/nodes", "", "Authorization", "bearer right"); w.Code != 200 {
		t.Errorf("the scheme in lower case: %d", w.Code)
	}
}

func TestAPI_EachErrorHasItsStatus(t *testing.T) {
	described := describe(t)
	for _, c := range []struct {
		err    error
		status int
		says   string
	}{
		{fmt.Errorf("%w: n9", fleet.ErrNoNode), 404, "no such node: n9"},
		{fleet.ErrNoSession, 404, "no such session"},
		{fleet.ErrNoDrain, 404, "no drain"},
		{fmt.Errorf("%w: lobby", fleet.ErrNoRoom), 404, "no such room: lobby"},
		{fmt.Errorf("%w: client 7", fleet.ErrNoMember), 404, "no such member: client 7"},
		{fmt.Errorf("x: %w", &fleet.Conflict{Why: "it is draining"}), 409, "it is draining"},
		{fmt.Errorf("x: %w", fleet.ErrNoAnswer), 504, "look again"},
		{fmt.Errorf("list nodes: %w: dial 10.0.0.7", store.ErrUnavailable), 503, "ask again"},
		{fmt.Errorf("x: %w", &fleet.Wrong{Why: "4 contacts, at most 3"}), 422, "4 contacts, at most 3"},
		{context.Canceled, 503, "ask again"},
		{fmt.Errorf("x: %w", context.DeadlineExceeded), 503, "ask again"},
		{errors.New("secret detail"), 500, "log"},
	} {
		s := &script{err: c.err}
		for _, p := range paths[:len(paths)-1] {
			w := request(s.served("right"), p.method, p.path, p.body)
			problemOf(t, p.method+" "+p.path, w, c.status, c.says)
			described.knows(t, p.method, p.path, w.Code)
			if body := w.Body.String(); strings.Contains(body, "secret") || strings.Contains(body, "10.0.0.7") {
				t.Errorf("an operator is shown the inside: %s", body)
			}
			if retry := w.Header().Get("Retry-After"); (c.status == 503) != (retry != "") {
				t.Errorf("%d with Retry-After %q", c.status, retry)
			}
		}
	}
}

func TestAPI_WhoHangsUpIsNoError(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{{fmt.Errorf("order: %w", context.Canceled), false}, {errors.New("broken"), true}} {
		var b bytes.Buffer
		h := New(Config{
			Token: "right", State: func() server.State { return server.State{} }, Fleet: &script{nodes: []store.Node{{}}, err: c.err}, Metrics: &counts{},
			Log: slog.New(slog.NewTextHandler(&b, nil)), Audit: slog.New(slog.DiscardHandler),
		})
		request(h, "POST", "/admin/v1/nodes/n1/drain", "")
		if got := strings.Contains(b.String(), "level=ERROR"); got != c.want {
			t.Errorf("%v: an error is logged: %t, want %t: %s", c.err, got, c.want, &b)
		}
	}
}

func TestAPI_AMessageMayBeAsLongAsOneOfAClient(t *testing.T) {
	const most = 200_000 // far above what other bodies may hold
	s := &script{nodes: []store.Node{{}}}
	h := New(Config{
		Token: "right", State: func() server.State { return server.State{} }, Fleet: s, MessageBytes: most, Metrics: &counts{},
		Log: slog.New(slog.DiscardHandler), Audit: slog.New(slog.DiscardHandler),
	})
	body := func(data int) string {
		return `{"data":"` + strings.Repeat("x", data-len(`""`)) + `","type":1,"to":{"user":"` + strings.Repeat(`\u00fc`, 64) + `"}}`
	}
	for _, c := range []struct {
		name, path, body string
		status           int
	}{
		{"the longest", "/admin/v1/rooms/r1/messages", body(most), 200},
		{"a byte more", "/admin/v1/rooms/r1/messages", body(most + 1), 422},
		{"without end", "/admin/v1/rooms/r1/messages", body(2 * most), 413},
		{"elsewhere", "/admin/v1/nodes/n1/drain", body(most), 413},
	} {
		if w := request(h, "POST", c.path, c.body); w.Code != c.status {
			t.Errorf("%s: %d %s, want %d", c.name, w.Code, w.Body, c.status)
		}
	}
}

func TestAPI_BadInputIsAProblemAndAsksTheFleetNothing(t *testing.T) {
	described := describe(t)
	drain, move, say := "/admin/v1/nodes/n1/drain", "/admin/v1/sessions/s1/redirect", "/admin/v1/rooms/r1/messages"
	contacts := "/admin/v1/users/u1/contacts"
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		says                     string
	}{
		{"a negative budget", "POST", drain, `{"budget_ms":-1}`, 422, "budget_ms"},
		{"no time at all", "POST", drain, `{"budget_ms":0}`, 422, "budget_ms"},
		{"a budget past a day", "POST", drain, `{"budget_ms":86400001}`, 422, "budget_ms"},
		{"a budget past all numbers", "POST", drain, `{"budget_ms":1e99}`, 422, ""},
		{"a budget in words", "POST", drain, `{"budget_ms":"60s"}`, 422, "budget_ms"},
		{"a name misspelt", "POST", drain, `{"budget":1000}`, 422, "budget"},
		{"not JSON", "POST", drain, `budget_ms=1000`, 400, ""},
		{"half of it", "POST", drain, `{"budget_ms":`, 400, ""},
		{"a list", "POST", drain, `[]`, 422, ""},
		{"too large", "POST", drain, `{"budget_ms":1000` + strings.Repeat(" ", 64<<10) + `}`, 413, ""},
		{"not JSON either", "POST", move, `n2`, 400, ""},
		{"a node that is a number", "POST", move, `{"node":2}`, 422, "node"},
		{"too large, too", "POST", move, `{"node":"` + strings.Repeat("n", 64<<10) + `"}`, 413, ""},
		{"no list of contacts", "PUT", contacts, `{}`, 422, "contacts"},
		{"a list that is none", "PUT", contacts, `{"contacts":null}`, 422, "contacts"},
		{"a contact that is a number", "PUT", contacts, `{"contacts":["bob",5]}`, 422, "contacts[1]"},
		{"contacts without a body", "PUT", contacts, ``, 400, ""},
		{"contacts without end", "PUT", contacts, `{"contacts":["` + strings.Repeat("n", 1000*contactMost) + `"]}`, 413, ""},
		{"no limit", "GET", "/admin/v1/nodes?limit=0", "", 422, "limit"},
		{"no number", "GET", "/admin/v1/nodes?limit=x", "", 422, "limit"},
		{"a cursor of nobody's", "GET", "/admin/v1/nodes?cursor=*", "", 422, "cursor"},
		{"a message of nothing", "POST", say, ``, 400, ""},
		{"a message without data", "POST", say, `{"type":1}`, 422, "data"},
		{"a type past a byte", "POST", say, `{"data":1,"type":256}`, 422, "type"},
		{"a type below one", "POST", say, `{"data":1,"type":-1}`, 422, "type"},
		{"to a number", "POST", say, `{"data":1,"to":{"user":7}}`, 422, "user"},
		{"to a client past all", "POST", say, `{"data":1,"to":{"client":4294967296}}`, 422, "client"},
		{"to nobody at all", "POST", say, `{"data":1,"to":{}}`, 422, "leave it out"},
		{"to the client 0", "POST", say, `{"data":1,"to":{"client":0}}`, 422, "nobody"},
		{"to the user without a name", "POST", say, `{"data":1,"to":{"user":""}}`, 422, "nobody"},
		{"to something else", "POST", say, `{"data":1,"to":{"room":"x"}}`, 422, "room"},
		{"data past the limit", "POST", say, `{"data":"` + strings.Repeat("x", 100) + `"}`, 422, "at most 100"},
		{"data with a name twice", "POST", say, `{"data":{"a":1,"a":2}}`, 422, "twice"},
		{"data that is no UTF-8", "POST", say, "{\"data\":\"\xff\"}", 422, "UTF-8"},
		{"a cursor of nobody's, of rooms", "GET", "/admin/v1/rooms?cursor=*", "", 422, "cursor"},
		{"too many rooms", "GET", "/admin/v1/rooms?limit=1001", "", 422, "limit"},
		{"too much of a log", "GET", "/admin/v1/rooms/r1/log?limit=1001", "", 422, "limit"},
		{"before the beginning", "GET", "/admin/v1/rooms/r1/log?after=-1", "", 422, "after"},
		{"past all numbers", "GET", "/admin/v1/rooms/r1/log?after=9007199254740992", "", 422, "after"},
		{"a client that is a name", "DELETE", "/admin/v1/rooms/r1/members/ann", "", 422, "client"},
		{"a client past all", "DELETE", "/admin/v1/rooms/r1/members/4294967296", "", 422, "client"},
		{"a name too long for a room", "GET", "/admin/v1/rooms/" + strings.Repeat("r", 201), "", 422, "room"},
		{"another method", "PUT", drain, `{}`, 405, ""},
		{"no such path", "GET", "/admin/v1/nodes/n1/nothing", "", 404, ""},
		{"an empty name", "GET", "/admin/v1/nodes//drain", "", 422, "node"},
		{"an empty user", "DELETE", "/admin/v1/users//sessions", "", 422, "user"},
		{"all users", "GET", "/admin/v1/users", "", 404, ""},
		{"a user is not ended", "DELETE", "/admin/v1/users/u1", "", 405, ""},
		{"sessions are told with the user", "GET", "/admin/v1/users/u1/sessions", "", 405, ""},
	} {
		s := &script{}
		problemOf(t, c.name, request(s.served("right"), c.method, c.path, c.body), c.status, c.says)
		if c.status != http.StatusMethodNotAllowed && c.status != http.StatusNotFound {
			described.knows(t, c.method, c.path, c.status)
		}
		if len(s.asked) > 0 {
			t.Errorf("%s: the fleet was asked %q", c.name, s.asked)
		}
	}
}

func TestAPI_SaysWhichMethodsAPathHas(t *testing.T) {
	for _, c := range []struct{ path, want string }{
		{"/livez", "GET, HEAD"},
		{"/admin/v1/nodes", "GET, HEAD"},
		{"/admin/v1/nodes/n1/drain", "GET, HEAD, POST, DELETE"},
		{"/admin/v1/users/a%2Fb", "GET, HEAD"},
	} {
		w := request((&script{}).served("right"), "PATCH", c.path, "")
		if got := w.Header().Get("Allow"); w.Code != http.StatusMethodNotAllowed || got != c.want {
			t.Errorf("%s: %d, Allow %q, want %q", c.path, w.Code, got, c.want)
		}
	}
}

func TestAPI_AnswersHeadAsGet(t *testing.T) {
	for path, want := range map[string]int{"/livez": 200, "/readyz": 503, "/metrics": 200, "/admin/v1/nodes": 200, "/nothing": 404, "/admin/v1/users/ann/sessions": 405} {
		s := &script{}
		if w := request(s.served("right"), "HEAD", path, ""); w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
}

func TestAPI_AnswersWhatTheFleetSays(t *testing.T) {
	started := time.UnixMilli(1_700_000_000_000)
	n := store.Node{
		Ref: store.Ref{Node: "n1", Boot: "b"}, URL: "wss://n1.test/v1/ws", Revision: "r7", State: store.NodeDraining,
		Sessions: 9, Owned: 7, Rooms: 3, Started: started, Key: "never shown", Alive: true, Lease: 8500 * time.Millisecond,
	}
	d := fleet.Drain{Node: n, Drain: store.Drain{
		Order: "o1", By: store.ByOperator, State: store.DrainRunning, Budget: time.Minute, Elapsed: 1500 * time.Millisecond,
		Moved: 4, Left: 3, Refused: 2, Resumed: 1, Rate: 2.5, ETA: 1200 * time.Millisecond,
	}}
	node := `{"node":"n1","boot":"b","state":"draining","revision":"r7","url":"wss://n1.test/v1/ws","sessions":7,"rooms":3,"load":9,"lease_ms":8500,"started":"2023-11-14T22:13:20Z"}`
	drained := `{"id":"o1","node":"n1","boot":"b","node_state":"draining","state":"running","by":"operator","budget_ms":60000,` +
		`"elapsed_ms":1500,"moved":4,"left":3,"refused":2,"resumed":1,"rate":2.5,"eta_ms":1200}`
	for _, c := range []struct {
		method, path, body string
		status             int
		answer, asked      string
	}{
		{"GET", "/admin/v1/nodes", "", 200, `{"items":[` + node + `]}`, ""},
		{"GET", "/admin/v1/nodes/n1", "", 200, node, "node[n1]"},
		{"POST", "/admin/v1/nodes/n1/drain", `{"budget_ms":90000}`, 202, drained, "drain[n1 1m30s]"},
		{"POST", "/admin/v1/nodes/n1/drain", `{}`, 202, drained, "drain[n1 0s]"},
		{"POST", "/admin/v1/nodes/n1/drain", ``, 202, drained, "drain[n1 0s]"},
		{"GET", "/admin/v1/nodes/n1/drain", "", 200, drained, "drained[n1]"},
		{"DELETE", "/admin/v1/nodes/n1/drain", "", 200, drained, "undrain[n1]"},
		{"POST", "/admin/v1/sessions/s1/redirect", `{"node":"n2"}`, 202, `{"id":"offer-1"}`, "redirect[s1 n2]"},
		{"POST", "/admin/v1/sessions/s1/redirect", "", 202, `{"id":"offer-1"}`, "redirect[s1 ]"},
		{"GET", "/admin/v1/users/u1/contacts", "", 200, `{"contacts":["bob","cy"]}`, "contacts[u1]"},
		{"PUT", "/admin/v1/users/u1/contacts", `{"contacts":["bob"]}`, 200, `{"contacts":["bob"]}`, "put[u1 [bob]]"},
		{"PUT", "/admin/v1/users/u1/contacts", `{"contacts":[]}`, 200, `{"contacts":[]}`, "put[u1 []]"},
		// A name stands percent-encoded in the path.
		{"GET", "/admin/v1/users/%C3%BC%2Fa%20b/contacts", "", 200, `{"contacts":["bob","cy"]}`, "contacts[ü/a b]"},
		{"GET", "/admin/v1/nodes/a%2Fb%20%25", "", 200, node, "node[a/b %]"},
		{"GET", "/admin/v1/nodes/50%25/drain", "", 200, drained, "drained[50%]"},
		{"POST", "/admin/v1/sessions/%C3%BC%2f/redirect", "", 202, `{"id":"offer-1"}`, "redirect[ü/ ]"},
	} {
		s := &script{nodes: []store.Node{n}, drain: d, contacts: []string{"bob", "cy"}}
		w := request(s.served("right"), c.method, c.path, c.body, "Content-Type", "application/x-www-form-urlencoded") // as curl -d says
		if w.Code != c.status || strings.TrimSpace(w.Body.String()) != c.answer || w.Header().Get("Content-Type") != "application/json" ||
			strings.Join(s.asked, ", ") != c.asked {
			t.Errorf("%s %s: %d %s, asked %q, want %d %s, %q", c.method, c.path, w.Code, w.Body, s.asked, c.status, c.answer, c.asked)
		}
	}
}

func TestAPI_AListComesInParts(t *testing.T) {
	s := &script{}
	var want []string
	for i := range 7 {
		name := fmt.Sprintf("n%d", i)
		s.nodes, want = append(s.nodes, store.Node{Ref: store.Ref{Node: name, Boot: "b"}}), append(want, name)
	}
	var got []string
	cursor, parts := "", 0
	for {
		var page struct {
			Items  []Node `json:"items"`
			Cursor string `json:"cursor"`
		}
		w := request(s.served("right"), "GET", "/admin/v1/nodes?limit=3&cursor="+cursor, "")
		if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || w.Code != 200 {
			t.Fatalf("%d %s: %v", w.Code, w.Body, err)
		}
		for _, n := range page.Items {
			got = append(got, n.Node)
		}
		parts++
		if cursor = page.Cursor; cursor == "" {
			break
		}
		s.nodes = slices.DeleteFunc(s.nodes, func(n store.Node) bool { return n.Node == "n2" }) // seen by then
	}
	if !slices.Equal(got, want) || parts != 3 {
		t.Errorf("%v in %d parts, want %v in 3", got, parts, want)
	}
	s.nodes = nil
	if w := request(s.served("right"), "GET", "/admin/v1/nodes", ""); strings.TrimSpace(w.Body.String()) != `{"items":[]}` {
		t.Errorf("an empty list: %s", w.Body)
	}
}

// description is what the API says of itself: of each method of a path, the
// answers that there are.
type description struct {
	Paths map[string]map[string]struct {
		Responses map[string]any `json:"responses"`
	} `json:"paths"`
}

func describe(t *testing.T) (d description) {
	t.Helper()
	w := request((&script{}).served("right"), "GET", "/openapi.json", "", "Authorization", "")
	if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// knows expects an answer to be one that is described.
func (d description) knows(t *testing.T, method, path string, status int) {
	t.Helper()
	path, _, _ = strings.Cut(path, "?")
	given := strings.Split(path, "/")
	for template, methods := range d.Paths {
		names := strings.Split(template, "/")
		op, there := methods[strings.ToLower(method)]
		if !there || len(names) != len(given) {
			continue
		}
		same := true
		for i, name := range names {
			same = same && (name == given[i] || strings.HasPrefix(name, "{"))
		}
		if !same {
			continue
		}
		if op.Responses[strconv.Itoa(status)] == nil {
			t.Errorf("%s %s answers %d, which is not described", method, template, status)
		}
		return
	}
	t.Errorf("%s %s is not described", method, path)
}

func TestAPI_DescribesItself(t *testing.T) {
	w := request((&script{}).served("right"), "GET", "/openapi.json", "", "Authorization", "")
	var doc struct {
		OpenAPI string                    `json:"openapi"`
		Paths   map[string]map[string]any `json:"paths"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || w.Code != 200 || !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Fatalf("%d %.200s: %v", w.Code, w.Body, err)
	}
	for _, p := range paths[:len(paths)-1] {
		path := strings.NewReplacer("/n1", "/{node}", "/s1", "/{session}", "/r1", "/{room}", "/7", "/{client}", "/u1", "/{user}").Replace(p.path)
		if doc.Paths[path][strings.ToLower(p.method)] == nil {
			t.Errorf("it does not name %s %s", p.method, path)
		}
	}
	pretty := jsontext.Value(w.Body.Bytes())
	if err := pretty.Indent(jsontext.WithIndent("  ")); err != nil {
		t.Fatal(err)
	}
	pretty = append(pretty, '\n')
	golden.Is(t, "../../docs/openapi.json", pretty)
	if w := request((&script{}).served("right"), "GET", "/docs", ""); w.Code != 404 {
		t.Errorf("a page that loads things from elsewhere: %d", w.Code)
	}
}

// A client's id has 32 bits and no sign: whoever makes code of the description
// would cut half of them off at int32.
func TestAPI_AClientsIDFitsWhatTheDescriptionSays(t *testing.T) {
	w := request((&script{}).served("right"), "GET", "/openapi.json", "", "Authorization", "")
	var doc any
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	found := 0
	is := func(where string, schema any) {
		found++
		if s, _ := schema.(map[string]any); s["type"] != "integer" || s["format"] != "int64" {
			t.Errorf("client in %s is %v, want an integer of int64", where, schema)
		}
	}
	var walk func(where string, v any)
	walk = func(where string, v any) {
		switch v := v.(type) {
		case map[string]any:
			if v["name"] == "client" {
				is(where, v["schema"])
			}
			for name, inner := range v {
				if name == "client" {
					is(where, inner)
				}
				walk(where+"/"+name, inner)
			}
		case []any:
			for _, inner := range v {
				walk(where, inner)
			}
		}
	}
	walk("", doc)
	if found < 6 {
		t.Errorf("%d places name a client, want those of messages, rooms, sessions and the path", found)
	}
}
