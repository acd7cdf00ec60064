package server_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"godwit/internal/trial"
	"godwit/store"
	"godwit/wire"
)

// Who was in before a wipe is in again, though others have filled the room before
// its node noticed.
func TestRejoin_ARoomThatFilledUpMeanwhileHasItsMembersStill(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		ann, bob := enter(t, f, 1, "ann"), enter(t, f, 1, "bob")
		ann.join("lobby")
		bob.join("lobby")
		f.Redis.FlushAll()
		f.Redis.HSet("gw:{r:lobby}:meta", "epoch", store.NewEpoch(), "seq", "1")
		for i := range 10_000 {
			f.Redis.HSet("gw:{r:lobby}:members", fmt.Sprint(100+i), fmt.Sprintf("1 0 1 2 1 s%d cyd", i))
		}
		within, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for _, p := range []*person{ann, bob} {
			var r wire.Reset
			for r.Epoch == "" {
				n, err := p.next(within)
				if err != nil {
					t.Fatalf("%s waits for a reset: %v", p.session.User, err)
				}
				if n.Method != "room.reset" {
					continue
				}
				if err := json.Unmarshal(n.Params, &r); err != nil {
					t.Fatal(err)
				}
			}
			if !r.More || r.Seq < 2 {
				t.Errorf("reset %+v, want a place behind the one entry, among more members than are told", r)
			}
		}
		if err := ann.say("still here", 1); err != nil {
			t.Errorf("a send: %v", err)
		}
	})
}
