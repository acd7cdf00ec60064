package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"godwit/e2e/fleet"
	"godwit/wire"
)

// seer is a guest that keeps what it is told of presence.
type seer struct {
	*guest
	pv map[string]uint64
}

const adminToken = "a token of operators"

// seeing is a fleet that has operators, and a short grace.
func seeing(t *testing.T, env ...string) *fleet.Fleet {
	t.Helper()
	o := fleet.Options{Env: map[string]string{"GODWIT_ADMIN_TOKEN": adminToken, "GODWIT_GRACE": "3s", "GODWIT_LEASE": "2s"}}
	for i := 0; i+1 < len(env); i += 2 {
		o.Env[env[i]] = env[i+1]
	}
	return fleet.Start(t, o)
}

// contacts asks a node for a user's contacts, or sets them; it returns what it
// is answered.
func contacts(t *testing.T, n *fleet.Node, method, user string, list ...string) (status int, answer string) {
	t.Helper()
	var body io.Reader
	if method == http.MethodPut {
		b, err := json.Marshal(map[string]any{"contacts": append([]string{}, list...)})
		if err != nil {
			t.Fatal(err)
		}
		body = strings.NewReader(string(b))
	}
	r, err := http.NewRequestWithContext(within(t), method, "http://"+n.Admin+"/admin/v1/users/"+user+"/contacts", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+adminToken)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(b))
}

func befriend(t *testing.T, n *fleet.Node, user string, list ...string) {
	t.Helper()
	if status, answer := contacts(t, n, http.MethodPut, user, list...); status != http.StatusOK {
		t.Fatalf("the contacts of %s: %d %s", user, status, answer)
	}
}

// see is a new session of the user whose device begins with that presence byte.
func see(t *testing.T, n *fleet.Node, user string, presence uint8) *seer {
	t.Helper()
	s := &seer{guest: &guest{Conn: dial(t, n), t: t, user: user}, pv: map[string]uint64{}}
	s.must("hello", wire.Hello{Token: fleet.Token(user, time.Hour), Presence: &presence, Caps: []string{"redirect"}}, &s.session)
	return s
}

func (s *seer) set(value uint8, auto bool) {
	s.t.Helper()
	s.must("presence.set", wire.SetPresence{Presence: &value, Auto: auto}, nil)
}

func (s *seer) take(p *wire.Presence) string {
	s.t.Helper()
	who := p.User
	if p.Self {
		who = "self"
	}
	if p.PV <= s.pv[who] {
		s.t.Errorf("%s was told of %s under pv %d, after %d", s.user, who, p.PV, s.pv[who])
	}
	s.pv[who] = p.PV
	return fmt.Sprintf("%s %d", who, p.Presence)
}

// told expects the next things told of presence to be these; room events are
// passed over.
func (s *seer) told(what string, want ...string) {
	s.t.Helper()
	var got []string
	for range want {
		var p wire.Presence
		if err := json.Unmarshal(s.notice("presence").Params, &p); err != nil {
			s.t.Fatal(err)
		}
		got = append(got, s.take(&p))
	}
	if !slices.Equal(got, want) {
		s.t.Fatalf("%s: %s was told %q, want %q", what, s.user, got, want)
	}
}

// untold expects that nothing is told of presence in the time.
func (s *seer) untold(what string, d time.Duration) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), d)
	defer cancel()
	for {
		n, err := s.Next(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.t.Fatalf("%s: %s: %v", what, s.user, err)
		case n.Method == "presence":
			s.t.Errorf("%s: %s was told %s, want nothing", what, s.user, n.Params)
		}
	}
}

const (
	online, away = 0x80 | 3, 0x80 | 2
	// quiet is how long nothing must come; it would come at once.
	quiet = time.Second
)

// A is more chatty, B is online. A's user does nothing: everybody sees B's
// value, and A, which asked for another, is told so.
func TestPresence_OfADeviceThatGoesIdleIsTheOtherDevices(t *testing.T) {
	f := seeing(t)
	befriend(t, f.Nodes[2], "bob", "ann")
	bob := see(t, f.Nodes[2], "bob", online)
	a := see(t, f.Nodes[0], "ann", 0x80|4)
	bob.told("A comes", "ann 4")
	b := see(t, f.Nodes[1], "ann", online)
	if b.session.Self != 4 {
		t.Errorf("B is told that its user is %d, want 4", b.session.Self)
	}
	a.set(2, true)
	bob.told("A is idle", "ann 3")
	a.told("A is idle", "self 3")
	b.told("A is idle", "self 3")

	a.set(1, false) // and now it is what the user wants
	b.set(2, true)
	bob.told("do not disturb, though B goes idle", "ann 1")
	bob.untold("B is idle", quiet)

	gone := time.Now()
	a.Drop()
	bob.told("A has vanished: B's value", "ann 2")
	if after := time.Since(gone); after < 2900*time.Millisecond {
		t.Errorf("A's value counted for %s more, want its grace of 3s", after)
	}
	b.told("what B is told meanwhile", "self 1", "self 2")
	b.Drop()
	bob.told("B has vanished", "ann 0")
	bob.untold("all gone, once", 4*time.Second)
}

func TestPresence_IsToldToWhoIsEntitledAndToNobodyElse(t *testing.T) {
	f := seeing(t)
	befriend(t, f.Nodes[1], "contact", "ann")
	befriend(t, f.Nodes[1], "ann", "backer") // whom ann sees; not the other way
	contact, roommate := see(t, f.Nodes[0], "contact", 0), see(t, f.Nodes[1], "roommate", 0)
	stranger, backer := see(t, f.Nodes[2], "stranger", 0), see(t, f.Nodes[0], "backer", 0)
	stranger.join("elsewhere")
	ann := see(t, f.Nodes[2], "ann", online)
	contact.told("by contact", "ann 3")
	for i := range 5 {
		room := fmt.Sprintf("room %d", i)
		roommate.join(room)
		ann.join(room)
	}
	roommate.told("by room", "ann 3")
	ann.set(1, false)
	roommate.told("five rooms, one event", "ann 1")
	contact.told("one inbox, one event", "ann 1")
	for i := range 5 {
		ann.must("room.leave", wire.Leave{Room: fmt.Sprintf("room %d", i)}, nil)
	}
	ann.set(2, false)
	contact.told("still", "ann 2")
	for _, s := range []*seer{roommate, stranger, backer} {
		s.untold("not entitled, or no longer", quiet/2)
	}
	late := see(t, f.Nodes[1], "contact", 0)
	if p := late.session.Presence; len(p) != 1 || p[0].User != "ann" || p[0].Presence != 2 || p[0].PV != contact.pv["ann"] {
		t.Errorf("who logs in later is told %+v, want ann at 2 under pv %d", p, contact.pv["ann"])
	}
	ann.set(0, false)
	contact.told("invisible", "ann 0")
	late.told("the same at its node", "ann 0")
	if p := see(t, f.Nodes[1], "contact", 0).session.Presence; len(p) != 0 {
		t.Errorf("who logs in meanwhile is told %+v, want nobody", p)
	}
	befriend(t, f.Nodes[0], "roommate", "ann")
	roommate.untold("an invisible contact is added", quiet/2)
	ann.set(3, false)
	roommate.told("by its contacts now", "ann 3")
	befriend(t, f.Nodes[2], "roommate")
	roommate.told("removed", "ann 0")
}

func TestContacts_AreCheckedAndReplacedAsAWhole(t *testing.T) {
	f := seeing(t, "GODWIT_MAX_CONTACTS", "3")
	ann := see(t, f.Nodes[0], "ann", online)
	bob := see(t, f.Nodes[1], "bob", online)
	befriend(t, f.Nodes[0], "bob", "ann", "never seen", "ann", "b/ö")
	bob.told("a contact that is there", "ann 3")
	for what, c := range map[string]struct {
		list []string
		says string
	}{
		"one too many":    {[]string{"a", "b", "c", "d"}, "4 contacts, at most 3"},
		"nobody":          {[]string{"ann", ""}, "contact 1 is empty"},
		"a name too long": {[]string{strings.Repeat("x", 129)}, "129 bytes"},
	} {
		if status, answer := contacts(t, f.Nodes[2], http.MethodPut, "bob", c.list...); status != http.StatusUnprocessableEntity || !strings.Contains(answer, c.says) {
			t.Errorf("%s: %d %s, want 422 with %q", what, status, answer, c.says)
		}
	}
	if status, answer := contacts(t, f.Nodes[2], http.MethodGet, "bob"); status != http.StatusOK || answer != `{"contacts":["ann","b/ö","never seen"]}` {
		t.Errorf("then the list is %d %s, want it as it was", status, answer)
	}
	if status, answer := contacts(t, f.Nodes[2], http.MethodGet, "nobody"); status != http.StatusOK || answer != `{"contacts":[]}` {
		t.Errorf("of a user that never was: %d %s", status, answer)
	}
	// One who stands among the watchers and not in the list, as a node that died
	// may leave behind.
	if err := f.Redis.Client.SAdd(t.Context(), "gw:{u:ann}:watchers", "cy", "dan").Err(); err != nil {
		t.Fatal(err)
	}
	cy := see(t, f.Nodes[2], "cy", online)
	ann.set(1, false)
	bob.told("ann's watchers are told", "ann 1")
	cy.untold("and who has her in no list is not", quiet)
}

func TestPresence_AResumeAndACrashInTheGraceAreNoEvent(t *testing.T) {
	f := seeing(t, "GODWIT_GRACE", "20s")
	befriend(t, f.Nodes[2], "bob", "ann")
	bob := see(t, f.Nodes[2], "bob", online)
	ann := see(t, f.Nodes[0], "ann", online)
	ann.set(1, false)
	bob.told("ann is there", "ann 3", "ann 1")
	pos := at(ann.join("lobby"))
	bob.join("lobby")
	ann.told("she sees herself, and bob", "self 1", "bob 3")

	again := ann.resume(f.Nodes[1], map[string]wire.Position{"lobby": pos})
	if again.session.Self != 1 || len(again.session.Presence) != 1 {
		t.Errorf("resumed as %d, with %+v", again.session.Self, again.session.Presence)
	}
	f.Nodes[1].Kill()
	last := &seer{guest: again.resume(f.Nodes[0], map[string]wire.Position{"lobby": pos}), pv: map[string]uint64{}}
	if last.session.Self != 1 {
		t.Errorf("after a crash she is %d, want 1", last.session.Self)
	}
	f.Nodes[1].Start()
	bob.untold("a resume, and a crash", 5*time.Second) // the dead node is swept by then
	last.set(2, false)
	bob.told("she is heard of from where she is", "ann 2")
}
