package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"godwit/internal/redistest"
)

// together sends drafts into a room in one batch of a lane, and returns the
// answers in the order of the drafts.
func together(t fataler, s *Store, room string, known Known, from []Member, drafts []Draft) []string {
	t.Helper()
	var batch []*write
	out := make([]string, len(drafts))
	for i, d := range drafts {
		w, err := s.sending(room, from[i], known, d, func(sent Sent, err error) { out[i] = inWords(sent, err) })
		if err != nil {
			t.Fatalf("%v", err)
		}
		batch = append(batch, w)
	}
	newLane(s).flush(context.Background(), batch)
	return out
}

// inWords is an answer in words, but for what two rooms have of their own.
func inWords(sent Sent, err error) string {
	var gap *GapError
	if errors.As(err, &gap) {
		return fmt.Sprintf("gap: %d is next", gap.Expect)
	}
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("seq %d, dup %t, time %t, epoch %t", sent.Seq, sent.Dup, sent.TS > 0, sent.Epoch != "")
}

func TestGroup_MessagesTogetherDoWhatTheyDoOneByOne(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		nth := 0
		rapid.Check(t, func(rt *rapid.T) {
			nth++
			alone, joint := fmt.Sprintf("alone %d", nth), fmt.Sprintf("joint %d", nth)
			people := []Member{member(1, "ann"), member(2, "ann"), member(3, "bob"), member(4, "cyd")}
			for _, m := range people[:3] { // cyd is not in
				join(t, s, alone, m)
				join(t, s, joint, m)
			}
			for range rapid.IntRange(1, 3).Draw(rt, "batches") {
				var from []Member
				var drafts []Draft
				for range rapid.IntRange(1, groupMost+6).Draw(rt, "messages") {
					m := rapid.SampledFrom(people).Draw(rt, "from")
					if rapid.IntRange(0, 20).Draw(rt, "moved") == 0 {
						m = m.at(0)
					}
					d := Draft{
						CSeq:      rapid.Uint64Range(0, 6).Draw(rt, "cseq"),
						Ephemeral: rapid.IntRange(0, 5).Draw(rt, "ephemeral") == 0,
						Data:      []byte(rapid.StringN(0, 8, -1).Draw(rt, "data")),
					}
					switch rapid.IntRange(0, 5).Draw(rt, "to") {
					case 0:
						d.ToUser = ptr(rapid.SampledFrom([]string{"ann", "bob", "dan"}).Draw(rt, "user"))
					case 1:
						d.ToClient = ptr(rapid.Uint32Range(1, 5).Draw(rt, "client"))
					}
					from, drafts = append(from, m), append(drafts, d)
				}
				want := make([]string, len(drafts))
				for i, d := range drafts {
					want[i] = inWords(send(s, alone, from[i], Known{}, d))
				}
				if got := together(rt, s, joint, Known{}, from, drafts); !reflect.DeepEqual(got, want) {
					rt.Fatalf("together:\n%s\none by one:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
				if got, want := logged(rt, s, joint), logged(rt, s, alone); !reflect.DeepEqual(got, want) {
					rt.Fatalf("log together:\n%s\none by one:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
			}
		})
	})
}

// logged is a room's log in words.
func logged(t fataler, s *Store, room string) (out []string) {
	t.Helper()
	page, err := s.Read(context.Background(), room, 1, 1<<40, 1000)
	if err != nil {
		t.Fatalf("%v", err)
	}
	for _, e := range page.Entries {
		out = append(out, fmt.Sprintf("%d of %d: %s %d %q", e.Seq, page.Head, e.Kind, e.Client, e.Data))
	}
	return out
}

func TestGroup_ARoomWithoutATraceIsWipedForEachOfThem(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		ann := member(1, "ann")
		for i, got := range together(t, s, "none", Known{}, []Member{ann, ann}, []Draft{{CSeq: 1}, {CSeq: 2}}) {
			if got != ErrWiped.Error() {
				t.Errorf("message %d: %s, want wiped", i+1, got)
			}
		}
	})
}

func TestGroup_ALostTailIsSeenByTheNewestThatOneOfThemKnows(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		ann := member(1, "ann")
		r := join(t, s, "r", ann)
		var batch []*write
		var epochs []string
		for _, seq := range []uint64{1, 5, 1} { // the store has 1
			w, err := s.sending("r", ann, Known{Epoch: r.Epoch, Seq: seq}, Draft{}, func(sent Sent, err error) {
				if err != nil {
					t.Error(err)
				}
				epochs = append(epochs, sent.Epoch)
			})
			if err != nil {
				t.Fatal(err)
			}
			batch = append(batch, w)
		}
		newLane(s).flush(context.Background(), batch)
		if len(epochs) != 3 || epochs[0] == r.Epoch || epochs[1] != epochs[0] || epochs[2] != epochs[0] {
			t.Errorf("epochs %q, want one that is not %q", epochs, r.Epoch)
		}
	})
}

func TestGrouped_KeepsTheOrderOfARoomAndTheBoundOfACall(t *testing.T) {
	s := open(t, Config{})
	ann, bob := member(1, "ann"), member(2, "bob")
	said := func(room string, known Known, from Member) *write {
		w, err := s.sending(room, from, known, Draft{}, func(Sent, error) {})
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	other := func(room string) *write { return &write{call: s.roomCall(beatScript, room, Known{}, 1)} }
	later := other("r") // its room is not what its first key is of
	later.keys = append([]string{"another"}, later.keys...)
	for name, c := range map[string]struct {
		batch []*write
		want  [][]int // the writes of each call
	}{
		"one":                    {[]*write{said("r", Known{}, ann)}, [][]int{{0}}},
		"one room":               {[]*write{said("r", Known{}, ann), said("r", Known{}, bob)}, [][]int{{0, 1}}},
		"two rooms, by turns":    {[]*write{said("r", Known{}, ann), said("q", Known{}, ann), said("r", Known{}, ann), said("q", Known{}, ann)}, [][]int{{0, 2}, {1, 3}}},
		"something else between": {[]*write{said("r", Known{}, ann), other("r"), said("r", Known{}, ann), said("r", Known{}, ann)}, [][]int{{0}, {1}, {2, 3}}},
		"something else that has the room's keys, too": {[]*write{said("r", Known{}, ann), later, said("r", Known{}, ann)}, [][]int{{0}, {1}, {2}}},
		"two of something else":                        {[]*write{other("r"), other("r")}, [][]int{{0}, {1}}},
		"what is known of another":                     {[]*write{said("r", Known{Epoch: "a", Seq: 1}, ann), said("r", Known{Epoch: "b", Seq: 1}, ann)}, [][]int{{0}, {1}}},
	} {
		t.Run(name, func(t *testing.T) {
			at := make(map[*write]int)
			for i, w := range c.batch {
				at[w] = i
			}
			var got [][]int
			for _, g := range s.grouped(c.batch) {
				var of []int
				for _, w := range g.writes {
					of = append(of, at[w])
				}
				got = append(got, of)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("calls %v, want %v", got, c.want)
			}
		})
	}
	var many []*write
	for range groupMost + 1 {
		many = append(many, said("r", Known{}, ann))
	}
	if g := s.grouped(many); len(g) != 2 || len(g[0].writes) != groupMost || len(g[1].writes) != 1 {
		t.Errorf("%d calls for %d messages, want %d and one", len(g), len(many), groupMost)
	}
}

// BenchmarkGrouped is a full batch put into calls, by how many of it are of one
// room: what a node does before anything goes to Redis.
func BenchmarkGrouped(b *testing.B) {
	for _, n := range []int{1, 8, groupMost} {
		b.Run(fmt.Sprintf("%d of a room", n), func(b *testing.B) {
			s := open(b, Config{})
			data := bytes.Repeat([]byte("x"), 128)
			batch := make([]*write, groupMost)
			for i := range batch {
				w, err := s.sending(name(i/n), member(1, "ann"), Known{}, Draft{Data: data}, func(Sent, error) {})
				if err != nil {
					b.Fatal(err)
				}
				batch[i] = w
			}
			b.ReportAllocs()
			for b.Loop() {
				if got := len(s.grouped(batch)); got != groupMost/n {
					b.Fatalf("%d calls, want %d", got, groupMost/n)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*groupMost), "ns/msg")
		})
	}
}

// BenchmarkScript is Redis's part of a message, by how many of a room go in one
// call; the other messages of the batch of 64 are of other rooms.
func BenchmarkScript(b *testing.B) {
	for _, n := range []int{1, 4, 16, groupMost} {
		b.Run(fmt.Sprintf("%d in a call", n), func(b *testing.B) {
			server := redistest.Start(b)
			s := open(b, Config{URL: server.URL()})
			ann := member(1, "ann")
			rooms := make([]string, groupMost/n)
			last := make([]Known, len(rooms)) // what a node knows that hears everything
			cseq := uint64(0)
			for i := range rooms {
				rooms[i] = name(i)
				join(b, s, rooms[i], ann)
			}
			overhear(b, server, rooms)
			overhear(b, server, rooms)
			l, data := newLane(s), bytes.Repeat([]byte("x"), 128)
			before := cpu(b, server)
			b.ReportAllocs()
			for b.Loop() {
				batch := make([]*write, groupMost)
				for i := range batch {
					room := i / n
					w, err := s.sending(rooms[room], ann, last[room], Draft{CSeq: cseq + 1 + uint64(i%n), Data: data}, func(sent Sent, err error) {
						if err != nil {
							b.Error(err)
						}
						last[room] = Known{Epoch: sent.Epoch, Seq: sent.Seq}
					})
					if err != nil {
						b.Fatal(err)
					}
					batch[i] = w
				}
				l.flush(b.Context(), batch)
				cseq += uint64(n)
			}
			each := float64(b.N * groupMost)
			b.ReportMetric((cpu(b, server)-before)*1e6/each, "redis-us/msg")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/each, "ns/msg")
		})
	}
}

// overhear hears rooms' channels as a node does, and drops what comes.
func overhear(b *testing.B, server *redistest.Server, rooms []string) {
	b.Helper()
	names := make([]string, len(rooms))
	for i, room := range rooms {
		names[i] = keysOfRoom(room).channel()
	}
	ear := server.Client().Subscribe(b.Context(), names...)
	for range names {
		if _, err := ear.Receive(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	var heard sync.WaitGroup
	heard.Go(func() {
		for range ear.Channel() { //nolint:revive // until it is closed
		}
	})
	b.Cleanup(func() {
		if err := ear.Close(); err != nil {
			b.Error(err)
		}
		heard.Wait()
	})
}

// cpu is what a server has spent, in seconds.
func cpu(b *testing.B, server *redistest.Server) (total float64) {
	b.Helper()
	info, err := server.Client().Info(b.Context(), "cpu").Result()
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "used_cpu_user" || name == "used_cpu_sys" {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				b.Fatal(err)
			}
			total += v
		}
	}
	return total
}
