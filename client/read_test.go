package client_test

import (
	"context"
	"slices"
	"testing"

	"godwit/client"
	"godwit/internal/trial"
	"godwit/wire"
)

// readable is a room of ann's with her join and the messages 2 to 6, that bob
// has then joined with 7, and the two clients.
func readable(t *testing.T) (ann, bob *client.Client) {
	t.Helper()
	fleet := trial.Start(trial.Options{Nodes: 2})
	t.Cleanup(fleet.Close)
	ann, bob = dial(t.Context(), "ann", fleet.Nodes[0].URL), dial(t.Context(), "bob", fleet.Nodes[1].URL)
	t.Cleanup(func() {
		for _, c := range []*client.Client{ann, bob} {
			if err := c.Close(context.Background()); err != nil {
				t.Errorf("close: %v", err)
			}
		}
	})
	if _, err := ann.Join(t.Context(), "r"); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if _, err := ann.Send(t.Context(), "r", i+2); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := bob.Join(t.Context(), "r"); err != nil {
		t.Fatal(err)
	}
	return ann, bob
}

func TestHistory_IsThePartThatIsAskedFor(t *testing.T) {
	ann, bob := readable(t)
	joined, err := ann.Join(t.Context(), "r")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		who  *client.Client
		part []wire.History
		want []uint64
		more bool
	}{
		{"all of it", ann, nil, []uint64{2, 3, 4, 5, 6, 7}, false},
		{"the newest", ann, []wire.History{{Limit: new(2)}}, []uint64{6, 7}, true},
		{"before one", ann, []wire.History{{Before: new(uint64(5)), Limit: new(2)}}, []uint64{3, 4}, true},
		{"after one", ann, []wire.History{{After: new(uint64(3)), Limit: new(2)}}, []uint64{4, 5}, true},
		{"after the last", ann, []wire.History{{After: new(uint64(7))}}, nil, false},
		{"the room in the part is not looked at", ann, []wire.History{{Room: "other", Limit: new(1)}}, []uint64{7}, true},
		{"nothing from before one's own join", bob, nil, nil, false},
	} {
		past, err := c.who.History(t.Context(), "r", c.part...)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got []uint64
		for _, e := range past.Events {
			got = append(got, e.Seq)
			if e.Room != "r" || e.From.User == "" || e.TS == 0 {
				t.Errorf("%s: event %+v, want its room, sender and time", c.name, e)
			}
		}
		if !slices.Equal(got, c.want) || past.More != c.more || past.Epoch != joined.Epoch {
			t.Errorf("%s: %v, more %v, epoch %s; want %v, %v, %s", c.name, got, past.More, past.Epoch, c.want, c.more, joined.Epoch)
		}
	}
}

func TestInfo_IsTheSameAtEachNode(t *testing.T) {
	ann, bob := readable(t)
	for name, c := range map[string]*client.Client{"ann": ann, "bob": bob} {
		info, err := c.Info(t.Context(), "r")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		users := make(map[string]uint32)
		for _, m := range info.Members {
			users[m.User] = m.Client
		}
		if info.Room != "r" || info.Seq != 7 || info.Epoch == "" || info.More || info.InCall || len(info.Call) != 0 ||
			len(info.Members) != 2 || users["ann"] != ann.Session().Client || users["bob"] != bob.Session().Client {
			t.Errorf("%s is told %+v; want room r at 7 with ann (%d) and bob (%d)", name, info, ann.Session().Client, bob.Session().Client)
		}
	}
}

func TestReading_IsForMembers(t *testing.T) {
	ann, _ := readable(t)
	if _, err := ann.History(t.Context(), "another"); !client.Is(err, wire.NotMember) {
		t.Errorf("history: %v, want not_member", err)
	}
	if _, err := ann.Info(t.Context(), "another"); !client.Is(err, wire.NotMember) {
		t.Errorf("info: %v, want not_member", err)
	}
	if _, err := ann.History(t.Context(), "r", wire.History{Limit: new(-1)}); err == nil {
		t.Error("history with a limit of -1 is answered")
	}
}
