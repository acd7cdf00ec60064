package server_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"godwit/e2e/raw"
	"godwit/internal/trial"
	asked "godwit/server/fleet"
	"godwit/store"
	"godwit/wire"
)

// chatter is a session of a single room, and its client id.
func chatter(t *testing.T, f *trial.Fleet, node, room, user string) (*raw.Binary, uint32) {
	t.Helper()
	conn, err := f.Dial(t.Context(), "tcp", node+":80")
	if err != nil {
		t.Fatal(err)
	}
	c, err := raw.OverChatd(conn, "ws://"+node+":80/v1/chatd/"+room, http.Header{"Authorization": {"Bearer dev:" + user}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Drop)
	if err := c.Say(raw.Hex("01 0100 0000")); err != nil {
		t.Fatal(err)
	}
	b, err := c.Next(t.Context())
	if err != nil || b[0] != 0x01 {
		t.Fatalf("HELLO is answered %x, %v", b, err)
	}
	return c, uint32(b[1]) | uint32(b[2])<<8 | uint32(b[3])<<16 | uint32(b[4])<<24
}

// leavers are the clients of the next leaves that the person hears.
func (p *person) leavers(n int) (out []uint32) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 10*time.Second)
	defer cancel()
	for range n {
		got, err := p.NextBut(ctx, "presence")
		if err != nil || got.Event == nil || got.Event.Kind != wire.KindLeave || got.Event.Reason != wire.LeftKicked {
			p.t.Fatalf("got %+v, %v, want a leave (%s)", got, err, wire.LeftKicked)
		}
		out = append(out, got.Event.From.Client)
	}
	slices.Sort(out)
	return out
}

func TestOperator_SignsAUserOutEverywhere(t *testing.T) {
	two(t, func(t *testing.T, f *trial.Fleet) {
		ops := f.Nodes[0].Core.Fleet()
		tab, phone := enter(t, f, 1, "ann"), enter(t, f, 2, "ann")
		tab.join("lobby")
		phone.join("lobby")
		phone.join("den")
		chat, client := chatter(t, f, "n2", "lobby", "ann")
		phone.Drop()
		time.Sleep(time.Second) // detached
		bob := enter(t, f, 1, "bob")
		bob.join("lobby")
		bob.join("den")
		bobs, _ := chatter(t, f, "n2", "garden", "bob")

		ann, err := ops.User(t.Context(), "ann")
		if err != nil || ann.Value == 0 || ann.PV == 0 || len(ann.Devices) != 2 || len(ann.Sessions) != 3 {
			t.Fatalf("%+v, %v; want two devices and three sessions", ann, err)
		}
		if ann.Handle != tab.session.Handle {
			t.Errorf("handle %s, want %s", ann.Handle, tab.session.Handle)
		}
		places := map[string]string{}
		for _, s := range ann.Sessions {
			slices.Sort(s.Rooms)
			places[s.ID] = s.Owner.Node + " " + s.State + " " + strings.Join(s.Rooms, ",")
			if s.Client == client && places[s.ID] != "n2 live lobby" {
				t.Errorf("the one without a device is %s", places[s.ID])
			}
		}
		if places[tab.session.Session] != "n1 live lobby" || places[phone.session.Session] != "n2 detached den,lobby" {
			t.Errorf("sessions: %v", places)
		}

		if err := ops.SignOut(t.Context(), "ann"); err != nil {
			t.Fatal(err)
		}
		want := []uint32{tab.session.Client, phone.session.Client, phone.session.Client, client}
		slices.Sort(want)
		if got := bob.leavers(len(want)); !slices.Equal(got, want) {
			t.Errorf("heard leave %v, want %v", got, want)
		}
		for what, socket := range map[string]interface {
			End(context.Context) (*raw.Closed, error)
		}{"tab": tab, "chatd": chat} {
			if end, err := socket.End(t.Context()); err != nil || end.Code != wire.CloseSignedOut {
				t.Errorf("the socket of %s: %v, %v, want %d", what, end, err, wire.CloseSignedOut)
			}
		}
		for _, p := range []*person{tab, phone} {
			err := dial(t, f, 2).Call(t.Context(), "resume", wire.Resume{Session: p.session.Session, Secret: p.session.Secret}, nil)
			if reason(err) != wire.NoSession {
				t.Errorf("resumed after that: %v", err)
			}
		}
		if err := ops.SignOut(t.Context(), "ann"); err != nil { // there is nothing left to end
			t.Errorf("once more: %v", err)
		}
		bob.seesNothing(40 * time.Second)
		if bobs.Closed() != nil {
			t.Errorf("another user's: %v", bobs.Closed())
		}
		if err := bob.say("still here", 1); err != nil {
			t.Errorf("another user: %v", err)
		}
		if ann, err = ops.User(t.Context(), "ann"); err != nil || ann.Value != 0 || len(ann.Devices) != 0 || len(ann.Sessions) != 0 {
			t.Errorf("after that: %+v, %v", ann, err)
		}
		again := enter(t, f, 2, "ann") // a good token lets it in again
		again.join("lobby")
	})
}

func TestOperator_OfAUserWhoWasNeverSeenThereIsNothing(t *testing.T) {
	two(t, func(t *testing.T, f *trial.Fleet) {
		ops := f.Nodes[0].Core.Fleet()
		if u, err := ops.User(t.Context(), "nobody"); err != nil || u.User != "nobody" || len(u.Handle) != 16 || u.PV != 0 || len(u.Devices)+len(u.Sessions) != 0 {
			t.Errorf("%+v, %v", u, err)
		}
		if err := ops.SignOut(t.Context(), "nobody"); err != nil {
			t.Error(err)
		}
		for _, name := range []string{"", "\xff", strings.Repeat("n", 129)} {
			var wrong *asked.Wrong
			if _, err := ops.User(t.Context(), name); !errors.As(err, &wrong) {
				t.Errorf("the user %q: %v", name, err)
			}
			if err := ops.SignOut(t.Context(), name); !errors.As(err, &wrong) {
				t.Errorf("signed %q out: %v", name, err)
			}
		}
	})
}

func TestOperator_ASessionWithoutARecordIsPassedOver(t *testing.T) {
	two(t, func(t *testing.T, f *trial.Fleet) {
		ann := enter(t, f, 1, "ann")
		if _, err := f.Redis.SAdd("gw:{u:ann}:sessions", "0", "zzz"); err != nil {
			t.Fatal(err)
		}
		ops := f.Nodes[1].Core.Fleet()
		if u, err := ops.User(t.Context(), "ann"); err != nil || len(u.Sessions) != 1 || u.Sessions[0].ID != ann.session.Session {
			t.Errorf("%+v, %v, want one session", u.Sessions, err)
		}
		if err := ops.SignOut(t.Context(), "ann"); err != nil {
			t.Error(err)
		}
		if end, err := ann.End(t.Context()); err != nil || end.Code != wire.CloseSignedOut {
			t.Errorf("%v, %v", end, err)
		}
	})
}

// One session's trouble keeps no other from ending, and a repeat finishes.
func TestOperator_ASignOutThatFailsSaysSoAndEndsTheRest(t *testing.T) {
	two(t, func(t *testing.T, f *trial.Fleet) {
		ops := f.Nodes[0].Core.Fleet()
		ann, other := enter(t, f, 1, "ann"), enter(t, f, 2, "ann")
		synctest.Wait()
		key := "gw:{s:" + ann.session.Session + "}:session"
		gen := f.Redis.HGet(key, "gen")
		f.Redis.HSet(key, "gen", "none")
		if err := ops.SignOut(t.Context(), "ann"); err == nil || !strings.Contains(err.Error(), ann.session.Session) {
			t.Errorf("%v, want an error of session %s", err, ann.session.Session)
		}
		if end, err := other.End(t.Context()); err != nil || end.Code != wire.CloseSignedOut {
			t.Errorf("the other: %v, %v", end, err)
		}
		f.Redis.HSet(key, "gen", gen)
		f.Redis.SetError("LOADING not now")
		if err := ops.SignOut(t.Context(), "ann"); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("without a store: %v", err)
		}
		f.Redis.SetError("")
		if err := ops.SignOut(t.Context(), "ann"); err != nil {
			t.Error(err)
		}
		if end, err := ann.End(t.Context()); err != nil || end.Code != wire.CloseSignedOut {
			t.Errorf("the one: %v, %v", end, err)
		}
	})
}
