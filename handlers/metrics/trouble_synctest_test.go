package metrics

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"godwit/internal/trial"
	"godwit/wire"
)

// has expects lines of a node's page.
func (l *load) has(what string, node int, want ...string) {
	l.Helper()
	lines := strings.Split(page(l.T, of(l.f.Nodes[node-1])), "\n")
	for _, line := range want {
		if !slices.Contains(lines, line) {
			name, _, _ := strings.Cut(line, "{")
			name, _, _ = strings.Cut(name, " ")
			l.Errorf("%s: no line %s, but\n%s", what, line, strings.Join(slices.DeleteFunc(slices.Clone(lines), func(s string) bool { return !strings.HasPrefix(s, name) }), "\n"))
		}
	}
}

func TestTrouble_AStoreThatIsAwayIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &load{t, trial.Start(trial.Options{Nodes: 2, Bubble: true})}
		defer l.f.Close()
		ann, _ := l.hello(1, "ann")
		bob, _ := l.hello(2, "bob")
		l.join(ann, "lobby")
		l.join(bob, "lobby")
		l.has("before", 1, "godwit_ready 1", `godwit_not_ready{reason="store"} 0`, "godwit_redis_deaf_seconds 0")

		l.f.Nodes[0].Part()
		time.Sleep(5 * time.Second)
		for range 3 { // ann's node does not hear them
			l.must(l.send(bob, wire.Send{Room: "lobby"}))
		}
		l.fails(l.send(ann, wire.Send{Room: "lobby"}))
		if c, err := l.f.Dial(t.Context(), "tcp", "n1:80"); err == nil {
			_, _ = c.Write([]byte("GET / HTTP/1.1\r\nHost: n1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"))
			l.quiet()
			c.Close()
		}
		l.has("away", 1, "godwit_ready 0", `godwit_not_ready{reason="store"} 1`, `godwit_not_ready{reason="lease"} 1`, `godwit_not_ready{reason="joining"} 0`,
			`godwit_messages_total{kind="logged",outcome="unavailable"} 1`, `godwit_sockets_refused_total{reason="store"} 1`, "godwit_events_delivered_total 1")
		l.has("the other", 2, "godwit_ready 1", "godwit_redis_deaf_seconds 0", "godwit_holes_total 0")

		l.f.Nodes[0].Join()
		time.Sleep(3 * time.Second)
		l.has("back", 1, "godwit_ready 1", `godwit_not_ready{reason="lease"} 0`, "godwit_redis_deaf_seconds 0", "godwit_redis_subscription_resets_total 1",
			"godwit_holes_total 1", "godwit_hole_entries_total 3", "godwit_room_resets_total 0",
			"godwit_events_delivered_total 4", "godwit_delivery_seconds_count 4")
		deaf := l.f.Nodes[0].Core.Stats().DeafFor
		if deaf < 4*time.Second || deaf > 7*time.Second {
			t.Errorf("deaf for %s in all, want the five seconds and what the return took", deaf)
		}
	})
}

func TestTrouble_ADrainIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &load{t, trial.Start(trial.Options{Nodes: 2, Bubble: true})}
		defer l.f.Close()
		ann, _ := l.hello(1, "ann") // who is offered a node, and does not come
		l.must(ann.Text(`{"jsonrpc":"2.0","method":"presence.set","params":{"presence":5}}`))
		l.quiet()
		l.has("before", 1, "godwit_drain_running 0", "godwit_drain_budget_seconds 0", `godwit_drain_sessions{state="left"} 0`)
		drained := make(chan error, 1)
		go func() { drained <- l.f.Nodes[0].Core.Drain(t.Context()) }()
		time.Sleep(100 * time.Millisecond)
		l.has("under way", 1, "godwit_drain_running 1", `godwit_not_ready{reason="draining"} 1`, `godwit_drain_sessions{state="left"} 1`, `godwit_drains_total{outcome="done"} 0`)
		<-drained
		l.quiet()
		l.has("over", 1, "godwit_drain_running 0", `godwit_drains_total{outcome="done"} 1`, `godwit_drains_total{outcome="over_budget"} 0`,
			`godwit_drain_sessions{state="left"} 0`, `godwit_drain_sessions{state="told"} 1`, `godwit_drain_sessions{state="moved"} 0`,
			`godwit_redirects_total{outcome="cancelled",reason="drain"} 1`)
	})
}
