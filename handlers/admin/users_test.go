package admin

import (
	"strings"
	"testing"
	"time"

	"godwit/rules/presence"
	"godwit/server/fleet"
	"godwit/store"
)

func TestAPI_AUserIsToldAsTheFleetHasIt(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_000)
	session := func(id string, client uint32, device, state string, rooms ...string) fleet.UserSession {
		return fleet.UserSession{Session: store.Session{
			ID: id, User: "ann", Client: client, Device: device, Handle: "00ff", Gen: 1, Owner: store.Ref{Node: "n1", Boot: "b"},
			Secret: "never shown", Expires: at, State: state,
		}, Rooms: rooms}
	}
	told := func(id, client, device, state, rooms string) string {
		return `{"session":"` + id + `","user":"ann","client":` + client + device + `,"handle":"00ff","state":"` + state +
			`","node":"n1","boot":"b","gen":1,"caps":[],"rooms":[` + rooms + `],"expires":"2023-11-14T22:13:20Z","moves":[]}`
	}
	ann := fleet.User{
		Presence: store.Presence{User: "ann", Value: 1, PV: 1_700_000_000_005}, Handle: "00ff",
		Devices: []store.Device{
			{Client: 7, Session: "s1", Device: presence.Device{Set: presence.Set{Value: 3, Auto: true}, At: at.UnixMilli()}},
			{Client: 4294967295, Session: "s9", Device: presence.Device{Set: presence.Set{Value: 1}, At: at.UnixMilli() + 5}}, // whose session has just ended
		},
		Sessions: []fleet.UserSession{
			session("s1", 7, "tab", store.StateDetached, "b", "a"),
			session("s2", 8, "", store.StateLive, "c", "b"),
			session("s3", 9, "", store.StateLive),
		},
	}
	for _, c := range []struct {
		user         fleet.User
		method, path string
		status       int
		answer       string
		asked        string
	}{
		{
			ann, "GET", "/admin/v1/users/ann", 200, `{"user":"ann","handle":"00ff","presence":1,"pv":1700000000005,"devices":[` +
				`{"client":7,"device":"tab","session":"s1","presence":3,"auto":true,"since":"2023-11-14T22:13:20Z"},` +
				`{"client":4294967295,"session":"s9","presence":1,"auto":false,"since":"2023-11-14T22:13:20.005Z"}],"sessions":[` +
				told("s1", "7", `,"device":"tab"`, "detached", `"a","b"`) + "," + told("s2", "8", "", "live", `"b","c"`) + "," + told("s3", "9", "", "live", "") +
				`],"rooms":["a","b","c"]}`, "user[ann]",
		},
		{
			fleet.User{Presence: store.Presence{User: "x"}, Handle: "0f"},
			"GET", "/admin/v1/users/%C3%BC%2Fa%20b%25", 200,
			`{"user":"x","handle":"0f","presence":0,"pv":0,"devices":[],"sessions":[],"rooms":[]}`, "user[ü/a b%]",
		},
		{ann, "DELETE", "/admin/v1/users/ann/sessions", 204, "", "sign out[ann]"},
		{ann, "DELETE", "/admin/v1/users/%C3%BC%2fa%20b%25/sessions", 204, "", "sign out[ü/a b%]"},
	} {
		s := &script{user: c.user}
		w := request(s.served("right"), c.method, c.path, "")
		if got := strings.TrimSpace(w.Body.String()); w.Code != c.status || got != c.answer || strings.Join(s.asked, ", ") != c.asked {
			t.Errorf("%s %s: %d %s, asked %q\nwant %d %s, %q", c.method, c.path, w.Code, got, s.asked, c.status, c.answer, c.asked)
		}
	}
}
