package server_test

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"godwit/internal/trial"
	"godwit/wire"
)

// A node's own clock is no other node's: what they compare is by the store's.
func TestOffer_HoldsWhateverTheClockOfANodeSays(t *testing.T) {
	for name, skew := range map[string]time.Duration{"ahead": time.Hour, "behind": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			trio(t, nil, func(t *testing.T, f *trial.Fleet) {
				set := func(d time.Duration) {
					f.Redis.SetTime(time.Now().Add(skew + d))
					time.Sleep(500 * time.Millisecond) // each node has renewed its lease
				}
				set(0)
				ann := follower(t, f, 1, "ann")
				if err := ann.Call(t.Context(), "redirect.request", wire.RedirectRequest{Node: "n2"}, nil); err != nil {
					t.Fatal(err)
				}
				var o wire.Redirect
				ann.notice("redirect", &o)
				text, _, _ := strings.Cut(o.Token, ".")
				payload, err := base64.RawURLEncoding.DecodeString(text)
				if err != nil {
					t.Fatal(err)
				}
				var p struct {
					Exp int64 `json:"exp"`
				}
				if err := json.Unmarshal(payload, &p); err != nil {
					t.Fatal(err)
				}
				// By the later clock: one of the version before checks it by its own.
				left := time.UnixMilli(p.Exp).Sub(time.Now().Add(max(0, skew)))
				if left < 13*time.Second || left > 16*time.Second {
					t.Errorf("by the later clock the token holds for %s, want 15s", left)
				}
				c, s, err := handover(t, f, 2, o, nil)
				if err != nil {
					t.Fatalf("taken up at once: %v", err)
				}
				ann = &person{t: t, Conn: c, session: s}

				// She has left n1 just now, whatever the clocks say.
				back := wire.RedirectRequest{Node: "n1"}
				if err := ann.Call(t.Context(), "redirect.request", back, nil); reason(err) != wire.NoTarget {
					t.Errorf("back at once: %v, want no_target", err)
				}
				set(61 * time.Second)
				if err := ann.Call(t.Context(), "redirect.request", back, nil); err != nil {
					t.Errorf("back after a minute: %v", err)
				}
			})
		})
	}
}
