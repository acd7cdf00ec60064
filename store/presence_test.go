package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"godwit/rules/presence"
)

var online, away = presence.Set{Value: 3, Auto: true}, presence.Set{Value: 2, Auto: true}

// present attaches a device that is online by itself.
func present(t testing.TB, s *Store, m Member, rooms ...string) Presence {
	t.Helper()
	_, p, err := s.AttachDevice(t.Context(), m, Attaching{Last: online, Rooms: rooms})
	if err != nil {
		t.Fatalf("attach the device of %s: %v", m.User, err)
	}
	return p
}

// hearing is what is said to users and rooms.
func hearing(t *testing.T, s *Store, users, rooms []string) *ear {
	t.Helper()
	e := &ear{heard: map[string][]uint64{}, wake: make(chan struct{}, 1)}
	sub := s.NewSubscriber(Ref{"ear", "b"}, e)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = sub.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	for _, u := range users {
		<-sub.FollowUser(u)
	}
	for _, r := range rooms {
		<-sub.Follow(r)
	}
	return e
}

// said is what was said of a user, in order, as "channel value".
func (e *ear) said(of string) (out []string) {
	for _, l := range e.inbox {
		if l.Presence != nil && l.Presence.User == of {
			out = append(out, fmt.Sprintf("%s %d", l.user, l.Presence.Value))
		}
	}
	slices.Sort(out)
	return out
}

// letters is what has come so far.
func (e *ear) letters() []letter {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.inbox)
}

// all is what was said of a user so far.
func (e *ear) all(of string) []string { return (&ear{inbox: e.letters()}).said(of) }

// in is what was heard in a room so far.
func (e *ear) in(room string) []uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.heard[room])
}

// TestDevices_TheScriptDecidesAsTheRuleDoes drives the same random steps
// through both.
func TestDevices_TheScriptDecidesAsTheRuleDoes(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		run := 0
		rapid.Check(t, func(t *rapid.T) {
			run++
			var table presence.Table
			user := fmt.Sprintf("user %d", run)
			var last Presence
			for range rapid.IntRange(1, 12).Draw(t, "steps") {
				m := Member{User: user, Client: rapid.Uint32Range(1, 3).Draw(t, "client"), Gen: rapid.Uint64Range(1, 3).Draw(t, "gen")}
				m.Session = fmt.Sprintf("s%d", m.Client)
				drawn := func(what string) presence.Set { return presence.Parse(rapid.Uint8().Draw(t, what)) }
				a := Attaching{Last: drawn("last")}
				var want presence.Outcome
				switch rapid.IntRange(0, 5).Draw(t, "what") {
				case 0:
					table.Part(m.Client)
					want = presence.Done
					if err := s.part(context.Background(), m); err != nil {
						t.Fatal(err)
					}
				case 1: // as after a wipe
					a.At = rapid.Int64Range(1, 5).Draw(t, "at")
				case 2:
				default:
					set := drawn("set")
					a.Set = &set
				}
				now, err := s.rdb.Time(context.Background()).Result()
				if err != nil {
					t.Fatal(err)
				}
				var p Presence
				if want == "" {
					want = table.Attach(m.Client, m.Gen, a.Set, a.Last, a.At, now.UnixMilli())
					var err error
					_, p, err = s.AttachDevice(context.Background(), m, a)
					got := presence.Done
					switch {
					case errors.Is(err, ErrMoved):
						got = presence.Moved
					case errors.Is(err, ErrGone):
						got = presence.Gone
					case err != nil:
						t.Fatal(err)
					}
					if got != want {
						t.Fatalf("client %d at gen %d: the script says %s, the rule %s", m.Client, m.Gen, got, want)
					}
				}
				all, err := s.Presences(context.Background(), []string{user})
				if err != nil {
					t.Fatal(err)
				}
				now1 := all[0]
				if now1.Value != table.Value() || want == presence.Done && p.User != "" && p != now1 {
					t.Fatalf("others see %+v (the step said %+v), want %d", now1, p, table.Value())
				}
				if changed := now1.Value != last.Value; changed != (now1.PV > last.PV) || now1.PV < last.PV {
					t.Fatalf("from %+v to %+v: pv grows with a change, and with nothing else", last, now1)
				}
				last = now1
			}
		})
	})
}

func TestDevices_ALowerGenIsRefusedFromTheAttachOn(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		old := begin(t, s, "sid", "ann").Member()
		before := present(t, s, old)
		if _, _, err := s.AttachDevice(t.Context(), old.at(2), Attaching{Last: away}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.SetPresence(t.Context(), old, presence.Set{Value: 1}); !errors.Is(err, ErrMoved) {
			t.Errorf("a set of the old gen: %v, want moved", err)
		}
		if all, err := s.Presences(t.Context(), []string{"ann"}); err != nil || all[0] != before {
			t.Errorf("others see %+v, %v, want %+v as before: a takeover is no event", all, err, before)
		}
	})
}

func TestDevices_OfAnOlderNodesSessionBeginsWithWhatItsRecordSays(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		rec := begin(t, s, "sid", "ann", "r") // no device: as a node of before writes it
		if _, _, err := s.AttachDevice(t.Context(), rec.Member().at(2), Attaching{Last: presence.Parse(rec.Presence), Rooms: []string{"r"}}); err != nil {
			t.Fatal(err)
		}
		all, err := s.Presences(t.Context(), []string{"ann", "bob"})
		if err != nil || all[0].Value != 3 || all[0].PV == 0 || all[1] != (Presence{User: "bob"}) {
			t.Errorf("%+v, %v, want ann at 3, and of bob nothing", all, err)
		}
	})
}

func TestSetPresence_StandsInTheRecordForAnOlderNode(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		m := begin(t, s, "sid", "ann").Member()
		present(t, s, m)
		d, p, err := s.SetPresence(t.Context(), m, presence.Set{Value: 1})
		if err != nil || d.Set != (presence.Set{Value: 1}) || d.At == 0 || p.Value != 1 {
			t.Fatalf("set: %+v %+v, %v", d, p, err)
		}
		if rec, _, err := s.Peek(t.Context(), "sid"); err != nil || rec.Presence != 1 {
			t.Errorf("the record says %d, %v, want 1", rec.Presence, err)
		}
	})
}

func TestAnnounce_RoomsWatchersAndTheUserHearAChangeAndNobodyElse(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		for _, w := range []string{"bob", "cy", "ann"} {
			if err := s.PutContacts(t.Context(), w, []string{"ann"}); err != nil {
				t.Fatal(err)
			}
		}
		e := hearing(t, s, []string{"ann", "bob", "cy", "dan", "mark"}, nil)
		rooms := hearing(t, s, nil, []string{"r1", "r2", "r3"})
		ann := begin(t, s, "sid", "ann", "r1", "r2").Member()
		phone := begin(t, s, "sid2", "ann", "r2").Member()
		present(t, s, ann)
		present(t, s, phone)                                                                    // no change
		if _, _, err := s.SetPresence(t.Context(), phone, presence.Set{Value: 3}); err != nil { // nor this
			t.Fatal(err)
		}
		if _, _, err := s.SetPresence(t.Context(), ann, presence.Set{Value: 1}); err != nil {
			t.Fatal(err)
		}
		mark := Member{User: "mark", Client: 9, Session: "m", Gen: 1}
		present(t, s, mark)
		if _, _, err := s.SetPresence(t.Context(), mark, presence.Set{Value: 1}); err != nil { // the last to be heard
			t.Fatal(err)
		}
		e.until(t, "all are heard, and mark", func() bool { return len(e.said("mark")) > 0 && len(e.said("ann")) >= 6 })
		if got, want := e.all("ann"), []string{"ann 1", "ann 3", "bob 1", "bob 3", "cy 1", "cy 3"}; !slices.Equal(got, want) {
			t.Errorf("users heard %v, want %v", got, want)
		}
		changes := func(room string) (n int) {
			for _, head := range rooms.heard[room] { // an entry has one, a presence has none
				if head == 0 {
					n++
				}
			}
			return n
		}
		rooms.until(t, "the rooms heard", func() bool { return changes("r1") == 2 && changes("r2") == 2 })
		if heard := rooms.in("r3"); len(heard) != 0 {
			t.Errorf("a room that ann is not in heard %v", heard)
		}
	})
}

func TestAnnounce_WhatANodeDiedBeforeSayingTheNextStepSays(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		m := begin(t, s, "sid", "ann").Member()
		if err := s.PutContacts(t.Context(), "bob", []string{"ann"}); err != nil { // who is to be told, too
			t.Fatal(err)
		}
		e := hearing(t, s, []string{"ann"}, nil)
		// The script ran, and then its node was gone.
		c := deviceCall(m, Attaching{Last: online})
		if _, err := s.run(t.Context(), c.script, c.keys, c.args...); err != nil {
			t.Fatal(err)
		}
		present(t, s, m.at(2))
		e.until(t, "it was said", func() bool { return len(e.said("ann")) > 0 })
		present(t, s, m.at(3))
		if _, _, err := s.SetPresence(t.Context(), m.at(3), presence.Set{Value: 1}); err != nil {
			t.Fatal(err)
		}
		e.until(t, "the next", func() bool { return slices.Contains(e.said("ann"), "ann 1") })
		if got, want := e.all("ann"), []string{"ann 1", "ann 3"}; !slices.Equal(got, want) {
			t.Errorf("said %v, want %v: each once", got, want)
		}
	})
}

// A socket that goes between the two steps takes its context with it.
func TestAnnounce_IsNotCutOffByTheEndOfWhoSetIt(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		if err := s.PutContacts(t.Context(), "bob", []string{"ann"}); err != nil {
			t.Fatal(err)
		}
		m := begin(t, s, "sid", "ann").Member()
		if _, _, err := s.SetPresence(t.Context(), m, online); err != nil { // and the server has the scripts
			t.Fatal(err)
		}
		e := hearing(t, s, []string{"bob"}, nil)
		ctx, cancel := context.WithCancel(t.Context())
		called := deviceScript
		if s.cluster != nil {
			called = s.cluster.version(called)
		}
		everywhere(t, s, func(c *redis.Client) error {
			c.AddHook(after{called.sha, cancel})
			return nil
		})
		if _, _, err := s.SetPresence(ctx, m, presence.Set{Value: 1}); err != nil {
			t.Errorf("set: %v", err)
		}
		if ctx.Err() == nil {
			t.Fatal("its context has not ended")
		}
		e.until(t, "the watcher hears", func() bool { return slices.Contains(e.said("ann"), "bob 1") })
	})
}

// after calls do once a script has run.
type after struct {
	sha string
	do  func()
}

func (after) DialHook(next redis.DialHook) redis.DialHook { return next }

func (a after) ran(cmd redis.Cmder) {
	if args := cmd.Args(); args[0] == "evalsha" && args[1] == a.sha && cmd.Err() == nil {
		a.do()
	}
}

func (a after) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		a.ran(cmd)
		return err
	}
}

func (a after) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		for _, cmd := range cmds {
			a.ran(cmd)
		}
		return err
	}
}

func TestEnd_TakesTheDeviceOutOnceWhoeverEndsIt(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		e := hearing(t, s, []string{"ann"}, nil)
		a, b := begin(t, s, "a", "ann", "r1", "r2"), begin(t, s, "b", "ann", "r2")
		present(t, s, a.Member())
		if _, _, err := s.AttachDevice(t.Context(), b.Member(), Attaching{Last: away}); err != nil {
			t.Fatal(err)
		}
		for _, sid := range []string{"a", "b"} {
			var all sync.WaitGroup
			for range 5 {
				all.Go(func() {
					if err := s.End(t.Context(), sid, Always, "lost"); err != nil && !errors.Is(err, ErrGone) {
						t.Errorf("end: %v", err)
					}
				})
			}
			all.Wait()
		}
		e.until(t, "the last value", func() bool { return slices.Contains(e.said("ann"), "ann 0") })
		pvs := map[uint64]uint8{}
		for _, l := range e.letters() {
			pvs[l.Presence.PV] = l.Presence.Value
		}
		if len(pvs) != 3 {
			t.Errorf("values by pv: %v, want 3, 2, 0 and each under one pv", pvs)
		}
		for _, m := range []Member{a.Member(), b.Member()} {
			if _, _, err := s.AttachDevice(t.Context(), m.at(9), Attaching{Last: online}); !errors.Is(err, ErrGone) {
				t.Errorf("a late attach of an ended session: %v, want gone", err)
			}
			if err := s.Enter(t.Context(), m, "r3", 9); !errors.Is(err, ErrGone) {
				t.Errorf("a late join of an ended session: %v, want gone", err)
			}
		}
		for _, k := range left(t, s) {
			if strings.HasPrefix(k, "gw:{u:") {
				t.Errorf("nobody will delete %s", k)
			}
		}
	})
}

// A node that dies in the middle of a session's end leaves the rest to another,
// and the rooms that only this session was in are told all the same.
func TestEnd_ARoomHearsOfTheLastDeviceThoughItsEnderDied(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		e := hearing(t, s, nil, []string{"r"})
		m := begin(t, s, "sid", "ann", "r").Member()
		present(t, s, m)
		c := s.partCall(m)
		if _, err := s.run(t.Context(), c.script, c.keys, c.args...); err != nil {
			t.Fatal(err)
		}
		if err := s.End(t.Context(), "sid", Always, "lost"); err != nil {
			t.Fatal(err)
		}
		// The join, its first value and its last, the leave, and the head said again.
		want := []uint64{1, 0, 0, 2, 2}
		e.until(t, "the head", func() bool { return len(e.heard["r"]) >= len(want) })
		if heard := e.in("r"); !slices.Equal(heard, want) {
			t.Errorf("the room heard %v, want %v", heard, want)
		}
	})
}

func TestContacts_ReplaceTheWholeListAndItsWatchers(t *testing.T) {
	each(t, Config{MaxContacts: 3}, func(t *testing.T, s *Store) {
		e := hearing(t, s, []string{"ann"}, nil)
		for _, list := range [][]string{{"bob", "cy"}, {"cy", "dan", "a}b"}, nil, {"bob"}, {"bob"}} {
			if err := s.PutContacts(t.Context(), "ann", list); err != nil {
				t.Fatal(err)
			}
			got, err := s.Contacts(t.Context(), []string{"ann", "nobody"})
			if err != nil || len(got[1]) != 0 {
				t.Fatal(got, err)
			}
			slices.Sort(got[0])
			slices.Sort(list)
			if !slices.Equal(got[0], list) {
				t.Errorf("contacts %v, want %v", got[0], list)
			}
			for _, other := range []string{"bob", "cy", "dan", "a}b"} {
				watched, err := s.rdb.SIsMember(t.Context(), keysOfUser(other).watchers(), "ann").Result()
				if err != nil || watched != slices.Contains(list, other) {
					t.Errorf("with %v, ann watches %s: %v, %v", list, other, watched, err)
				}
			}
		}
		if err := s.PutContacts(t.Context(), "ann", []string{"a", "b", "c", "d"}); !errors.Is(err, ErrTooManyContacts) {
			t.Errorf("four of three: %v", err)
		}
		if got, err := s.Contacts(t.Context(), []string{"ann"}); err != nil || !slices.Equal(got[0], []string{"bob"}) {
			t.Errorf("after a list that is too long: %v, %v, want it as it was", got, err)
		}
		e.until(t, "word of the changes", func() bool { return len(e.inbox) == 5 })
	})
}

func TestContacts_AnOvertakenChangeMendsWhatItUndoes(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		if err := s.PutContacts(t.Context(), "ann", []string{"bob", "cy"}); err != nil {
			t.Fatal(err)
		}
		// One takes both off the list, and before it has followed that up another
		// puts bob back.
		a, err := s.run(t.Context(), contactsScript, []string{keysOfUser("ann").contacts()})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.PutContacts(t.Context(), "ann", []string{"bob"}); err != nil {
			t.Fatal(err)
		}
		if err := s.rewatch(t.Context(), "ann", a.list(1), a.list(2)); err != nil {
			t.Fatal(err)
		}
		for other, want := range map[string]bool{"bob": true, "cy": false} {
			if got, err := s.rdb.SIsMember(t.Context(), keysOfUser(other).watchers(), "ann").Result(); err != nil || got != want {
				t.Errorf("ann watches %s: %v, %v, want %v", other, got, err, want)
			}
		}
	})
}

func TestContacts_PutAtOnceLeaveNobodyUnwatched(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		var all sync.WaitGroup
		for i := range 40 {
			all.Go(func() {
				list := []string{"bob"}
				if i%2 == 0 {
					list = []string{"cy"}
				}
				if err := s.PutContacts(t.Context(), "ann", list); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		got, err := s.Contacts(t.Context(), []string{"ann"})
		if err != nil || len(got[0]) != 1 {
			t.Fatalf("contacts %v, %v, want one list or the other", got, err)
		}
		if ok, err := s.rdb.SIsMember(t.Context(), keysOfUser(got[0][0]).watchers(), "ann").Result(); err != nil || !ok {
			t.Errorf("%s is a contact and ann does not watch it: %v", got[0][0], err)
		}
	})
}

func TestGrow_GivesWhatIsToldAnewAHigherPVAndNobodyElseHears(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		m := begin(t, s, "sid", "ann").Member()
		e := hearing(t, s, []string{"ann"}, nil)
		before := present(t, s, m)
		got, err := s.Grow(t.Context(), []string{"ann", "nobody"})
		if err != nil || got[0].Value != 3 || got[0].PV < before.PV+2 || got[1].PV != 0 {
			t.Fatalf("%+v, %v, want 3 above pv %d, and nothing of nobody", got, err, before.PV)
		}
		if n, err := s.rdb.Exists(t.Context(), keysOfUser("nobody").presence()).Result(); n != 0 || err != nil {
			t.Errorf("a user that never was has a value now: %v", err)
		}
		present(t, s, m.at(2))
		if _, p, err := s.SetPresence(t.Context(), m.at(2), presence.Set{Value: 1}); err != nil || p.PV <= got[0].PV {
			t.Fatalf("the next change has pv %d, %v, want above %d", p.PV, err, got[0].PV)
		}
		e.until(t, "the change", func() bool { return len(e.inbox) > 0 })
		if got := e.all("ann"); !slices.Equal(got, []string{"ann 1"}) {
			t.Errorf("said %v, want the change alone", got)
		}
	})
}

func TestRosters_AreThoseOfAnEntry(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		r := join(t, s, "r", member(1, "ann"))
		join(t, s, "r", member(2, "ann"))
		join(t, s, "r", member(3, "bob"))
		got, err := s.Rosters(t.Context(), []string{"r", "none"})
		if err != nil || got[0].Epoch != r.Epoch || got[0].Seq != 3 || len(got[0].Users) != 2 || got[0].Users["ann"] != 2 || got[0].Users["bob"] != 1 {
			t.Errorf("roster %+v, %v", got[0], err)
		}
		if got[1].Epoch != "" || len(got[1].Users) != 0 {
			t.Errorf("of no room: %+v", got[1])
		}
	})
}

func TestPresence_AUserInManyRoomsWithManyWatchers(t *testing.T) {
	each(t, Config{Timeout: 20 * time.Second}, func(t *testing.T, s *Store) {
		const watchers, rooms = 5000, 200
		names := make([]any, watchers)
		for i := range names {
			names[i] = fmt.Sprintf("w%04d", i)
		}
		if err := s.rdb.SAdd(t.Context(), keysOfUser("ann").watchers(), names...).Err(); err != nil {
			t.Fatal(err)
		}
		in := make([]string, rooms)
		for i := range in {
			in[i] = fmt.Sprintf("r%03d", i)
		}
		watching, inside := []string{"ann"}, []string{in[0], in[rooms/2], in[rooms-1]}
		for i := 0; i < watchers; i += 50 { // of each chunk some
			watching = append(watching, names[i].(string))
		}
		e := hearing(t, s, watching, inside)
		if err := s.PutContacts(t.Context(), "eve", []string{"bob"}); err != nil {
			t.Fatal(err)
		}
		present(t, s, begin(t, s, "sid2", "bob").Member()) // the server has the scripts
		var told tellings
		everywhere(t, s, func(c *redis.Client) error {
			c.AddHook(&told)
			return nil
		})
		present(t, s, begin(t, s, "sid", "ann").Member(), in...)
		e.until(t, "each has heard it", func() bool {
			for _, room := range inside {
				if len(e.heard[room]) != 1 {
					return false
				}
			}
			return len(e.said("ann")) == len(watching)
		})
		if n := told.Load(); n != 1 && s.cluster == nil { // there they are not told by the script
			t.Errorf("they were told in %d round trips", n)
		}
	})
}

// tellings counts round trips that tell somebody something.
type tellings struct{ atomic.Int64 }

func (*tellings) DialHook(next redis.DialHook) redis.DialHook { return next }

func (n *tellings) tells(cmds ...redis.Cmder) {
	if slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool {
		args := cmd.Args()
		return args[0] == "eval" && args[1] == saidScript.text || args[0] == "evalsha" && args[1] == saidScript.sha
	}) {
		n.Add(1)
	}
}

func (n *tellings) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		n.tells(cmd)
		return next(ctx, cmd)
	}
}

func (n *tellings) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		n.tells(cmds...)
		return next(ctx, cmds)
	}
}
