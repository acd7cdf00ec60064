package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"godwit/internal/redistest"
	rules "godwit/rules/call"
)

// callTimeout is long: what a test lets pass, it lets pass by setting the
// deadlines back.
const callTimeout = 15 * time.Minute

func beats(t fataler, s *Store, room string, known Known, all ...Beat) (Call, []error, error) {
	t.Helper()
	type result struct {
		c    Call
		errs []error
		err  error
	}
	ch := make(chan result, 1)
	s.Beats(context.Background(), room, known, callTimeout, all, func(c Call, errs []error, err error) { ch <- result{c, errs, err} })
	r := <-ch
	return r.c, r.errs, r.err
}

type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// beat is a beat of m that is taken.
func beat(t fataler, s *Store, room string, m Member, in bool) Call {
	t.Helper()
	c, errs, err := beats(t, s, room, Known{}, Beat{Client: m.Client, Gen: m.Gen, In: in})
	if err != nil || errs[0] != nil {
		t.Fatalf("beat of %d: %v, %v", m.Client, errs, err)
	}
	return c
}

// pass sets a room's deadlines back, as if time had passed.
func pass(t fataler, s *Store, room string, d time.Duration) {
	t.Helper()
	ctx, k := context.Background(), keysOfRoom(room)
	in, err := s.rdb.ZRangeWithScores(ctx, k.call(), 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, z := range in {
		s.rdb.ZAdd(ctx, k.call(), redis.Z{Score: z.Score - float64(d.Milliseconds()), Member: z.Member})
	}
	if len(in) > 0 {
		s.rdb.HIncrBy(ctx, k.meta(), "call_due", -d.Milliseconds())
	}
}

// said lists the room's log: kinds, and the flag of calls.
func said(t fataler, s *Store, room string) (out []string) {
	t.Helper()
	page, err := s.Read(context.Background(), room, 1, 1<<40, 10000)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range page.Entries {
		if e.Seq != uint64(i+1) {
			t.Fatalf("entry %d has seq %d", i, e.Seq)
		}
		what := e.Kind
		if e.Kind == "call" {
			what = fmt.Sprintf("call %t", *e.InCall)
			if e.User != "" || e.Client != 0 || len(e.Data) > 0 {
				t.Fatalf("a call entry from %+v", e.Header)
			}
		}
		out = append(out, what)
	}
	return out
}

func saysAfter(t fataler, s *Store, room string, before int, want ...string) {
	t.Helper()
	if got := said(t, s, room)[before:]; !slices.Equal(got, want) {
		t.Fatalf("the log goes on with %v, want %v", got, want)
	}
}

func TestCall_IsOfTwoUsersAndOneEntryAChange(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		ann, phone, bob := member(1, "ann"), member(2, "ann"), member(3, "3 bob")
		for _, m := range []Member{ann, phone, bob} {
			join(t, s, "r", m)
		}
		beat(t, s, "r", ann, true)
		if c := beat(t, s, "r", phone, true); c.InCall || c.New || c.Seq != 3 {
			t.Errorf("two devices of one user: %+v", c)
		}
		if c := beat(t, s, "r", bob, true); !c.InCall || !c.New || c.Seq != 4 || c.Next > callTimeout || c.Next < callTimeout-time.Minute {
			t.Errorf("the second user: %+v", c)
		}
		if c := beat(t, s, "r", bob, true); !c.InCall || c.New || c.Seq != 4 {
			t.Errorf("again: %+v", c)
		}
		beat(t, s, "r", ann, false)
		if c := beat(t, s, "r", bob, false); c.InCall || !c.New || c.Next < 0 {
			t.Errorf("one user has left: %+v", c)
		}
		if c := beat(t, s, "r", phone, false); c.InCall || c.New || c.Next >= 0 {
			t.Errorf("nobody is in: %+v", c)
		}
		saysAfter(t, s, "r", 3, "call true", "call false")
	})
}

// Whoever looks first finds who is late, and says so before anything else.
func TestCall_WhoIsLateIsOutBeforeAnybodyIsTold(t *testing.T) {
	ann, bob, cy := member(1, "ann"), member(2, "bob"), member(3, "cy")
	looks := map[string]func(t *testing.T, s *Store) []string{
		"info": func(t *testing.T, s *Store) []string {
			if r, err := s.Info(t.Context(), "r"); err != nil || r.InCall || len(r.Callers) != 0 || r.Seq != 5 {
				t.Errorf("%+v, %v", r, err)
			}
			return nil
		},
		"join": func(t *testing.T, s *Store) []string {
			if r := join(t, s, "r", member(4, "dan")); r.InCall || r.Seq != 6 || r.Joined != 6 {
				t.Errorf("%+v", r)
			}
			return []string{"join"}
		},
		"attach": func(t *testing.T, s *Store) []string {
			next := ann
			next.Gen = 2
			if r, err := s.Attach(t.Context(), "r", next, Known{}, true); err != nil || r.InCall || r.Calls || r.Seq != 5 {
				t.Errorf("%+v, %v", r, err)
			}
			return nil
		},
		"send": func(t *testing.T, s *Store) []string {
			if r := sent(t, s, "r", cy, Draft{CSeq: 1}); r.Seq != 6 {
				t.Errorf("%+v", r)
			}
			return []string{"message"}
		},
		"a refused send": func(t *testing.T, s *Store) []string {
			if _, err := send(s, "r", cy, Known{}, Draft{ToUser: ptr("nobody")}); !errors.Is(err, ErrNoRecipient) {
				t.Error(err)
			}
			return nil
		},
		"leave": func(t *testing.T, s *Store) []string {
			if h, err := s.Leave(t.Context(), "r", ann, Known{}, "left", false); err != nil || h.Seq != 6 {
				t.Errorf("%+v, %v", h, err)
			}
			return []string{"leave"}
		},
		"state": func(t *testing.T, s *Store) []string {
			if r, err := s.State(t.Context(), "r"); err != nil || r.InCall || r.Seq != 5 || r.Entries != 5 || r.Members != 3 {
				t.Errorf("%+v, %v", r, err)
			}
			return nil
		},
		"closing": func(t *testing.T, s *Store) []string {
			if err := s.CloseRoom(t.Context(), "r"); err != nil {
				t.Error(err)
			}
			return []string{"leave"}
		},
		"no beat": func(t *testing.T, s *Store) []string {
			if c, _, err := beats(t, s, "r", Known{}); err != nil || c.InCall || !c.New || c.Seq != 5 || c.Next >= 0 {
				t.Errorf("%+v, %v", c, err)
			}
			return nil
		},
	}
	each(t, Config{}, func(t *testing.T, s *Store) {
		for name, look := range looks {
			t.Run(name, func(t *testing.T) {
				for _, m := range []Member{ann, bob, cy} {
					join(t, s, "r", m)
				}
				beat(t, s, "r", ann, true)
				beat(t, s, "r", bob, true)
				pass(t, s, "r", callTimeout-time.Second)
				if r, err := s.Info(t.Context(), "r"); err != nil || !r.InCall || len(r.Callers) != 2 || r.Seq != 4 {
					t.Fatalf("in time: %+v, %v", r, err)
				}
				pass(t, s, "r", time.Second)
				saysAfter(t, s, "r", 3, append([]string{"call true", "call false"}, look(t, s)...)...)
				if n := s.rdb.Exists(t.Context(), keysOfRoom("r").call()).Val(); n != 0 {
					t.Error("somebody is still in the call")
				}
				if err := s.rdb.Del(t.Context(), keysOfRoom("r").all()...).Err(); err != nil {
					t.Fatal(err)
				}
			})
		}
	})
}

// A server that has just started may hear of beats that its nodes have kept.
func TestCall_OfAnEarlierLifeOfTheServerLosesNobodyAtOnce(t *testing.T) {
	server := redistest.Start(t)
	s := open(t, Config{URL: server.URL(), Timeout: 10 * time.Second})
	const young = 10 * time.Second
	life := func() string { return s.rdb.HGet(t.Context(), keysOfRoom("r").meta(), "call_life").Val() }
	ann, bob := member(1, "ann"), member(2, "bob")
	join(t, s, "r", ann)
	join(t, s, "r", bob)
	beat(t, s, "r", ann, true)
	beat(t, s, "r", bob, true)
	first := life()
	server.Kill()
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	pass(t, s, "r", callTimeout+time.Second)
	c, _, err := beats(t, s, "r", Known{})
	if this := life(); err != nil || !c.InCall || c.Next <= 0 || c.Next > young || this == "" || this == first || first == "" {
		t.Fatalf("all are late in life %q, after %q: %+v, %v, want them put off", this, first, c, err)
	}
	pass(t, s, "r", young)
	if c, _, err = beats(t, s, "r", Known{}); err != nil || c.InCall || life() != "" {
		t.Errorf("all are late in the same life: %+v, %v, want nobody in", c, err)
	}
}

func TestCall_ALeaveTakesTheBeatAlong(t *testing.T) {
	each(t, Config{LogTTL: time.Hour}, func(t *testing.T, s *Store) {
		ann, bob := member(1, "ann"), member(2, "bob")
		join(t, s, "r", ann)
		join(t, s, "r", bob)
		beat(t, s, "r", ann, true)
		beat(t, s, "r", bob, true)
		head, err := s.Leave(t.Context(), "r", bob, Known{}, "lost", true)
		if err != nil || head.Seq != 5 {
			t.Errorf("the head after the leave: %+v, %v, want 5", head, err)
		}
		if _, err := s.Leave(t.Context(), "r", ann, Known{}, "lost", true); err != nil {
			t.Fatal(err)
		}
		saysAfter(t, s, "r", 2, "call true", "leave", "call false", "leave")
		if n := s.rdb.Exists(t.Context(), keysOfRoom("r").call()).Val(); n != 0 {
			t.Error("the call outlives its callers")
		}
	})
}

func TestCall_IsOverWhenTheRoomIsClosed(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		for _, m := range []Member{member(1, "ann"), member(2, "bob")} {
			join(t, s, "r", m)
			beat(t, s, "r", m, true)
		}
		if err := s.CloseRoom(t.Context(), "r"); err != nil {
			t.Fatal(err)
		}
		if r := join(t, s, "r", member(3, "cy")); r.InCall {
			t.Errorf("afterwards: %+v", r)
		}
		if due := s.rdb.HExists(t.Context(), keysOfRoom("r").meta(), "call_due").Val(); due {
			t.Error("somebody is still to be late")
		}
		saysAfter(t, s, "r", 2, "call true", "leave", "call false", "join")
	})
}

func TestCall_ABeatOfAnOlderGenOrOfNoMemberDoesNothing(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		ann, bob := member(1, "ann"), member(2, "bob")
		room := join(t, s, "r", ann)
		join(t, s, "r", bob)
		beat(t, s, "r", bob, true)
		next := ann
		next.Gen = 2
		if r, err := s.Attach(t.Context(), "r", next, Known{}, false); err != nil || r.Calls {
			t.Fatalf("%+v, %v", r, err)
		}
		all := []Beat{{Client: 1, Gen: 1, In: true}, {Client: 9, Gen: 1, In: true}, {Client: 2, Gen: 1, In: true}}
		c, errs, err := beats(t, s, "r", Known{Epoch: room.Epoch}, all...)
		if err != nil || c.InCall || !errors.Is(errs[0], ErrMoved) || !errors.Is(errs[1], ErrNotMember) || errs[2] != nil {
			t.Errorf("%+v, %v, %v", c, errs, err)
		}
		if _, errs, _ := beats(t, s, "r", Known{Epoch: "another"}, all[1]); !errors.Is(errs[0], ErrWiped) {
			t.Errorf("no member, of another epoch: %v", errs)
		}
		if c := beat(t, s, "r", next, true); !c.InCall {
			t.Errorf("%+v", c)
		}
		next.Gen = 3
		if r, err := s.Attach(t.Context(), "r", next, Known{}, false); err != nil || !r.Calls || !r.InCall {
			t.Errorf("taken over in the call: %+v, %v", r, err)
		}
		if _, _, err := beats(t, s, "none", Known{}, all...); !errors.Is(err, ErrWiped) {
			t.Errorf("no room: %v", err)
		}
		saysAfter(t, s, "r", 2, "call true")
	})
}

// A beat notices what any write does: that the store has lost the room's tail.
func TestCall_ABeatOfWhoHasSeenMoreBeginsANewEpoch(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		for name, known := range map[string]Known{"a head that is gone": {Seq: 2}, "another entry in its place": {Seq: 1, TS: 9}} {
			t.Run(name, func(t *testing.T) {
				ann := member(1, "ann")
				r := join(t, s, name, ann)
				known.Epoch = r.Epoch
				of := Beat{Client: 1, Gen: ann.Gen, In: true}
				c, errs, err := beats(t, s, name, known, of)
				if err != nil || errs[0] != nil || c.Epoch == r.Epoch || c.Seq != 1 {
					t.Errorf("%+v, %v, %v; want another epoch than %s", c, errs, err, r.Epoch)
				}
				if again, _, err := beats(t, s, name, Known{Epoch: c.Epoch, Seq: 1}, of); err != nil || again.Epoch != c.Epoch {
					t.Errorf("of who has seen no more: %+v, %v", again, err)
				}
			})
		}
	})
}

// A node of a version before calls takes a member's row, and no more.
func TestCall_WhoLeftByAnOlderNodeIsOutByTheNextLook(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		ann, bob, cy := member(1, "ann"), member(2, "bob"), member(3, "cy")
		for _, m := range []Member{ann, bob, cy} {
			join(t, s, "r", m)
		}
		beat(t, s, "r", ann, true)
		beat(t, s, "r", bob, true)
		row := func(m Member) {
			s.rdb.HDel(t.Context(), keysOfRoom("r").members(), fmt.Sprint(m.Client))
			s.rdb.HDel(t.Context(), keysOfRoom("r").users(), m.User)
		}
		row(bob)
		if c, _, err := beats(t, s, "r", Known{}); err != nil || c.InCall || !c.New {
			t.Errorf("%+v, %v", c, err)
		}
		beat(t, s, "r", cy, true)
		row(cy)
		if r := join(t, s, "r", cy); r.Calls || r.InCall {
			t.Errorf("who comes back is in the call: %+v", r)
		}
		beat(t, s, "r", cy, true)
		row(ann)
		row(cy)
		if r := join(t, s, "r", bob); r.InCall { // to a room without members
			t.Errorf("%+v", r)
		}
		if n := s.rdb.Exists(t.Context(), keysOfRoom("r").call()).Val(); n != 0 {
			t.Error("the call of those before is still there, and may have a time to live")
		}
		saysAfter(t, s, "r", 3, "call true", "call false", "call true", "call false", "join", "call true", "call false", "join")
	})
}

// The scripts and rules/call decide alike, whatever comes in whatever order.
func TestCall_DecidesAsTheRulesDo(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		runs := 0
		rapid.Check(t, func(t *rapid.T) {
			runs++
			room := fmt.Sprint("r", runs)
			people := []Member{member(1, "ann"), member(2, "ann"), member(3, "bob"), member(4, "bob"), member(5, "cy")}
			there := make([]bool, len(people))
			ctx, now := context.Background(), time.Now()
			var rule rules.Call
			var want []string
			flag := func(changed bool) {
				if changed {
					want = append(want, fmt.Sprintf("call %t", rule.On()))
				}
			}
			enter := func(i int) {
				if _, err := s.Join(ctx, room, people[i], Known{}); err != nil {
					t.Fatalf("join: %v", err)
				}
				flag(rule.Expire(now))
				if !there[i] {
					want = append(want, "join")
				}
				there[i] = true
			}
			enter(0)
			for range rapid.IntRange(1, 30).Draw(t, "steps") {
				if d := rapid.SampledFrom([]time.Duration{0, 0, 2, 4, 8, 16}).Draw(t, "minutes") * time.Minute; d > 0 {
					now = now.Add(d)
					pass(t, s, room, d)
				}
				one := rapid.IntRange(0, len(people)-1).Draw(t, "who")
				switch rapid.SampledFrom([]string{"join", "beats", "beats", "beats", "attach", "leave", "send", "look"}).Draw(t, "what") {
				case "join":
					enter(one)
				case "beats":
					var all []Beat
					var valid []rules.Beat
					var errs []error
					for range rapid.IntRange(1, 4).Draw(t, "beats") {
						i := rapid.IntRange(0, len(people)-1).Draw(t, "of")
						age := rapid.SampledFrom([]time.Duration{0, 0, 2, 6, 16}).Draw(t, "age") * time.Minute
						old := rapid.IntRange(0, 5).Draw(t, "older gen") == 0
						b := Beat{Client: people[i].Client, Gen: people[i].Gen, In: rapid.IntRange(0, 3).Draw(t, "in") > 0, Age: age}
						switch {
						case !there[i]:
							errs = append(errs, ErrNotMember)
						case old:
							b.Gen--
							errs = append(errs, ErrMoved)
						default:
							errs = append(errs, nil)
							valid = append(valid, rules.Beat{Client: b.Client, User: people[i].User, In: b.In, At: now.Add(-age)})
						}
						all = append(all, b)
					}
					c, got, err := beats(t, s, room, Known{}, all...)
					if err != nil || !slices.EqualFunc(got, errs, func(a, b error) bool { return errors.Is(a, b) }) {
						t.Fatalf("beats: %v, %v, want %v", got, err, errs)
					}
					changed := rule.Take(now, callTimeout, valid...)
					flag(changed)
					if c.InCall != rule.On() || c.New != changed || c.Seq != uint64(len(want)) || !lookIn(c.Next, rule.Next().Sub(now), rule.Next().IsZero()) {
						t.Fatalf("%+v; the rule: %t, changed %t, next in %s", c, rule.On(), changed, rule.Next().Sub(now))
					}
				case "attach":
					people[one].Gen++
					r, err := s.Attach(ctx, room, people[one], Known{}, false)
					flag(rule.Expire(now))
					if there[one] && (err != nil || r.InCall != rule.On() || r.Calls != slices.Contains(rule.Clients(), people[one].Client)) ||
						!there[one] && !errors.Is(err, ErrNotMember) {
						t.Fatalf("attach: %+v, %v", r, err)
					}
				case "leave":
					if _, err := s.Leave(ctx, room, people[one], Known{}, "left", false); there[one] != (err == nil) {
						t.Fatalf("leave: %v", err)
					}
					flag(rule.Expire(now))
					if there[one] {
						want = append(want, "leave")
						flag(rule.Leave(now, people[one].Client))
					}
					there[one] = false
				case "send":
					_, err := send(s, room, people[one], Known{}, Draft{})
					flag(rule.Expire(now))
					if err == nil {
						want = append(want, "message")
					}
				case "look":
					r, err := s.Info(ctx, room)
					flag(rule.Expire(now))
					var in []uint32
					for _, m := range r.Callers {
						in = append(in, m.Client)
					}
					slices.Sort(in)
					if err != nil || r.InCall != rule.On() || !slices.Equal(in, rule.Clients()) {
						t.Fatalf("info: %+v, %v; the rule: %t, %v", r, err, rule.On(), rule.Clients())
					}
				}
				if got := said(t, s, room); !slices.Equal(got, want) {
					t.Fatalf("the log holds\n%v, want\n%v", got, want)
				}
			}
		})
	})
}

// lookIn compares what the store says is left with what is, give or take the time
// that the test took: never more, and not less either, unless it is half a timeout
// at least.
func lookIn(got, want time.Duration, none bool) bool {
	if none {
		return got < 0
	}
	return got < want+time.Minute && got > min(want, callTimeout/2)-time.Minute
}
