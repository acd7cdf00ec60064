package server_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"godwit/internal/trial"
	"godwit/store"
	"godwit/wire"
)

// What is too old stays in the log until a write trims it: whoever reads forward
// finds what stands behind it, page by page.
func TestHistory_WhatIsBehindTheOldIsRead(t *testing.T) {
	const old, young, limit = 2500, 50, 20 // no seq among the young has the old ones trimmed
	synctest.Test(t, func(t *testing.T) {
		f := trial.Start(trial.Options{Bubble: true, Change: func(s *trial.Settings) {
			s.Store.LogAge, s.Server.History = time.Minute, []string{"lobby"}
		}})
		defer f.Close()
		ops := f.Nodes[0].Core.Fleet()
		say := func() uint64 {
			sent, err := ops.Say(t.Context(), "lobby", "", store.Draft{Data: []byte("1")})
			if err != nil {
				t.Fatal(err)
			}
			return sent.Seq
		}
		ann := enter(t, f, 1, "ann")
		ann.join("lobby")
		for range old {
			say()
		}
		time.Sleep(2 * time.Minute)
		var want, got []uint64
		for range young {
			want = append(want, say())
		}
		if kept, err := f.Redis.Stream("gw:{r:lobby}:log"); err != nil || len(kept) < old {
			t.Fatalf("%d entries are kept, %v", len(kept), err)
		}
		most := limit
		for after := uint64(0); ; {
			var page wire.Past
			if err := ann.Call(t.Context(), "room.history", wire.History{Room: "lobby", After: &after, Limit: &most}, &page); err != nil {
				t.Fatal(err)
			}
			for _, ev := range page.Events {
				got = append(got, ev.Seq)
			}
			if !page.More {
				break
			}
			after = got[len(got)-1]
		}
		if !slices.Equal(got, want) {
			t.Errorf("history has %v, want %v", got, want)
		}
		for after, read := uint64(0), 0; ; {
			page, err := ops.Log(t.Context(), "lobby", after, limit)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page.Entries {
				if after = e.Seq; e.Seq != want[read] {
					t.Fatalf("an operator reads %d, want %d", e.Seq, want[read])
				}
				read++
			}
			if len(page.Entries) < limit {
				if read != young {
					t.Errorf("an operator reads %d, want %d", read, young)
				}
				break
			}
		}
	})
}
