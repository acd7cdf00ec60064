package trial_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"godwit/client"
	"godwit/internal/trial"
	"godwit/wire"
)

func TestFleet_InABubbleAClientGoesOnAtAnotherNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := trial.Start(trial.Options{Nodes: 2, Bubble: true})
		defer f.Close()
		ctx := t.Context()
		dial := func(user string, urls ...string) *client.Client {
			c, err := client.Dial(ctx, client.Options{
				URLs: urls, Dial: f.Dial,
				Token: func(context.Context) (string, error) { return "dev:" + user, nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Join(ctx, "lobby"); err != nil {
				t.Fatal(err)
			}
			return c
		}
		ann, bob := dial("ann", f.URLs()...), dial("bob", f.Nodes[1].URL)
		defer ann.Close(ctx)
		defer bob.Close(ctx)
		f.Nodes[0].Cut()
		if _, err := bob.Send(ctx, "lobby", "hi"); err != nil {
			t.Fatal(err)
		}
		for {
			e, err := ann.Next(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if m, ok := e.(*wire.RoomEvent); ok && m.Kind == wire.KindMessage {
				if m.Seq != 3 || string(m.Data) != `"hi"` {
					t.Errorf("ann got %d %s", m.Seq, m.Data)
				}
				break
			}
		}
		time.Sleep(2 * time.Minute) // virtual: nothing that time does ends an attached session
		if _, err := ann.Send(ctx, "lobby", "still here"); err != nil {
			t.Error(err)
		}
	})
}
