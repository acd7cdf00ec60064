package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"godwit/internal/redisset"
	"godwit/internal/redistest"
)

func sharded(t *testing.T, c *redisset.Cluster, m Sharded) *Store {
	t.Helper()
	cfg := wideLog
	cfg.URL, cfg.Sharded = c.URL(), m
	cfg.Timeout = 10 * time.Second
	return open(t, cfg)
}

// carried is how many messages the bus has brought from server to server.
func carried(t *testing.T, c *redisset.Cluster) (n int) {
	t.Helper()
	for _, s := range c.Servers() {
		info, err := s.Client.ClusterInfo(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		var of int
		if text := infoField(info, "cluster_stats_messages_publish_sent"); text != "" {
			if _, err := fmt.Sscan(text, &of); err != nil {
				t.Fatal(err)
			}
		}
		n += of
	}
	return n
}

// Each step understands the one before it and the one after it, both ways, and
// hears everything once.
func TestSharded_NodesThatDifferByOneStepHearEachOther(t *testing.T) {
	steps := []Sharded{ShardedOff, ShardedHear, ShardedOn}
	for i, hears := range steps {
		for j, tells := range steps {
			if i-j > 1 || j-i > 1 {
				continue
			}
			t.Run(string(tells)+" to "+string(hears), func(t *testing.T) {
				c := redistest.Cluster(t)
				speaker := sharded(t, c, tells)
				sub, e := listen(t, sharded(t, c, hears))
				ann := member(1, "ann")
				var rooms []string
				for i := range 12 { // of all primaries
					rooms = append(rooms, fmt.Sprintf("%s, %s %d", hears, tells, i)) // the bus may still carry what went before
				}
				follow(t, sub, rooms...)
				<-sub.FollowUser("ann")
				<-sub.FollowUser("bob")
				for _, room := range rooms {
					join(t, speaker, room, ann)
					for range 3 {
						sent(t, speaker, room, ann, Draft{Data: []byte("1")})
					}
					sent(t, speaker, room, ann, Draft{Data: []byte("1"), Ephemeral: true})
				}
				if err := speaker.PutContacts(t.Context(), "ann", []string{"bob"}); err != nil {
					t.Fatal(err)
				}
				if err := speaker.publish(t.Context(), []string{keysOfUser("bob").channel()}, "p 1 3 ann"); err != nil {
					t.Fatal(err)
				}
				e.until(t, "everything", func() bool {
					for _, room := range rooms {
						if len(e.heard[room]) < 5 {
							return false
						}
					}
					return len(e.inbox) >= 2
				})
				for _, room := range rooms { // what comes last has overtaken nothing, so nothing comes twice behind it
					if err := speaker.Announce(t.Context(), room, "e", 99); err != nil {
						t.Fatal(err)
					}
				}
				e.until(t, "the last", func() bool {
					for _, room := range rooms {
						if h := e.heard[room]; h[len(h)-1] != 99 {
							return false
						}
					}
					return true
				})
				for _, room := range rooms {
					if got := fmt.Sprint(e.heard[room]); got != "[1 2 3 4 0 99]" {
						t.Errorf("%s: heard %s, want each once", room, got)
					}
				}
				if len(e.inbox) != 2 || e.resets+e.suspects > 0 {
					t.Errorf("inbox %+v, %d resets, %d suspicions; want two letters and nothing in doubt", e.inbox, e.resets, e.suspects)
				}
			})
		}
	}
}

func TestSharded_TheBusCarriesNothingOfRoomsAndUsers(t *testing.T) {
	c := redistest.Cluster(t)
	const said = 1000
	for _, tc := range []struct {
		mode        Sharded
		least, most int
	}{{ShardedOff, said, 1 << 30}, {ShardedOn, 0, said / 2}} { // the subscriber's probes are carried, a few a second
		s := sharded(t, c, tc.mode)
		sub, e := listen(t, s)
		room := "room of " + string(tc.mode)
		follow(t, sub, room)
		ann := member(1, "ann")
		join(t, s, room, ann)
		before := carried(t, c)
		for range said {
			sent(t, s, room, ann, Draft{Data: []byte("1")})
		}
		e.until(t, "the messages", func() bool { return len(e.heard[room]) == said+1 })
		if n := carried(t, c) - before; n < tc.least || n > tc.most {
			t.Errorf("%s: the bus carried %d messages, want %d to %d", tc.mode, n, tc.least, tc.most)
		}
	}
}

// heads is a head that no room of these tests reaches.
const heads = 1 << 40

// heardTo waits until what is said now is heard in each room.
func heardTo(t *testing.T, s *Store, e *ear, rooms []string) {
	t.Helper()
	for _, room := range rooms {
		for heard := false; !heard; { // what is said while nobody hears is followed by a doubt
			e.mu.Lock()
			doubts := e.resets + e.suspects
			e.mu.Unlock()
			if err := s.Announce(t.Context(), room, "e", heads); err != nil {
				t.Fatal(err)
			}
			e.until(t, "the head of "+room, func() bool {
				h := e.heard[room]
				heard = len(h) > 0 && h[len(h)-1] == heads
				return heard || e.resets+e.suspects > doubts
			})
		}
	}
}

func TestSharded_ASlotThatMovesIsFollowedAndDoubtedWithoutAReset(t *testing.T) {
	c := redistest.Cluster(t)
	s := sharded(t, c, ShardedOn)
	sub, e := listen(t, s)
	all := primaries(t, c)
	moves, stays := roomAt(t, c, all[0], 0), roomAt(t, c, all[2], 0)
	follow(t, sub, moves, stays)
	ann := member(1, "ann")
	join(t, s, moves, ann)
	join(t, s, stays, ann)
	stop := make(chan struct{})
	var talking sync.WaitGroup
	var accepted [2]atomic.Uint64
	for i, room := range []string{moves, stays} {
		talking.Go(func() { talk(t, s, room, ann, stop, &accepted[i]) })
	}
	slot := slotOf(keysOfRoom(moves).meta())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for i := range 4 {
		from, to := all[i%2], all[(i+1)%2]
		if err := c.Move(ctx, slot, from, to, func() {}); err != nil {
			t.Fatal(err)
		}
		e.until(t, fmt.Sprintf("a suspicion after move %d", i), func() bool { return e.suspects > i })
		heard := func() int {
			e.mu.Lock()
			defer e.mu.Unlock()
			return len(e.heard[moves])
		}
		for was := heard(); heard() < was+10; {
			if ctx.Err() != nil {
				t.Fatalf("nothing is heard after move %d", i)
			}
			if err := s.Announce(ctx, stays, "e", 1); err != nil { // it takes a while
				t.Fatal(err)
			}
		}
	}
	close(stop)
	talking.Wait()
	heardTo(t, s, e, []string{moves, stays})
	if e.resets != 0 || sub.Deaf(time.Now()) != 0 {
		t.Errorf("%d resets, deaf for %s; want neither", e.resets, sub.Deaf(time.Now()))
	}
	missing, seen := 0, make(map[uint64]bool)
	for _, seq := range e.heard[stays] {
		seen[seq] = true
	}
	for seq := uint64(1); seq <= accepted[1].Load()+1; seq++ {
		if !seen[seq] {
			missing++
		}
	}
	if missing > 0 {
		t.Errorf("%d entries of a room whose slot stayed were not heard", missing)
	}
}

// Rooms come and go while their slots do.
func TestSharded_AfterAllComingAndGoingFollowsWhatIsWanted(t *testing.T) {
	c := redistest.Cluster(t)
	s := sharded(t, c, ShardedOn)
	sub, e := listen(t, s)
	all := primaries(t, c)
	const rooms = 400
	wanted := make([]bool, rooms)
	moved := make([]int, 0, 16) // slots of some of them
	for i := range rooms {
		if at, err := c.Primary(t.Context(), keysOfRoom(name(i)).meta()); err != nil {
			t.Fatal(err)
		} else if at == all[0] && len(moved) < cap(moved) {
			moved = append(moved, slotOf(keysOfRoom(name(i)).meta()))
		}
	}
	t.Cleanup(func() { // as they were
		for _, slot := range moved {
			_ = c.Move(context.Background(), slot, all[1], all[0], func() {}) // it may be there
		}
	})
	for _, slot := range moved {
		for range 20 * rooms / len(moved) {
			i := rand.IntN(rooms)
			if wanted[i] = !wanted[i]; wanted[i] {
				sub.Follow(name(i))
			} else {
				sub.Drop(name(i))
			}
		}
		if err := c.Move(t.Context(), slot, all[0], all[1], func() {}); err != nil {
			t.Fatal(err)
		}
	}
	var want []string
	for i := range wanted {
		if wanted[i] {
			want = append(want, name(i))
		}
	}
	follow(t, sub, want...)
	var last []string // of each primary
	for _, p := range all {
		last = append(last, roomAt(t, c, p, 400))
	}
	follow(t, sub, last...)
	heardTo(t, s, e, want)
	e.mu.Lock()
	clear(e.heard)
	e.mu.Unlock()
	for i := range rooms {
		if !wanted[i] {
			if err := s.Announce(t.Context(), name(i), "e", 7); err != nil {
				t.Fatal(err)
			}
		}
	}
	heardTo(t, s, e, last) // each behind all that its primary said
	e.mu.Lock()
	for i := range wanted {
		if !wanted[i] && len(e.heard[name(i)]) > 0 {
			t.Errorf("room %d is heard, and is not wanted", i)
		}
	}
	e.mu.Unlock()
	sub.shards.mu.Lock()
	defer sub.shards.mu.Unlock()
	if n := len(sub.shards.at); n != len(want)+len(last) || len(sub.shards.parked) != 0 {
		t.Errorf("it keeps %d channels, and %d without a follower; want %d and none", n, len(sub.shards.parked), len(want)+len(last))
	}
}

func TestSharded_KilledConnectionsAreReplacedWithAReset(t *testing.T) {
	c := redistest.Cluster(t)
	s := sharded(t, c, ShardedOn)
	sub, e := listen(t, s)
	var rooms []string
	for i := range 60 {
		rooms = append(rooms, name(i))
	}
	follow(t, sub, rooms...)
	for _, room := range rooms {
		join(t, s, room, member(1, "ann"))
	}
	killed := 0
	for _, at := range primaries(t, c) {
		n, err := at.Client.Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub").Int()
		if err != nil || n == 0 {
			t.Fatalf("killed %d, %v", n, err)
		}
		killed += n
		e.until(t, "a reset for each connection", func() bool {
			return e.resets >= killed && sub.Deaf(time.Now()) == 0
		})
	}
	heardTo(t, s, e, rooms)
}

func TestSharded_AfterAFailoverItsRoomsAreResetAndHeard(t *testing.T) {
	for _, graceful := range []bool{true, false} {
		t.Run(fmt.Sprintf("graceful: %t", graceful), func(t *testing.T) {
			c := redistest.Cluster(t)
			healed(t, c)
			quick(t, c)
			s := sharded(t, c, ShardedOn)
			sub, e := listen(t, s)
			all := primaries(t, c)
			var rooms []string
			for _, p := range all {
				for i := range 3 {
					rooms = append(rooms, roomAt(t, c, p, i))
				}
			}
			follow(t, sub, rooms...)
			for _, room := range rooms {
				join(t, s, room, member(1, "ann"))
			}
			if graceful {
				replica, err := c.Replica(t.Context(), all[0])
				if err != nil {
					t.Fatal(err)
				}
				if err := c.FailOver(t.Context(), replica); err != nil {
					t.Fatal(err)
				}
			} else {
				all[0].Kill()
			}
			e.until(t, "a reset", func() bool { return e.resets > 0 })
			for late := time.Now().Add(30 * time.Second); sub.Deaf(time.Now()) > 0; {
				if time.Now().After(late) {
					t.Fatal("still deaf")
				}
				_, _ = c.Primary(t.Context(), "x") // it takes a while
			}
			heardTo(t, s, e, rooms)
		})
	}
}

func TestSharded_OnlyAClusterHasIt(t *testing.T) {
	if _, err := Open(Config{URL: "redis://127.0.0.1:1", Sharded: ShardedHear}); err == nil || !strings.Contains(err.Error(), "Cluster") {
		t.Errorf("opened, %v", err)
	}
}

// A node that would not be heard, or not hear, does not join.
func TestSharded_ANodeKnowsWhomItDoesNotUnderstand(t *testing.T) {
	c := redistest.Cluster(t)
	for _, tc := range []struct {
		there, comes Sharded
		fits         bool
	}{
		{ShardedOff, ShardedOff, true},
		{ShardedOff, ShardedHear, true},
		{ShardedOff, ShardedOn, false},
		{ShardedHear, ShardedOff, true},
		{ShardedHear, ShardedHear, true},
		{ShardedHear, ShardedOn, true},
		{ShardedOn, ShardedOff, false},
		{ShardedOn, ShardedHear, true},
		{ShardedOn, ShardedOn, true},
	} {
		s := sharded(t, c, tc.comes)
		old := Node{Ref: Ref{Node: "old", Boot: "b"}, State: NodeReady, Started: time.Now(), Knows: "drain " + tc.there.Knows()}
		if err := s.Renew(t.Context(), old); err != nil {
			t.Fatal(err)
		}
		err := s.Fits(t.Context())
		if tc.fits != (err == nil) || err != nil && (errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "old")) {
			t.Errorf("%s joins %s: %v", tc.comes, tc.there, err)
		}
		if err := s.Expel(t.Context(), old.Ref); err != nil {
			t.Fatal(err)
		}
		if err := s.Fits(t.Context()); err != nil {
			t.Errorf("%s joins nobody: %v", tc.comes, err)
		}
	}
}

// No script publishes in two ways.
func TestSharded_EveryScriptThatPublishesKnowsHow(t *testing.T) {
	for _, sc := range scripts {
		publishes := strings.Contains(sc.text, "redis.call(PUBLISH, ")
		if publishes != (sc.shard != sc) {
			t.Errorf("%s: publishes %t, has another form %t", sc.name, publishes, sc.shard != sc)
		}
		if sc.shard != sc && strings.Contains(sc.shard.text, "'PUBLISH'") {
			t.Errorf("%s publishes on classic channels, too", sc.name)
		}
	}
}
