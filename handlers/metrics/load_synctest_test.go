package metrics

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json"

	"godwit/e2e/raw"
	"godwit/internal/trial"
	"godwit/wire"
)

// load is a scripted load on two nodes. What fails ends the test.
type load struct {
	*testing.T
	f *trial.Fleet
}

func (l *load) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

// fails expects a request to be answered with an error.
func (l *load) fails(err error) {
	l.Helper()
	if _, ok := err.(*wire.Error); !ok {
		l.Fatalf("answered %v, want an error", err)
	}
}

func (l *load) dial(node int) *raw.Conn {
	l.Helper()
	n := l.f.Nodes[node-1]
	conn, err := l.f.Dial(l.Context(), "tcp", fmt.Sprintf("n%d:80", node))
	l.must(err)
	c, err := raw.Over(conn, n.URL, nil)
	l.must(err)
	l.Cleanup(c.Drop)
	return c
}

func (l *load) hello(node int, user string) (*raw.Conn, wire.Session) {
	l.Helper()
	c := l.dial(node)
	var s wire.Session
	l.must(c.Call(l.Context(), "hello", wire.Hello{Token: "dev:" + user, Caps: []string{"redirect"}}, &s))
	return c, s
}

func (l *load) join(c *raw.Conn, room string) map[string]wire.Position {
	l.Helper()
	var in wire.Joined
	l.must(c.Call(l.Context(), "room.join", wire.Join{Room: room}, &in))
	l.quiet()
	return map[string]wire.Position{room: {Epoch: in.Epoch, Seq: in.Seq}}
}

func (l *load) send(c *raw.Conn, s wire.Send) error {
	if s.Data == nil {
		s.Data = wire.Raw(`"hi"`)
	}
	err := c.Call(l.Context(), "room.send", s, nil)
	l.quiet()
	return err
}

// quiet waits until all that happened has come to where it goes.
func (l *load) quiet() {
	time.Sleep(10 * time.Millisecond)
	synctest.Wait()
}

// counted are the families that the test is about: of them it knows every value.
var counted = []string{
	"godwit_sessions", "godwit_sockets", "godwit_rooms", "godwit_sockets_refused_total",
	"godwit_logins_total", "godwit_resumes_total", "godwit_handovers_total", "godwit_messages_total", "godwit_requests_total",
	"godwit_evictions_total", "godwit_frames_bad_total",
	"godwit_delivery_seconds_count", "godwit_events_delivered_total", "godwit_holes_total", "godwit_hole_entries_total",
	"godwit_room_resets_total", "godwit_call_changes_total", "godwit_call_beats_total", "godwit_presence_changes_total",
	"godwit_redis_deaf_seconds", "godwit_redis_subscription_resets_total",
	"godwit_redirects_total", "godwit_redirects_standing", "godwit_places_kept", "godwit_drains_total",
	"godwit_fanout_dropped_total", "godwit_departures_waiting", "godwit_sessions_swept_total",
}

// values are the values of those families that are not 0, by node and series.
func (l *load) values() map[string]float64 {
	l.Helper()
	all := map[string]float64{}
	for i, n := range l.f.Nodes {
		for line := range strings.Lines(page(l.T, of(n))) {
			series, text, ok := strings.Cut(strings.TrimSpace(line), " ")
			if name, _, _ := strings.Cut(series, "{"); strings.HasPrefix(line, "#") || !ok || !slices.Contains(counted, name) {
				continue
			}
			if at := strings.IndexByte(text, ' '); at >= 0 { // a label's value had a blank
				l.Fatalf("cannot read %q", line)
			}
			v, err := strconv.ParseFloat(text, 64)
			l.must(err)
			if v != 0 {
				all[fmt.Sprintf("n%d %s", i+1, series)] = v
			}
		}
	}
	return all
}

// expect holds them against lines of what has come since the last time.
func (l *load) expect(since map[string]float64, what string, want ...string) map[string]float64 {
	l.Helper()
	l.quiet()
	expected := maps.Clone(since)
	for _, line := range want {
		at := strings.LastIndexByte(line, ' ')
		v, err := strconv.ParseFloat(line[at+1:], 64)
		l.must(err)
		if expected[line[:at]] += v; expected[line[:at]] == 0 {
			delete(expected, line[:at])
		}
	}
	got := l.values()
	for _, series := range slices.Sorted(maps.Keys(got)) {
		if got[series] != expected[series] {
			l.Errorf("%s: %s is %v, want %v", what, series, got[series], expected[series])
		}
	}
	for _, series := range slices.Sorted(maps.Keys(expected)) {
		if _, told := got[series]; !told {
			l.Errorf("%s: %s is 0, want %v", what, series, expected[series])
		}
	}
	return got
}

// Each step names all that it changes, at both nodes, and by how much: whatever
// else moves fails the test, too.
func TestLoad_IsCountedExactly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &load{t, trial.Start(trial.Options{Nodes: 2, Bubble: true})}
		defer l.f.Close()
		ctx := t.Context()
		have := l.expect(nil, "nobody yet")

		ann, _ := l.hello(1, "ann")
		bob, _ := l.hello(1, "bob")
		dan, danIs := l.hello(2, "dan")
		l.fails(l.dial(1).Call(ctx, "hello", wire.Hello{Token: "nonsense"}, nil))
		time.Sleep(3 * time.Second) // the refused one is gone
		have = l.expect(have, "logins",
			"n1 godwit_sessions 2", "n1 godwit_sockets 2", `n1 godwit_logins_total{outcome="ok",way="json"} 2`,
			`n1 godwit_logins_total{outcome="unauthorized",way="json"} 1`,
			"n2 godwit_sessions 1", "n2 godwit_sockets 1", `n2 godwit_logins_total{outcome="ok",way="json"} 1`)

		at := l.join(ann, "lobby")
		l.join(bob, "lobby")
		danAt := l.join(dan, "lobby")
		l.join(ann, "den")
		have = l.expect(have, "joins",
			"n1 godwit_rooms 2", `n1 godwit_requests_total{method="room.join",outcome="ok"} 3`,
			"n1 godwit_events_delivered_total 3", "n1 godwit_delivery_seconds_count 2", // bob's to ann, dan's to both
			"n2 godwit_rooms 1", `n2 godwit_requests_total{method="room.join",outcome="ok"} 1`)

		for cseq := range uint64(5) {
			cseq++
			l.must(l.send(ann, wire.Send{Room: "lobby", CSeq: &cseq}))
		}
		five := uint64(5)
		l.must(l.send(ann, wire.Send{Room: "lobby", CSeq: &five}))
		l.must(l.send(bob, wire.Send{Room: "lobby", To: &wire.To{Client: &danIs.Client}}))
		l.must(l.send(ann, wire.Send{Room: "lobby", Ephemeral: true}))
		have = l.expect(have, "messages",
			`n1 godwit_messages_total{kind="logged",outcome="ok"} 6`, `n1 godwit_messages_total{kind="logged",outcome="repeated"} 1`,
			`n1 godwit_messages_total{kind="ephemeral",outcome="ok"} 1`,
			"n1 godwit_events_delivered_total 6", "n1 godwit_delivery_seconds_count 6", // to bob; what is for dan alone does not count
			"n2 godwit_events_delivered_total 7", "n2 godwit_delivery_seconds_count 7")

		nine, nobody := uint64(9), uint32(4_000_000_000)
		l.fails(l.send(bob, wire.Send{Room: "den"}))
		l.fails(l.send(ann, wire.Send{Room: "lobby", CSeq: &nine}))
		l.fails(l.send(ann, wire.Send{Room: "lobby", To: &wire.To{Client: &nobody}}))
		l.fails(l.send(ann, wire.Send{Room: "lobby", Data: wire.Raw(`"` + strings.Repeat("x", 32<<10) + `"`)}))
		l.fails(l.send(ann, wire.Send{Room: "lobby", Ephemeral: true, CSeq: &nine}))
		l.fails(ann.Call(ctx, "room.send", map[string]int{"room": 7}, nil))
		l.fails(ann.Call(ctx, "no.such", wire.Empty{}, nil))
		l.fails(bob.Call(ctx, "room.info", wire.Info{Room: "den"}, nil))
		l.must(ann.Text("{"))
		have = l.expect(have, "denied",
			`n1 godwit_messages_total{kind="logged",outcome="not_member"} 1`, `n1 godwit_messages_total{kind="logged",outcome="gap"} 1`,
			`n1 godwit_messages_total{kind="logged",outcome="no_recipient"} 1`, `n1 godwit_messages_total{kind="logged",outcome="too_large"} 1`,
			`n1 godwit_messages_total{kind="ephemeral",outcome="invalid"} 1`, `n1 godwit_messages_total{kind="unread",outcome="invalid"} 1`,
			`n1 godwit_requests_total{method="other",outcome="invalid"} 1`, `n1 godwit_requests_total{method="room.info",outcome="not_member"} 1`,
			"n1 godwit_frames_bad_total 1")

		dan.Drop()
		l.quiet()
		l.must(l.send(ann, wire.Send{Room: "lobby"}))
		l.must(l.send(ann, wire.Send{Room: "lobby"}))
		l.fails(l.dial(2).Call(ctx, "resume", wire.Resume{Session: danIs.Session, Secret: "wrong"}, nil))
		dan = l.dial(1)
		danAt["lobby"] = wire.Position{Epoch: danAt["lobby"].Epoch, Seq: danAt["lobby"].Seq + 6}
		l.must(dan.Call(ctx, "resume", wire.Resume{Session: danIs.Session, Secret: danIs.Secret, Positions: danAt}, nil))
		time.Sleep(3 * time.Second)
		have = l.expect(have, "a resume",
			"n1 godwit_sessions 1", "n1 godwit_sockets 1", `n1 godwit_resumes_total{outcome="ok"} 1`,
			`n1 godwit_messages_total{kind="logged",outcome="ok"} 2`,
			"n1 godwit_events_delivered_total 2", "n1 godwit_delivery_seconds_count 2", // to bob; dan's replay does not count
			"n2 godwit_sessions -1", "n2 godwit_sockets -1", "n2 godwit_rooms -1", `n2 godwit_resumes_total{outcome="no_session"} 1`)

		l.must(ann.Call(ctx, "redirect.request", wire.RedirectRequest{}, nil))
		var o wire.Redirect
		for o.ID == "" {
			n, err := ann.Next(ctx)
			l.must(err)
			if n.Method == "redirect" {
				l.must(json.Unmarshal(n.Params, &o))
			}
		}
		have = l.expect(have, "an offer", `n1 godwit_requests_total{method="redirect.request",outcome="ok"} 1`,
			"n1 godwit_redirects_standing 1", "n2 godwit_places_kept 1")
		l.fails(l.dial(2).Call(ctx, "handover", wire.Handover{ID: o.ID, Token: "nonsense"}, nil))
		moved := l.dial(2)
		at["lobby"] = wire.Position{Epoch: at["lobby"].Epoch, Seq: 11}
		l.must(moved.Call(ctx, "handover", wire.Handover{ID: o.ID, Token: o.Token, Positions: at, Caps: []string{"redirect"}}, nil))
		l.must(moved.Call(ctx, "handover.done", wire.HandoverDone{ID: o.ID}, nil))
		time.Sleep(3 * time.Second)
		have = l.expect(have, "a redirect",
			`n1 godwit_redirects_total{outcome="committed",reason="request"} 1`, "n1 godwit_redirects_standing -1",
			"n1 godwit_sessions -1", "n1 godwit_sockets -1", "n1 godwit_rooms -1",
			`n2 godwit_handovers_total{outcome="ok"} 1`, `n2 godwit_handovers_total{outcome="bad_token"} 1`, "n2 godwit_places_kept -1",
			`n2 godwit_requests_total{method="handover.done",outcome="ok"} 1`,
			"n2 godwit_sessions 1", "n2 godwit_sockets 1", "n2 godwit_rooms 2")
		ann = moved

		in, out := uint8(1), uint8(0)
		l.must(ann.Call(ctx, "call.beat", wire.Beat{Room: "lobby", Status: &in}, nil))
		l.must(bob.Call(ctx, "call.beat", wire.Beat{Room: "lobby", Status: &in}, nil))
		l.quiet()
		l.must(bob.Call(ctx, "call.beat", wire.Beat{Room: "lobby", Status: &out}, nil))
		l.fails(bob.Call(ctx, "call.beat", wire.Beat{Room: "den", Status: &in}, nil))
		have = l.expect(have, "a call",
			`n1 godwit_call_changes_total{state="on"} 1`, `n1 godwit_call_changes_total{state="off"} 1`, "n1 godwit_call_beats_total 2",
			`n1 godwit_requests_total{method="call.beat",outcome="ok"} 2`, `n1 godwit_requests_total{method="call.beat",outcome="not_member"} 1`,
			"n1 godwit_events_delivered_total 4", "n1 godwit_delivery_seconds_count 2", // to bob and dan
			`n2 godwit_call_changes_total{state="on"} 1`, `n2 godwit_call_changes_total{state="off"} 1`, "n2 godwit_call_beats_total 1",
			`n2 godwit_requests_total{method="call.beat",outcome="ok"} 1`,
			"n2 godwit_events_delivered_total 2", "n2 godwit_delivery_seconds_count 2")

		for _, value := range []uint8{9, 9, 4} { // the second is no change
			l.must(bob.Call(ctx, "presence.set", wire.SetPresence{Presence: &value}, nil))
			l.quiet()
		}
		have = l.expect(have, "presence",
			`n1 godwit_requests_total{method="presence.set",outcome="ok"} 3`, "n1 godwit_presence_changes_total 2",
			"n2 godwit_presence_changes_total 2") // ann sees bob

		eve, _ := l.hello(1, "eve")
		l.join(eve, "lobby")
		eve.Halt()
		big := wire.Raw(`"` + strings.Repeat("x", 30_000) + `"`)
		n := 0
		for ; l.f.Nodes[0].Sockets.Stats.EvictedSlow.Load() == 0 && n < 100; n++ {
			l.must(l.send(ann, wire.Send{Room: "lobby", Data: big}))
		}
		eve.Go()
		time.Sleep(3 * time.Second)
		have = l.expect(have, "an eviction",
			`n1 godwit_logins_total{outcome="ok",way="json"} 1`, `n1 godwit_requests_total{method="room.join",outcome="ok"} 1`,
			`n1 godwit_evictions_total{reason="slow"} 1`,
			fmt.Sprint("n1 godwit_events_delivered_total ", 2+3*n), fmt.Sprint("n1 godwit_delivery_seconds_count ", 1+n), // bob, dan and, until the last, eve
			fmt.Sprintf(`n2 godwit_messages_total{kind="logged",outcome="ok"} %d`, n),
			"n2 godwit_events_delivered_total 1", "n2 godwit_delivery_seconds_count 1") // eve's join, to ann

		conn, err := l.f.Dial(ctx, "tcp", "n1:80")
		l.must(err)
		fay, err := raw.OverChatd(conn, "ws://n1:80/v1/chatd/den", http.Header{"Authorization": {"Bearer dev:fay"}})
		l.must(err)
		t.Cleanup(fay.Drop)
		l.must(fay.Say(raw.Hex("01 0100 0000")))
		l.quiet()
		conn, err = l.f.Dial(ctx, "tcp", "n1:80")
		l.must(err)
		if _, err = raw.OverChatd(conn, "ws://n1:80/v1/chatd/den", http.Header{"Authorization": {"Bearer nonsense"}}); err == nil {
			t.Fatal("anybody comes in")
		}
		l.must(fay.Say(raw.RTMsg(raw.Nobody, 0, 0, []byte("hi"))))
		l.must(fay.Say(raw.RTMsg("00000000000000aa", 0, 0, []byte("hi"))))
		have = l.expect(have, "binary",
			"n1 godwit_sessions 1", "n1 godwit_sockets 1", "n1 godwit_rooms 1",
			`n1 godwit_logins_total{outcome="ok",way="binary"} 1`, `n1 godwit_logins_total{outcome="unauthorized",way="binary"} 1`,
			`n1 godwit_messages_total{kind="logged",outcome="ok"} 1`, `n1 godwit_messages_total{kind="unread",outcome="no_recipient"} 1`,
			"n2 godwit_events_delivered_total 2", "n2 godwit_delivery_seconds_count 2") // fay's join and message, to ann

		l.must(bob.Call(ctx, "bye", wire.Empty{}, nil))
		time.Sleep(3 * time.Second)
		l.expect(have, "bye",
			"n1 godwit_sessions -1", "n1 godwit_sockets -1", `n1 godwit_requests_total{method="bye",outcome="ok"} 1`,
			"n1 godwit_events_delivered_total 1", "n1 godwit_delivery_seconds_count 1", "n1 godwit_presence_changes_total 1",
			"n2 godwit_events_delivered_total 1", "n2 godwit_delivery_seconds_count 1", "n2 godwit_presence_changes_total 1")
	})
}
