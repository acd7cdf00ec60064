package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"godwit/internal/redistest"
)

// each runs a promise of the store on the embedded server, on a real one, on
// what Sentinels watch and on a Cluster.
func each(t *testing.T, cfg Config, promise func(t *testing.T, s *Store)) {
	t.Helper()
	undivided(t, cfg, promise)
	cluster := func(t *testing.T) string { return redistest.Cluster(t).URL() }
	on(t, "cluster", cfg, promise, cluster)
	cfg.Sharded = ShardedOn
	on(t, "cluster with sharded channels", cfg, promise, cluster)
}

// undivided is each without the Cluster: one server has all keys.
func undivided(t *testing.T, cfg Config, promise func(t *testing.T, s *Store)) {
	t.Helper()
	on(t, "embedded", cfg, promise, func(*testing.T) string { return "" })
	on(t, "redis", cfg, promise, func(t *testing.T) string { return redistest.Start(t).URL() })
	on(t, "sentinel", cfg, promise, func(t *testing.T) string { return redistest.Sentinel(t).URL() })
}

func on(t *testing.T, kind string, cfg Config, promise func(t *testing.T, s *Store), url func(t *testing.T) string) {
	t.Helper()
	t.Run(kind, func(t *testing.T) {
		cfg.URL = url(t)
		if cfg.Timeout == 0 {
			cfg.Timeout = 10 * time.Second // on a busy machine, too: what is promised here is no speed
		}
		promise(t, open(t, cfg))
	})
}

func open(t testing.TB, cfg Config) *Store {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		s.Close()
	})
	return s
}

func member(client uint32, user string) Member {
	return Member{User: user, Client: client, Device: "dev ice 1", Session: fmt.Sprintf("s%d", client), Gen: 1}
}

func join(t testing.TB, s *Store, room string, m Member) Room {
	t.Helper()
	r, err := s.Join(t.Context(), room, m, Known{})
	if err != nil {
		t.Fatalf("join %q: %v", room, err)
	}
	return r
}

func send(s *Store, room string, m Member, known Known, d Draft) (Sent, error) {
	type result struct {
		sent Sent
		err  error
	}
	ch := make(chan result, 1)
	s.Send(context.Background(), room, m, known, d, func(sent Sent, err error) { ch <- result{sent, err} })
	r := <-ch
	return r.sent, r.err
}

func sent(t testing.TB, s *Store, room string, m Member, d Draft) Sent {
	t.Helper()
	r, err := send(s, room, m, Known{}, d)
	if err != nil {
		t.Fatalf("send %+v: %v", d, err)
	}
	return r
}

func ptr[T any](v T) *T { return &v }

func TestRoom_JoinAndLeaveAreOneEntryEach(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		for _, room := range []string{"lobby", "a}b{c}", "x}:meta", "  ", "höhle/🐦", "{", "}"} {
			ann, bob := member(1, "ann 12 3"), member(2, "bob")
			a := join(t, s, room, ann)
			if a.Seq != 1 || !a.New || a.Joined != 1 || a.Count != 1 {
				t.Fatalf("%q: first join %+v", room, a)
			}
			b := join(t, s, room, bob)
			if b.Seq != 2 || b.Epoch != a.Epoch || len(b.Members) != 2 {
				t.Fatalf("%q: second join %+v", room, b)
			}
			for _, m := range b.Members {
				if m.Client == 1 && (m.User != ann.User || m.Device != ann.Device || m.Session != ann.Session) {
					t.Errorf("%q: member %+v, want %+v", room, m, ann)
				}
			}
			if again := join(t, s, room, ann); again.New || again.Seq != 2 || again.Joined != 1 {
				t.Errorf("%q: joined again %+v", room, again)
			}
			for i, want := range []error{nil, ErrNotMember} {
				if _, err := s.Leave(t.Context(), room, bob, Known{}, "left", false); !errors.Is(err, want) {
					t.Errorf("%q: leave %d: %v, want %v", room, i, err, want)
				}
			}
			page, err := s.Read(t.Context(), room, 1, 100, 100)
			if err != nil || len(page.Entries) != 3 || page.Head != 3 || page.Epoch != a.Epoch {
				t.Fatalf("%q: log %+v, %v", room, page, err)
			}
			if e := page.Entries[2]; e.Kind != "leave" || e.User != "bob" || e.Client != 2 || e.Reason != "left" || e.Seq != 3 || e.TS == 0 {
				t.Errorf("%q: leave entry %+v", room, e)
			}
		}
	})
}

func TestRoom_IsFullAtItsLimit(t *testing.T) {
	each(t, Config{MaxMembers: 3}, func(t *testing.T, s *Store) {
		for i := range uint32(3) {
			join(t, s, "r", member(i+1, "u"))
		}
		if _, err := s.Join(t.Context(), "r", member(4, "u"), Known{}); !errors.Is(err, ErrRoomFull) {
			t.Errorf("fourth of three: %v", err)
		}
		join(t, s, "r", member(3, "u")) // who is in may join again
		if _, err := s.Leave(t.Context(), "r", member(1, "u"), Known{}, "left", false); err != nil {
			t.Fatal(err)
		}
		join(t, s, "r", member(4, "u"))
	})
}

func TestRoom_OutlivesItsMembersForAWhileAndThenBeginsAnew(t *testing.T) {
	each(t, Config{LogTTL: 2 * time.Second}, func(t *testing.T, s *Store) {
		ann := member(1, "ann")
		first := join(t, s, "r", ann)
		leave := func() {
			if _, err := s.Leave(t.Context(), "r", ann, Known{}, "left", false); err != nil {
				t.Fatal(err)
			}
		}
		leave()
		if back := join(t, s, "r", ann); back.Epoch != first.Epoch || back.Seq != 3 {
			t.Fatalf("back within the time: %+v, want epoch %s and seq 3", back, first.Epoch)
		}
		leave()
		for {
			if _, err := s.Info(t.Context(), "r"); errors.Is(err, ErrWiped) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if later := join(t, s, "r", ann); later.Epoch == first.Epoch || later.Seq != 1 {
			t.Errorf("after the time: %+v, want another epoch and seq 1", later)
		}
	})
}

func TestSend_ACseqIsAcceptedExactlyOnce(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		ann, bob := member(1, "ann"), member(2, "bob")
		join(t, s, "r", ann)
		join(t, s, "r", bob)
		var answers []Sent
		for c := uint64(1); c <= 100; c++ {
			answers = append(answers, sent(t, s, "r", ann, Draft{CSeq: c, Data: []byte("1")}))
		}
		for c := uint64(1); c <= 100; c++ {
			got := sent(t, s, "r", ann, Draft{CSeq: c, Data: []byte("1")})
			want := Sent{Dup: true}
			if c > 36 { // the last 64
				want.Epoch, want.Seq, want.TS = answers[c-1].Epoch, answers[c-1].Seq, answers[c-1].TS
			}
			if got != want {
				t.Fatalf("repeat of %d: %+v, want %+v", c, got, want)
			}
		}
		var gap *GapError
		if _, err := send(s, "r", ann, Known{}, Draft{CSeq: 102}); !errors.As(err, &gap) || gap.Expect != 101 {
			t.Errorf("102 after 100: %v, want a gap that expects 101", err)
		}
		if _, err := send(s, "r", ann, Known{}, Draft{CSeq: 101, ToUser: ptr("cy")}); !errors.Is(err, ErrNoRecipient) {
			t.Errorf("to nobody: %v", err)
		}
		if got := sent(t, s, "r", ann, Draft{CSeq: 101}); got.Dup || got.Seq != 103 {
			t.Errorf("a refused send used its number: %+v", got)
		}
		if got := sent(t, s, "r", bob, Draft{CSeq: 1}); got.Dup {
			t.Errorf("another member's count is mixed in: %+v", got)
		}
		if _, err := s.Leave(t.Context(), "r", ann, Known{}, "left", false); err != nil {
			t.Fatal(err)
		}
		join(t, s, "r", ann)
		if got := sent(t, s, "r", ann, Draft{CSeq: 1}); got.Dup {
			t.Errorf("leave did not end the count: %+v", got)
		}
	})
}

func TestSend_IsOneOrderUnderManySenders(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		const senders, each = 20, 50
		var all sync.WaitGroup
		for i := range uint32(senders) {
			join(t, s, "r", member(i+1, "u"))
		}
		for i := range uint32(senders) {
			all.Go(func() {
				for c := range uint64(each) {
					if _, err := send(s, "r", member(i+1, "u"), Known{}, Draft{CSeq: c + 1, Data: fmt.Append(nil, i, " ", c)}); err != nil {
						t.Errorf("send: %v", err)
					}
				}
			})
		}
		all.Wait()
		page, err := s.Read(t.Context(), "r", 1, 1<<40, 10000)
		if err != nil || len(page.Entries) != senders+senders*each {
			t.Fatalf("%d entries, %v", len(page.Entries), err)
		}
		last := map[uint32]int{}
		for i, e := range page.Entries {
			if e.Seq != uint64(i+1) {
				t.Fatalf("entry %d has seq %d", i, e.Seq)
			}
			if e.Kind != "message" {
				continue
			}
			if want := fmt.Sprint(e.Client-1, " ", last[e.Client]); string(e.Data) != want {
				t.Fatalf("client %d: %q, want %q", e.Client, e.Data, want)
			}
			last[e.Client]++
		}
	})
}

func TestSend_GoesToWhoIsThere(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		ann, ann2, bob := member(1, "ann"), member(2, "ann"), member(3, "2 2 x bob 7")
		for _, m := range []Member{ann, ann2, bob} {
			join(t, s, "r", m)
		}
		for _, c := range []struct {
			name   string
			from   Member
			user   *string
			client *uint32
			want   error
		}{
			{"everyone", ann, nil, nil, nil},
			{"a user", ann, ptr(bob.User), nil, nil},
			{"own other device, by user", ann, ptr("ann"), nil, nil},
			{"only oneself, by user", bob, ptr(bob.User), nil, ErrNoRecipient},
			{"nobody, by user", ann, ptr("cy"), nil, ErrNoRecipient},
			{"a device", ann, nil, ptr(uint32(3)), nil},
			{"oneself, by device", ann, nil, ptr(uint32(1)), ErrNoRecipient},
			{"nobody, by device", ann, nil, ptr(uint32(9)), ErrNoRecipient},
			{"both", ann, ptr(bob.User), ptr(uint32(3)), nil},
			{"both, another user", ann, ptr("ann"), ptr(uint32(3)), ErrNoRecipient},
			{"both, a part of the name", ann, ptr("bob 7"), ptr(uint32(3)), ErrNoRecipient},
			{"both, another device", ann, ptr(bob.User), ptr(uint32(2)), ErrNoRecipient},
		} {
			for _, ephemeral := range []bool{false, true} {
				_, err := send(s, "r", c.from, Known{}, Draft{ToUser: c.user, ToClient: c.client, Ephemeral: ephemeral})
				if !errors.Is(err, c.want) {
					t.Errorf("%s (ephemeral %v): %v, want %v", c.name, ephemeral, err, c.want)
				}
			}
		}
		if _, err := send(s, "r", member(8, "x"), Known{}, Draft{}); !errors.Is(err, ErrNotMember) {
			t.Errorf("not a member: %v", err)
		}
		if _, err := send(s, "none", ann, Known{}, Draft{}); !errors.Is(err, ErrWiped) {
			t.Errorf("no room: %v", err)
		}
	})
}

func TestSend_DataAndHeaderComeBackAsTheyWere(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		ann, bob := Member{User: "ann \"q\" \\ \n", Client: 4294967295, Device: "☎ \x00", Session: "s1", Gen: 1}, member(2, "bob")
		join(t, s, "r", ann)
		join(t, s, "r", bob)
		datas := [][]byte{{}, []byte("null"), []byte("\x00\n\r\xff{}"), bytes.Repeat([]byte("x"), 32768)}
		for _, d := range datas {
			sent(t, s, "r", ann, Draft{Data: d, ToUser: ptr("bob"), ToClient: ptr(uint32(2)), Type: ptr(uint8(255))})
		}
		page, err := s.Read(t.Context(), "r", 3, 100, 100)
		if err != nil || len(page.Entries) != len(datas) {
			t.Fatalf("%d entries, %v", len(page.Entries), err)
		}
		for i, e := range page.Entries {
			if !bytes.Equal(e.Data, datas[i]) || e.User != ann.User || e.Client != ann.Client || e.Device != ann.Device ||
				*e.ToUser != "bob" || *e.ToClient != 2 || *e.Type != 255 {
				t.Errorf("entry %d: %+v", i, e.Header)
			}
		}
	})
}

func TestFence_AnOlderGenIsRefusedAfterAttach(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		old := member(1, "ann")
		join(t, s, "r", old)
		sent(t, s, "r", old, Draft{CSeq: 1})
		now := old
		now.Gen = 2
		r, err := s.Attach(t.Context(), "r", now, Known{}, true)
		if err != nil || r.CSeq != 1 || r.Seq != 2 || r.Joined != 1 || len(r.Members) != 1 {
			t.Fatalf("attach %+v, %v", r, err)
		}
		if _, err := send(s, "r", old, Known{}, Draft{CSeq: 2}); !errors.Is(err, ErrMoved) {
			t.Errorf("send: %v", err)
		}
		if _, err := s.Leave(t.Context(), "r", old, Known{}, "left", false); !errors.Is(err, ErrMoved) {
			t.Errorf("leave: %v", err)
		}
		if _, err := s.Join(t.Context(), "r", old, Known{}); !errors.Is(err, ErrMoved) {
			t.Errorf("join: %v", err)
		}
		if _, err := s.Attach(t.Context(), "r", old, Known{}, false); !errors.Is(err, ErrMoved) {
			t.Errorf("attach: %v", err)
		}
		if got := sent(t, s, "r", now, Draft{CSeq: 2}); got.Seq != 3 {
			t.Errorf("the new gen: %+v", got)
		}
	})
}

// A join may be on its way while its session goes on elsewhere, where the room
// is then not found to be its.
func TestFence_AJoinThatIsLateIsRefusedAfterAttach(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		join(t, s, "r", member(1, "bob"))
		old := member(2, "ann")
		now := old
		now.Gen = 2
		for _, m := range []Member{now, old} { // an older attach takes nothing back
			if _, err := s.Attach(t.Context(), "r", m, Known{}, false); !errors.Is(err, ErrNotMember) {
				t.Errorf("attach at gen %d: %v", m.Gen, err)
			}
		}
		if _, err := s.Join(t.Context(), "r", old, Known{}); !errors.Is(err, ErrMoved) {
			t.Errorf("the late join: %v", err)
		}
		if r := join(t, s, "r", now); r.Count != 2 {
			t.Errorf("the join at the new gen: %+v", r)
		}
	})
}

func TestRollback_ALostTailBeginsANewEpoch(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		ann := member(1, "ann")
		r := join(t, s, "r", ann)
		got := sent(t, s, "r", ann, Draft{})
		same := Known{Epoch: r.Epoch, Seq: got.Seq, TS: got.TS}
		if again, err := send(s, "r", ann, same, Draft{}); err != nil || again.Epoch != r.Epoch {
			t.Fatalf("what is true is no rollback: %+v, %v", again, err)
		}
		for name, known := range map[string]Known{
			"the head is below":    {Epoch: r.Epoch, Seq: 1000},
			"another entry stands": {Epoch: r.Epoch, Seq: got.Seq, TS: got.TS - 1},
		} {
			next, err := send(s, "r", ann, known, Draft{})
			if err != nil || next.Epoch == r.Epoch || next.Epoch == "" {
				t.Fatalf("%s: %+v, %v, want another epoch than %s", name, next, err, r.Epoch)
			}
			// The old epoch's view is no reason for yet another one.
			if later, err := send(s, "r", ann, known, Draft{}); err != nil || later.Epoch != next.Epoch || later.Seq != next.Seq+1 {
				t.Fatalf("%s, again: %+v, %v", name, later, err)
			}
			if _, err := s.rdb.HSet(t.Context(), keysOfRoom("r").meta(), "epoch", r.Epoch).Result(); err != nil {
				t.Fatal(err)
			}
		}
		other := member(9, "cy")
		if _, err := send(s, "r", other, Known{Epoch: "another"}, Draft{}); !errors.Is(err, ErrWiped) {
			t.Errorf("a member of another epoch: %v, want ErrWiped", err)
		}
	})
}

func TestLog_KeepsAtLeastItsMost(t *testing.T) {
	each(t, Config{LogMax: 200}, func(t *testing.T, s *Store) {
		ann := member(1, "ann")
		join(t, s, "r", ann)
		var last Sent
		for range 1500 {
			last = sent(t, s, "r", ann, Draft{Data: []byte("x")})
		}
		page, err := s.Read(t.Context(), "r", 1, 1<<40, 2000)
		if err != nil || len(page.Entries) < 200 || len(page.Entries) > 1000 {
			t.Fatalf("%d entries kept of 1501 with a limit of 200, %v", len(page.Entries), err)
		}
		if e := page.Entries[len(page.Entries)-1]; e.Seq != last.Seq {
			t.Errorf("newest kept is %d, want %d", e.Seq, last.Seq)
		}
	})
}

func TestLog_WhatIsTooOldIsNotRead(t *testing.T) {
	each(t, Config{LogAge: 100 * time.Millisecond}, func(t *testing.T, s *Store) {
		ann := member(1, "ann")
		join(t, s, "r", ann)
		// Until the first two are trimmed: the join alone may be too old where the
		// first message came late.
		for {
			sent(t, s, "r", ann, Draft{Data: []byte("x")})
			left, err := s.rdb.XRangeN(t.Context(), keysOfRoom("r").log(), "-", entryID(2), 1).Result()
			if err != nil {
				t.Fatal(err)
			}
			if len(left) == 0 {
				break
			}
		}
		page, err := s.Read(t.Context(), "r", 1, 1<<40, 100000)
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range page.Entries {
			if i > 0 && e.Seq != page.Entries[i-1].Seq+1 {
				t.Fatalf("a hole before %d", e.Seq)
			}
		}
		if span, err := s.Span(t.Context(), "r", 1); err != nil || span.Next || span.TS != 0 {
			t.Errorf("span of what is gone: %+v, %v", span, err)
		}
	})
}

func TestHeads_TellAnEntryFromItsReplacement(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		ann := member(1, "ann")
		r := join(t, s, "r", ann)
		got := sent(t, s, "r", ann, Draft{})
		heads, errs := s.Heads(t.Context(), []string{"r", "none"}, []Known{{Epoch: r.Epoch, Seq: 2}, {}})
		if err := errors.Join(errs...); err != nil || heads[0] != (Head{r.Epoch, 2, got.TS}) || heads[1] != (Head{}) {
			t.Errorf("heads %+v, %v", heads, errs)
		}
	})
}

func TestScripts_FlushedOnesAreLoadedAndNothingIsDoubled(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		ann := member(1, "ann")
		join(t, s, "r", ann)
		var all sync.WaitGroup
		for i := range 200 {
			if i%20 == 10 {
				everywhere(t, s, func(c *redis.Client) error { return c.ScriptFlush(t.Context()).Err() })
			}
			all.Add(1)
			s.Send(t.Context(), "r", ann, Known{}, Draft{}, func(_ Sent, err error) {
				defer all.Done()
				if err != nil {
					t.Errorf("send: %v", err)
				}
			})
		}
		all.Wait()
		if r, err := s.Info(t.Context(), "r"); err != nil || r.Seq != 201 {
			t.Errorf("head %d, %v, want 201", r.Seq, err)
		}
	})
}

func TestUnavailable_IsSaidWithinASecondAndPasses(t *testing.T) {
	r := redistest.Start(t)
	s := open(t, Config{URL: r.URL()})
	ann := member(1, "ann")
	join(t, s, "r", ann)
	r.Stop()
	var all sync.WaitGroup
	for range 300 {
		all.Add(1)
		began := time.Now()
		s.Send(t.Context(), "r", ann, Known{}, Draft{CSeq: 1}, func(_ Sent, err error) {
			defer all.Done()
			if !errors.Is(err, ErrUnavailable) {
				t.Errorf("send to a frozen store: %v", err)
			}
			if took := time.Since(began); took > 2*time.Second { // the contract's second, on a busy machine
				t.Errorf("unavailable was said after %s", took)
			}
		})
	}
	all.Wait()
	r.Cont()
	var got Sent
	for {
		var err error
		if got, err = send(s, "r", ann, Known{}, Draft{CSeq: 1}); err == nil {
			break
		} else if !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
	}
	if info, err := s.Info(t.Context(), "r"); err != nil || info.Seq != 2 || got.Seq != 2 {
		t.Errorf("the repeats gave %+v, head %d, %v: want one entry", got, info.Seq, err)
	}
}

func TestMarker_StandsForTheData(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		a, err1 := s.Marker(t.Context())
		b, err2 := s.Marker(t.Context())
		if a == "" || a != b || err1 != nil || err2 != nil {
			t.Fatalf("markers %q %q, %v %v", a, b, err1, err2)
		}
		everywhere(t, s, func(c *redis.Client) error { return c.FlushAll(t.Context()).Err() })
		if c, err := s.Marker(t.Context()); c == a || err != nil {
			t.Errorf("marker after a wipe: %q, %v", c, err)
		}
	})
}

// left is every key that is not a room's remains, a handle, the index of rooms or
// what the store says of itself.
func left(t *testing.T, s *Store) []string {
	t.Helper()
	var keys, out []string
	everywhere(t, s, func(c *redis.Client) error {
		some, err := c.Keys(t.Context(), "*").Result()
		keys = append(keys, some...)
		return err
	})
	for _, k := range keys {
		if k == markerKey || k == schemaKey || strings.HasPrefix(k, "gw:{m:") || strings.HasPrefix(k, "gw:{h:") || strings.HasPrefix(k, "gw:{i:") {
			continue
		}
		if ttl := s.rdb.PTTL(t.Context(), k).Val(); ttl <= 0 {
			out = append(out, k)
		}
	}
	return out
}

// everywhere does something to each primary.
func everywhere(t testing.TB, s *Store, what func(*redis.Client) error) {
	t.Helper()
	all := []*redis.Client{}
	if s.cluster == nil {
		all = append(all, s.direct)
	} else {
		var err error
		if all, err = s.cluster.primaries(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range all {
		if err := what(c); err != nil {
			t.Fatal(err)
		}
	}
}
