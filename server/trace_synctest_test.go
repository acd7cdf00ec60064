package server_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"godwit/e2e/raw"
	"godwit/internal/trial"
	"godwit/trace"
	"godwit/wire"
)

// spans gathers what ends at the nodes of a fleet.
type spans struct {
	mu  sync.Mutex
	all []string // guarded by mu: node, name, depth and what it says
	ids map[[8]byte]int
}

func (s *spans) at(node string) func(*trace.Span) {
	return func(sp *trace.Span) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ids[sp.ID.Span] = len(s.all)
		text := fmt.Sprintf("%x %x %s %s", sp.ID.Trace, sp.Parent, node, sp.Name)
		for _, a := range sp.Attrs {
			if !slices.Contains([]string{"godwit.epoch", "godwit.pipeline.calls", "db.system.name", "db.stored_procedure.name"}, a.Key) {
				text += fmt.Sprintf(" %s=%v", strings.TrimPrefix(a.Key, "godwit."), a.Value)
			}
		}
		if sp.Failed {
			text += " failed"
		}
		s.all = append(s.all, text)
	}
}

// tree is every trace that ended since the last time, a span under its parent.
func (s *spans) tree(t *testing.T) string {
	t.Helper()
	time.Sleep(10 * time.Millisecond)
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	below := map[string][]string{}
	own := make(map[int]string)
	for id, i := range s.ids {
		own[i] = fmt.Sprintf("%x", id)
	}
	traces := map[string]bool{}
	for i, text := range s.all {
		of, rest, _ := strings.Cut(text, " ")
		parent, rest, _ := strings.Cut(rest, " ")
		traces[of] = true
		below[parent] = append(below[parent], rest+"\x00"+own[i])
	}
	var b strings.Builder
	seen := 0
	var write func(parent, indent string)
	write = func(parent, indent string) {
		slices.SortFunc(below[parent], func(a, b string) int { return cmp.Compare(a, b) })
		for _, line := range below[parent] {
			text, id, _ := strings.Cut(line, "\x00")
			seen++
			b.WriteString(indent + text + "\n")
			write(id, indent+"  ")
		}
	}
	write(strings.Repeat("0", 16), "")
	if seen != len(s.all) || len(traces) != len(below[strings.Repeat("0", 16)]) {
		t.Errorf("of %d spans in %d traces, these hang together: %s", len(s.all), len(traces), b.String())
	}
	s.all, s.ids = nil, map[[8]byte]int{}
	return b.String()
}

// traced is a fleet of two nodes that follow so large shares of their sends.
func traced(t *testing.T, shares [2]float64, test func(t *testing.T, f *trial.Fleet, s *spans)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &spans{ids: map[[8]byte]int{}}
		f := trial.Start(trial.Options{Nodes: 2, Bubble: true, Change: func(set *trial.Settings) {
			name := set.Server.Node.Node
			if share := shares[name[1]-'1']; share >= 0 {
				set.Server.Trace = trace.New(share, s.at(name))
			}
		}})
		defer f.Close()
		test(t, f, s)
	})
}

func (s *spans) expect(t *testing.T, what, want string) {
	t.Helper()
	if got := s.tree(t); got != want {
		t.Errorf("%s:\n%swant:\n%s", what, got, want)
	}
}

func TestTrace_OneSendIsOneTraceOverEveryNodeThatHearsIt(t *testing.T) {
	traced(t, [2]float64{1, 0}, func(t *testing.T, f *trial.Fleet, s *spans) {
		ann, bob, cy := enter(t, f, 1, "ann"), enter(t, f, 2, "bob"), enter(t, f, 2, "cy")
		for _, p := range []*person{ann, bob, cy} {
			p.join("lobby")
		}
		s.expect(t, "joins are not followed", "")
		if err := ann.say("hi", 1); err != nil {
			t.Fatal(err)
		}
		s.expect(t, "a send", `n1 room.send bytes=4 kind=logged outcome=ok
  n1 store.send outcome=ok seq=4
    n1 room.deliver filled=false seq=4 receivers=0
    n2 room.deliver filled=false seq=4 receivers=2
`)
		if err := ann.say("hi", 1); err != nil {
			t.Fatal(err)
		}
		s.expect(t, "a repeat, which goes to nobody", `n1 room.send bytes=4 kind=logged outcome=repeated
  n1 store.send outcome=dup
`)
		if err := bob.say("hi", 1); err != nil {
			t.Fatal(err)
		}
		s.expect(t, "a send at the node that follows none of its own", "")
		send := func(p *person, m wire.Send) error {
			m.Room, m.Data = cmp.Or(m.Room, "lobby"), wire.Raw(`"hi"`)
			return p.Call(t.Context(), "room.send", m, nil)
		}
		if err := send(ann, wire.Send{Ephemeral: true}); err != nil {
			t.Fatal(err)
		}
		s.expect(t, "an ephemeral one", `n1 room.send bytes=4 kind=ephemeral outcome=ok
  n1 store.send outcome=ok seq=0
    n1 room.deliver filled=false seq=0 receivers=0
    n2 room.deliver filled=false seq=0 receivers=2
`)
		if err := send(ann, wire.Send{To: &wire.To{Client: &bob.session.Client}}); err != nil {
			t.Fatal(err)
		}
		s.expect(t, "one for bob alone", `n1 room.send bytes=4 kind=logged outcome=ok
  n1 store.send outcome=ok seq=6
    n1 room.deliver filled=false seq=6 receivers=0
    n2 room.deliver filled=false seq=6 receivers=1
`)
		nine, nobody := uint64(9), uint32(4_000_000_000)
		for _, c := range []struct {
			what string
			m    wire.Send
			want string
		}{
			{"to a room that she is not in", wire.Send{Room: "den"}, "n1 room.send bytes=4 kind=logged outcome=not_member\n"},
			{"with a gap", wire.Send{CSeq: &nine}, "n1 room.send bytes=4 kind=logged outcome=gap\n  n1 store.send outcome=gap\n"},
			{"to nobody", wire.Send{To: &wire.To{Client: &nobody}}, "n1 room.send bytes=4 kind=logged outcome=no_recipient\n  n1 store.send outcome=no_recipient\n"},
			{"that cannot be", wire.Send{Ephemeral: true, CSeq: &nine}, "n1 room.send bytes=4 kind=ephemeral outcome=invalid\n"},
		} {
			if err := send(ann, c.m); err == nil {
				t.Fatalf("one %s is taken", c.what)
			}
			s.expect(t, "one "+c.what, c.want)
		}
		if err := ann.Call(t.Context(), "room.send", map[string]int{"room": 7}, nil); err == nil {
			t.Fatal("nonsense is taken")
		}
		s.expect(t, "nonsense", "n1 room.send kind=unread outcome=invalid\n")
		f.Redis.SetError("LOADING not now")
		if err := ann.say("hi", 2); reason(err) != wire.Unavailable {
			t.Fatal(err)
		}
		s.expect(t, "one while Redis is away", `n1 room.send bytes=4 kind=logged outcome=unavailable failed
  n1 store.send outcome=unavailable failed
`)
		f.Redis.SetError("")
	})
}

func TestTrace_ASendInBinaryIsOne(t *testing.T) {
	traced(t, [2]float64{1, 1}, func(t *testing.T, f *trial.Fleet, s *spans) {
		ann := enter(t, f, 2, "ann")
		ann.join("lobby")
		conn, err := f.Dial(t.Context(), "tcp", "n1:80")
		if err != nil {
			t.Fatal(err)
		}
		fay, err := raw.OverChatd(conn, "ws://n1:80/v1/chatd/lobby", map[string][]string{"Authorization": {"Bearer dev:fay"}})
		if err != nil {
			t.Fatal(err)
		}
		defer fay.Drop()
		if err := fay.Say(raw.Hex("01 0100 0000")); err != nil {
			t.Fatal(err)
		}
		s.tree(t)
		if err := fay.Say(raw.RTMsg(raw.Nobody, 0, 0, []byte("hi"))); err != nil {
			t.Fatal(err)
		}
		got := s.tree(t)
		for _, line := range []string{"n1 room.send ", "\n  n1 store.send outcome=ok", "\n    n1 room.deliver ", "\n    n2 room.deliver "} {
			if strings.Count(got, line) != 1 {
				t.Errorf("%q is not once in:\n%s", line, got)
			}
		}
	})
}

// The room is lost and rebuilt under the send, which its client does not notice.
func TestTrace_ASendIntoARoomThatIsRebuiltIsOneTrace(t *testing.T) {
	traced(t, [2]float64{1, 1}, func(t *testing.T, f *trial.Fleet, s *spans) {
		ann, bob := enter(t, f, 1, "ann"), enter(t, f, 2, "bob")
		ann.join("lobby")
		bob.join("lobby")
		f.Redis.FlushAll()
		if err := ann.say("hi", 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second) // bob's node has found out, too
		got := s.tree(t)
		for line, n := range map[string]int{
			"n1 room.send bytes=4 kind=logged outcome=ok\n": 1, "\n  n1 store.send outcome=wiped\n": 1, "\n  n1 store.send outcome=ok": 1,
			"\n    n1 room.deliver ": 1, "store.send": 2, "room.send": 1,
		} {
			if strings.Count(got, line) != n {
				t.Errorf("%q is not there %d times in:\n%s", line, n, got)
			}
		}
	})
}

// A node that follows nothing is not asked to by another's entries.
func TestTrace_ANodeThatFollowsNothingJoinsNoTrace(t *testing.T) {
	traced(t, [2]float64{1, -1}, func(t *testing.T, f *trial.Fleet, s *spans) {
		ann, bob := enter(t, f, 1, "ann"), enter(t, f, 2, "bob")
		ann.join("lobby")
		bob.join("lobby")
		if err := ann.say("hi", 1); err != nil {
			t.Fatal(err)
		}
		bob.sees("hi")
		s.expect(t, "a send", `n1 room.send bytes=4 kind=logged outcome=ok
  n1 store.send outcome=ok seq=3
    n1 room.deliver filled=false seq=3 receivers=0
`)
	})
}

// An entry keeps its trace for as long as the log; who reads it later is no part
// of that.
func TestTrace_AReplayIsNoDelivery(t *testing.T) {
	traced(t, [2]float64{1, 1}, func(t *testing.T, f *trial.Fleet, s *spans) {
		bob, ann := enter(t, f, 1, "bob"), enter(t, f, 1, "ann")
		bob.join("lobby")
		var in wire.Joined
		if err := ann.Call(t.Context(), "room.join", wire.Join{Room: "lobby"}, &in); err != nil {
			t.Fatal(err)
		}
		ann.Drop()
		s.tree(t)
		if err := bob.say("missed", 1); err != nil {
			t.Fatal(err)
		}
		s.expect(t, "a send", `n1 room.send bytes=8 kind=logged outcome=ok
  n1 store.send outcome=ok seq=3
    n1 room.deliver filled=false seq=3 receivers=0
`)
		ann.resume(f, 2, wire.Position{Epoch: in.Epoch, Seq: in.Seq})
		ann.sees("missed")
		s.expect(t, "a replay", "")
	})
}
