package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"godwit/rules/handle"
)

var here, there = Ref{"n1", "b1"}, Ref{"n2", "b2"}

// at is a member at another gen.
func (m Member) at(gen uint64) Member {
	m.Gen = gen
	return m
}

// begin opens a session that is in some rooms, and no device yet.
func begin(t *testing.T, s *Store, sid, user string, rooms ...string) Session {
	t.Helper()
	client := rand.Uint32N(math.MaxUint32) + 1
	for _, c := range []call{
		{reserveScript, []string{clientKey(client)}, []any{sid, 60}},
		{handleScript, []string{handleKey(handle.First(user).Handle().String())}, []any{user, 60}},
	} {
		if a, err := s.run(t.Context(), c.script, c.keys, c.args...); err != nil || a.status() != "ok" {
			t.Fatalf("%s: %v, %v", c.script.name, a, err)
		}
	}
	rec := Session{
		ID: sid, User: user, Client: client, Device: "d", Handle: handle.First(user).Handle().String(), Gen: 1, Owner: here,
		Secret: HashSecret("secret"), Expires: time.Now().Add(time.Hour).Truncate(time.Millisecond),
		Globs: []string{"a*"}, Presence: 131, Caps: "redirect",
	}
	if err := s.Create(t.Context(), rec, nil); err != nil {
		t.Fatal(err)
	}
	for _, room := range rooms {
		if err := s.Enter(t.Context(), rec.Member(), room, 256); err != nil {
			t.Fatal(err)
		}
		join(t, s, room, rec.Member())
	}
	return rec
}

func TestSession_ComesBackAsItWas(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		want := begin(t, s, "sid", "ann", "r1", "r2")
		got, rooms, err := s.Peek(t.Context(), "sid")
		want.State = StateLive
		if err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
			t.Errorf("peek %+v, %v\nwant %+v", got, err, want)
		}
		slices.Sort(rooms)
		if !slices.Equal(rooms, []string{"r1", "r2"}) {
			t.Errorf("rooms %v", rooms)
		}
	})
}

func TestSession_IsClaimedByWhoHasTheSecret(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		begin(t, s, "sid", "ann", "r")
		hash := HashSecret("secret")
		if _, err := s.Claim(t.Context(), "sid", HashSecret("guess"), there, ""); !errors.Is(err, ErrSecret) {
			t.Errorf("wrong secret: %v", err)
		}
		if _, err := s.Claim(t.Context(), "none", hash, there, ""); !errors.Is(err, ErrGone) {
			t.Errorf("no session: %v", err)
		}
		c, err := s.Claim(t.Context(), "sid", hash, there, "")
		if err != nil || c.Gen != 2 || c.Owner != there || c.Previous != here || !c.WasLive || !slices.Equal(c.Rooms, []string{"r"}) || c.Caps != "" {
			t.Fatalf("claim %+v, %v", c, err)
		}
		// The late close of the old socket changes nothing.
		if err := s.Detach(t.Context(), here, "sid", 1); !errors.Is(err, ErrMoved) {
			t.Errorf("late detach: %v", err)
		}
		if err := s.Detach(t.Context(), there, "sid", 1); !errors.Is(err, ErrMoved) {
			t.Errorf("detach at an old gen: %v", err)
		}
		if owned, err := s.Owned(t.Context(), there, 9); err != nil || !slices.Contains(owned, "sid") {
			t.Errorf("after it the owner's list is %v, %v; want the live session", owned, err)
		}
		if rec, _, err := s.Peek(t.Context(), "sid"); err != nil || rec.State != StateLive || rec.Gen != 2 {
			t.Errorf("after late detaches: %+v, %v", rec, err)
		}
		if err := s.Enter(t.Context(), c.Member().at(1), "r2", 256); !errors.Is(err, ErrMoved) {
			t.Errorf("enter at an old gen: %v", err)
		}
		if err := s.Refresh(t.Context(), "sid", 2, time.Now().Add(-time.Second), nil); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Claim(t.Context(), "sid", hash, here, ""); !errors.Is(err, ErrExpired) {
			t.Errorf("expired: %v", err)
		}
	})
}

func TestSession_EntersSoManyRoomsAndNoMore(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		ann := begin(t, s, "sid", "ann").Member()
		for i, want := range []error{nil, nil, ErrTooManyRooms} {
			if err := s.Enter(t.Context(), ann, fmt.Sprint("r", i), 2); !errors.Is(err, want) {
				t.Errorf("room %d of 2: %v, want %v", i+1, err, want)
			}
		}
		if err := s.Enter(t.Context(), ann, "r0", 2); err != nil {
			t.Errorf("a room it is in: %v", err)
		}
	})
}

func TestRetake_TakesBackWhatASweepDetached(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		begin(t, s, "sid", "ann")
		if gen, taken, err := s.Retake(t.Context(), here, "sid", 1); gen != 1 || taken || err != nil {
			t.Errorf("still its own: %d %v %v", gen, taken, err)
		}
		if err := s.Detach(t.Context(), here, "sid", 0); err != nil { // a sweep of the node
			t.Fatal(err)
		}
		if gen, taken, err := s.Retake(t.Context(), here, "sid", 1); gen != 2 || !taken || err != nil {
			t.Errorf("swept: %d %v %v", gen, taken, err)
		}
		if gen, taken, err := s.Retake(t.Context(), here, "sid", 1); gen != 2 || !taken || err != nil {
			t.Errorf("asked again, because the answer was lost: %d %v %v", gen, taken, err)
		}
		if gen, taken, err := s.Retake(t.Context(), here, "sid", 2); gen != 2 || taken || err != nil {
			t.Errorf("at its gen: %d %v %v", gen, taken, err)
		}
		if _, _, err := s.Retake(t.Context(), here, "sid", 7); !errors.Is(err, ErrMoved) {
			t.Errorf("another gen: %v", err)
		}
		if _, err := s.Claim(t.Context(), "sid", HashSecret("secret"), there, ""); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Retake(t.Context(), here, "sid", 2); !errors.Is(err, ErrMoved) {
			t.Errorf("owned elsewhere: %v", err)
		}
		if _, _, err := s.Retake(t.Context(), here, "none", 1); !errors.Is(err, ErrGone) {
			t.Errorf("no session: %v", err)
		}
	})
}

func TestEnd_HappensOnceWhoeverTries(t *testing.T) {
	each(t, Config{LogTTL: time.Minute}, func(t *testing.T, s *Store) {
		watcher := member(7, "watcher")
		rooms := []string{"r0", "r1", "r2", "r3"}
		for _, r := range rooms {
			join(t, s, r, watcher)
		}
		rec := begin(t, s, "sid", "ann", rooms...)
		var all sync.WaitGroup
		var mu sync.Mutex
		ended := 0
		for range 10 {
			all.Go(func() {
				err := s.End(t.Context(), "sid", Always, "lost")
				if err != nil && !errors.Is(err, ErrGone) {
					t.Errorf("end: %v", err)
				}
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					ended++
				}
			})
		}
		all.Wait()
		if ended == 0 {
			t.Error("nobody ended it")
		}
		for _, r := range rooms {
			page, err := s.Read(t.Context(), r, 1, 100, 100)
			if err != nil || len(page.Entries) != 3 {
				t.Fatalf("%s: %d entries, %v, want join, join, leave", r, len(page.Entries), err)
			}
			if _, err := s.Join(t.Context(), r, rec.Member(), Known{}); !errors.Is(err, ErrGone) {
				t.Errorf("%s: a late join of the ended session: %v", r, err)
			}
			if _, err := s.Leave(t.Context(), r, watcher, Known{}, "left", true); err != nil {
				t.Fatal(err)
			}
		}
		if keys := left(t, s); len(keys) != 0 {
			t.Errorf("keys that nobody will delete: %v", keys)
		}
	})
}

func TestEnd_WhoFindsItBegunGoesOnWithIt(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		join(t, s, "r0", member(7, "watcher"))
		rec := begin(t, s, "sid", "ann", "r0", "r1")
		// Somebody began the end, told one room, and died.
		if _, err := s.run(t.Context(), endingScript, []string{sessionKey("sid"), sessionRoomsKey("sid")}, "force", "left", "", "", 0); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Leave(t.Context(), "r0", rec.Member(), Known{}, "left", true); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Claim(t.Context(), "sid", HashSecret("secret"), there, ""); !errors.Is(err, ErrGone) {
			t.Errorf("claim of an ending session: %v", err)
		}
		if err := s.End(t.Context(), "sid", IfDue, "lost"); err != nil {
			t.Fatal(err)
		}
		for _, room := range []string{"r0", "r1"} {
			page, err := s.Read(t.Context(), room, 1, 100, 100)
			if err != nil {
				t.Fatal(err)
			}
			leaves := 0
			for _, e := range page.Entries {
				if e.Kind == "leave" {
					leaves++
					if e.Reason != "left" {
						t.Errorf("%s: reason %q, want that of who began", room, e.Reason)
					}
				}
			}
			if leaves != 1 {
				t.Errorf("%s: %d leave entries, want 1", room, leaves)
			}
		}
	})
}

func TestDue_ADetachedSessionComesUpAfterItsGrace(t *testing.T) {
	each(t, Config{Grace: 2 * time.Second}, func(t *testing.T, s *Store) {
		begin(t, s, "gone", "ann")
		begin(t, s, "back", "bob")
		began := time.Now()
		for _, sid := range []string{"gone", "back"} {
			if err := s.Detach(t.Context(), here, sid, 1); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.End(t.Context(), "gone", IfDue, "lost"); !errors.Is(err, ErrNotDue) {
			t.Errorf("before its grace is over: %v", err)
		}
		if _, err := s.Claim(t.Context(), "back", HashSecret("secret"), there, ""); err != nil {
			t.Fatal(err)
		}
		found := map[string]error{}
		// Its record may be on another server, whose clock is a little behind.
		for len(found) < 2 || errors.Is(found["gone"], ErrNotDue) {
			due, err := s.DueSessions(t.Context(), 10)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range due {
				for _, sid := range d.Sessions {
					if _, again := found[sid]; again && sid == "back" {
						continue
					}
					found[sid] = s.End(t.Context(), sid, IfDue, "lost")
					if after := time.Since(began); found[sid] == nil && after < 1900*time.Millisecond {
						t.Errorf("%s has ended after %s, want its grace of 2s", sid, after)
					}
					if sid == "back" {
						// Detached anew while the sweep looked: it must stay listed.
						if err := s.Detach(t.Context(), there, "back", 2); err != nil {
							t.Fatal(err)
						}
						if err := s.Settle(t.Context(), d, sid); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
		}
		if found["gone"] != nil || !errors.Is(found["back"], ErrNotDue) {
			t.Errorf("ends: %v", found)
		}
		if n := s.rdb.ZCard(t.Context(), detachedKey(shardOf("back"))).Val(); n != 1 {
			t.Errorf("the session detached anew is listed %d times", n)
		}
	})
}

// The clocks of two nodes differ by more than their age does: what counts is
// the store's.
func TestNodes_StartByTheStoresClock(t *testing.T) {
	s := open(t, Config{})
	for i, skew := range []time.Duration{time.Hour, -time.Hour} {
		ref := Ref{Node: "n", Boot: fmt.Sprint(i)}
		now := time.Now().Round(time.Millisecond)
		s.embedded.mini.SetTime(now.Add(skew))
		for range 2 { // once and for all
			if err := s.Renew(t.Context(), Node{Ref: ref, Started: now.Add(-time.Minute)}); err != nil {
				t.Fatal(err)
			}
			s.embedded.mini.SetTime(now.Add(skew + time.Minute))
		}
		all, err := s.Nodes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range all {
			want := now.Add(skew - time.Minute)
			if n.Ref == ref && n.Started.Sub(want).Abs() > 10*time.Second {
				t.Errorf("%v of %v started at %v, want %v", ref, all, n.Started, want)
			}
		}
	}
}

func TestNodes_AreAliveWhileTheirLeaseStands(t *testing.T) {
	each(t, Config{Lease: 2 * time.Second}, func(t *testing.T, s *Store) {
		n := Node{Ref: here, URL: "ws://h", Revision: "r", State: NodeReady, Sessions: 3, Rooms: 2, Started: time.UnixMilli(1700000000000), Knows: "drain"}
		if err := s.Renew(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		begin(t, s, "sid", "ann")
		n.Alive, n.Owned = true, 1
		all, err := s.Nodes(t.Context())
		if err == nil && len(all) == 1 && all[0].Started.Sub(n.Started).Abs() < time.Minute {
			n.Started = all[0].Started
		}
		if err != nil || len(all) != 1 || all[0].Lease <= 0 || all[0].Lease > 2*time.Second {
			t.Fatalf("nodes %+v, %v, want one with a lease of 2s at most", all, err)
		}
		if n.Lease = all[0].Lease; all[0] != n {
			t.Fatalf("node %+v, want %+v", all[0], n)
		}
		for all[0].Alive {
			if all, err = s.Nodes(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if sids, err := s.Owned(t.Context(), here, 10); err != nil || !slices.Equal(sids, []string{"sid"}) {
			t.Errorf("owned %v, %v", sids, err)
		}
		if err := s.Expel(t.Context(), here); err != nil {
			t.Fatal(err)
		}
		if all, err := s.Nodes(t.Context()); err != nil || len(all) != 0 {
			t.Errorf("after expel: %v, %v", all, err)
		}
	})
}

func TestBegin_NoTwoSessionsShareAClientOrTwoUsersAHandle(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		one, two := opened(t, s, "s1", "ann"), opened(t, s, "s2", "ann")
		h1, h2 := one.Handle, two.Handle
		if h1 != h2 || one.Client == 0 || two.Client == one.Client {
			t.Fatalf("of one user: %+v and %+v", one.Session, two.Session)
		}
		if a, err := s.run(t.Context(), reserveScript, []string{clientKey(one.Client)}, "s3", 60); err != nil || a.status() != "owned" {
			t.Errorf("a client id once more: %v, %v", a, err)
		}
		if sum := sha256.Sum256([]byte("ann")); h1 != hex.EncodeToString(sum[:8]) {
			t.Errorf("handle %s, want the first 8 bytes of SHA-256", h1)
		}
		taken := handle.First("bob").Handle().String()
		if err := s.rdb.Set(t.Context(), handleKey(taken), "somebody else", 0).Err(); err != nil {
			t.Fatal(err)
		}
		h := opened(t, s, "s3", "bob").Handle
		want := handle.First("bob").Next().Handle().String()
		if h != want {
			t.Errorf("handle with the first one taken: %s, want %s", h, want)
		}
	})
}

func TestUserOf_AHandleLeadsBackToItsUserAfterAWipeToo(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		ctx := t.Context()
		b := opened(t, s, "s1", "ann")
		client, h := b.Client, b.Handle
		ann, ok := handle.Parse(h)
		if !ok {
			t.Fatalf("handle %q", h)
		}
		is := func(when, want string) {
			t.Helper()
			if got, err := s.UserOf(ctx, ann); err != nil || got != want {
				t.Errorf("%s the handle is of %q, %v, want %q", when, got, err, want)
			}
		}
		is("at first", "ann")
		if got, err := s.UserOf(ctx, handle.First("nobody").Handle()); err != nil || got != "" {
			t.Errorf("a handle that nobody has is of %q, %v", got, err)
		}
		everywhere(t, s, func(c *redis.Client) error { return c.FlushAll(ctx).Err() })
		is("wiped", "")
		all := []Identity{{Session: "s1", User: "ann", Client: client, Handle: h}}
		if err := s.Reclaim(ctx, all); err != nil {
			t.Fatal(err)
		}
		is("written again", "ann")
		all[0].User, all[0].Session = "eve", "s2"
		if err := s.Reclaim(ctx, all); err != nil {
			t.Fatal(err)
		}
		is("claimed by another", "ann")
		if sid := s.rdb.Get(ctx, clientKey(client)).Val(); sid != "s1" {
			t.Errorf("the client id is of %q, want s1", sid)
		}
		for _, key := range []string{handleKey(h), clientKey(client)} {
			if ttl := s.rdb.TTL(ctx, key).Val(); ttl <= 0 {
				t.Errorf("%s stands for %s", key, ttl)
			}
		}
	})
}

func TestSend_TellsTheHandleOnlyWhereTheNameDoesNot(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		usual, second := handle.First("ann").Handle().String(), handle.First("ann").Next().Handle().String()
		for i, h := range []string{usual, second} {
			m := Session{ID: fmt.Sprintf("s%d", i), User: "ann", Client: uint32(i + 1), Handle: h, Gen: 1}.Member()
			join(t, s, "r", m)
			sent(t, s, "r", m, Draft{Data: []byte("1")})
		}
		page, err := s.Read(t.Context(), "r", 1, 4, 10)
		if err != nil || len(page.Entries) != 4 {
			t.Fatalf("the log: %+v, %v", page, err)
		}
		for i, want := range []string{"", "", "", second} {
			if got := page.Entries[i].Handle; got != want {
				t.Errorf("entry %d tells the handle %q, want %q", i+1, got, want)
			}
		}
	})
}

func TestHandlesOf_AreThoseThatUsersWereGiven(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		ctx := t.Context()
		if err := s.rdb.Set(ctx, handleKey(handle.First("bob").Handle().String()), "somebody else", 0).Err(); err != nil {
			t.Fatal(err)
		}
		users := []string{"ann", "bob", "cy", "never here"}
		var want []string
		for i, user := range users[:3] {
			want = append(want, opened(t, s, fmt.Sprintf("s%d", i), user).Handle)
		}
		want = append(want, handle.First("never here").Handle().String())
		if want[1] != handle.First("bob").Next().Handle().String() {
			t.Fatalf("bob has %s", want[1])
		}
		got, err := s.HandlesOf(ctx, users)
		if err != nil || len(got) != len(want) {
			t.Fatalf("%v, %v", got, err)
		}
		for i := range got {
			if got[i].String() != want[i] {
				t.Errorf("%s has %s, want %s", users[i], got[i], want[i])
			}
		}
		if none, err := s.HandlesOf(ctx, nil); err != nil || len(none) != 0 {
			t.Errorf("of nobody: %v, %v", none, err)
		}
	})
}
