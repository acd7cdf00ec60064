package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"godwit/e2e/fleet"
	"godwit/e2e/ledger"
	"godwit/internal/redisset"
	"godwit/wire"
)

// failOver bounds how long a Redis may take to put a replica in a primary's place:
// some seconds of silence, a vote, and room for a busy machine.
const failOver = 40 * time.Second

// deafMost bounds how long somebody may hear nothing once there is a primary again:
// three seconds are what it should be, and the rest is room for a busy machine.
const deafMost = 20 * time.Second

// lag is how long a primary is cut off from its replicas before it is killed.
const lag = 400 * time.Millisecond

// manyRooms are spread over all primaries.
var manyRooms = size{people: 20, rooms: 20, roomsEach: 4, pause: 800 * time.Millisecond}

// tellOn is a story on a Redis of several servers, with the product's own lease and
// grace: they must be longer than a failover.
func tellOn(t *testing.T, on fleet.On) *story {
	t.Helper()
	return tellTo(t, fleet.Options{On: on, Env: settingsOnSets(nil)}, manyRooms)
}

func metaOf(room string) string { return "gw:{r:" + room + "}:meta" }

// at is the primary of a room.
func (s *story) at(room string) *redisset.Server {
	s.t.Helper()
	p, err := s.fleet.Cluster.Primary(s.t.Context(), metaOf(room))
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// epochsOf are those of some rooms. A view of who is a primary, anybody's, may be a
// second old after a failover.
func (s *story) epochsOf(rooms []string) map[string]string {
	s.t.Helper()
	out := make(map[string]string)
	for _, room := range rooms {
		fleet.Eventually(s.t, failOver, "the epoch of "+room, func() (err error) {
			out[room], err = s.fleet.Store.HGet(s.t.Context(), metaOf(room), "epoch").Result()
			return err
		})
	}
	return out
}

func (s *story) epochs() map[string]string {
	s.t.Helper()
	return s.epochsOf(s.crowd.rooms)
}

// heardAgain waits until everybody who is in one of the rooms has heard something
// new of it, and is how long that took.
func (s *story) heardAgain(rooms []string) time.Duration {
	s.t.Helper()
	began := time.Now()
	before := make(map[*talker]map[string]wire.Position)
	for _, p := range s.crowd.people {
		before[p] = p.positions()
	}
	epochs := s.epochsOf(rooms)
	fleet.Eventually(s.t, failOver, "everybody hears again", func() error {
		for _, p := range s.crowd.people {
			for room, pos := range p.positions() {
				was := before[p][room]
				if slices.Contains(rooms, room) && pos.Epoch == was.Epoch && (pos.Epoch != epochs[room] || pos.Seq <= was.Seq) {
					return fmt.Errorf("%s is still at %d of %s", p.who, pos.Seq, room)
				}
			}
		}
		return nil
	})
	took := time.Since(began)
	if took > deafMost {
		s.t.Errorf("somebody heard nothing for %s, want %s at most", took, deafMost)
	}
	return took
}

// cutOff kills a primary that its replicas have heard nothing of for a while, and is
// the rooms' logs as it had them at the end.
func (s *story) cutOff(victim *redisset.Server, replicas []*redisset.Server, rooms []string) map[string]ledger.Log {
	s.t.Helper()
	for _, r := range replicas {
		if err := r.Stop(); err != nil {
			s.t.Fatal(err)
		}
	}
	// What was on its way to them would still come.
	if err := victim.Client.Do(s.t.Context(), "CLIENT", "KILL", "TYPE", "replica").Err(); err != nil {
		s.t.Fatal(err)
	}
	<-time.After(lag)
	if err := victim.Client.Do(s.t.Context(), "CLIENT", "PAUSE", failOver.Milliseconds(), "WRITE").Err(); err != nil {
		s.t.Fatal(err)
	}
	had := make(map[string]ledger.Log)
	for _, room := range rooms {
		had[room] = truth(s.t, victim.Client, room)
	}
	victim.Kill()
	for _, r := range replicas {
		if err := r.Cont(); err != nil {
			s.t.Fatal(err)
		}
	}
	return had
}

// tells ends a failover: some rooms have lost entries that they had, and whoever has
// lost none keeps its epoch, for nothing is to be told there.
func (s *story) tells(had map[string]ledger.Log) {
	s.t.Helper()
	lost, hit := 0, 0
	for room, was := range had {
		now := truth(s.t, s.fleet.Store, room)
		there := make(map[uint64]int64)
		for _, e := range now.Entries {
			there[e.Seq] = e.TS
		}
		n := 0
		for _, e := range was.Entries {
			if there[e.Seq] != e.TS {
				n++
			}
		}
		lost += n
		switch {
		case n > 0:
			hit++
		case now.Epoch != was.Epoch:
			s.t.Errorf("%s has lost nothing, and has another epoch", room)
		}
	}
	s.t.Logf("%d entries are lost, in %d rooms of %d", lost, hit, len(had))
	if lost == 0 {
		s.t.Error("the failover has lost nothing: it shows nothing")
	}
}

// lostOnly ends the story where some rooms may have lost everything: nothing was
// lost in silence, and in no other room anything.
func (s *story) lostOnly(rooms []string, before map[string]string) ledger.Report {
	s.t.Helper()
	r := s.crowd.settle(catchUp)
	for room, epoch := range s.epochs() {
		if epoch != before[room] && !slices.Contains(rooms, room) {
			s.t.Errorf("%s, whose primary was let alone, has another epoch", room)
		}
	}
	if n := s.crowd.lost.Load(); n != 0 {
		s.t.Errorf("%d sessions were lost, want none", n)
	}
	return r
}

// told ends the story where rooms may have lost their end: nothing was lost in
// silence, and nobody's session, socket or presence.
func (s *story) told() {
	s.t.Helper()
	r := s.crowd.settle(catchUp)
	if r.Excused == 0 {
		s.t.Error("nobody was told that something is missing")
	}
	if n := s.crowd.lost.Load(); n != 0 {
		s.t.Errorf("%d sessions were lost, want none", n)
	}
	s.keptSockets()
	if stirs := s.crowd.stirs(); len(stirs) > 0 {
		s.t.Errorf("nobody's presence has changed, and %q", stirs)
	}
}

// onClusters tells a story on a Cluster as it is by default, and, of the long ones,
// with sharded channels.
func onClusters(t *testing.T, story func(t *testing.T, s *story)) {
	t.Helper()
	modes := []string{"off"}
	if *long {
		modes = append(modes, "on")
	}
	for _, mode := range modes {
		t.Run("sharded "+mode, func(t *testing.T) {
			env := settingsOnSets(map[string]string{"GODWIT_REDIS_SHARDED": mode})
			story(t, tellTo(t, fleet.Options{On: fleet.Cluster, Env: env}, manyRooms))
		})
	}
}

func TestStory_OnAClusterWhatIsDoneInOrderLosesNothing(t *testing.T) { onClusters(t, inOrder) }

func inOrder(t *testing.T, s *story) {
	c := s.fleet.Cluster
	if n := fleet.KillPubSub(t, c.Servers()); n < int64(len(s.fleet.Nodes)) {
		t.Errorf("%d subscriptions were killed, want one a node at least", n)
	}
	s.crowd.hear(s.some)

	all, err := c.Primaries(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, room := range s.crowd.rooms[:5] {
		from := s.at(room)
		to := all[(slices.Index(all, from)+1+i%2)%len(all)]
		slot, err := from.Client.ClusterKeySlot(t.Context(), metaOf(room)).Result()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Move(t.Context(), int(slot), from, to, func() { s.crowd.hear(3) }); err != nil {
			t.Fatal(err)
		}
		s.heardAgain([]string{room})
	}

	replica, err := c.Replica(t.Context(), s.at(s.crowd.rooms[7]))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.FailOver(t.Context(), replica); err != nil {
		t.Fatal(err)
	}
	t.Logf("everybody hears again %s after the failover", s.heardAgain(s.crowd.rooms).Round(time.Millisecond))
	s.crowd.hear(s.some)
	s.whole(catchUp)
	s.keptSockets()
}

func TestStory_OnAClusterAPrimaryKilledLosesNothingInSilence(t *testing.T) { onClusters(t, killed) }

func killed(t *testing.T, s *story) {
	rounds := 1
	if *long {
		rounds = 4
	}
	for range rounds {
		room := s.crowd.rooms[s.rng.IntN(len(s.crowd.rooms))]
		victim := s.at(room)
		replica, err := s.fleet.Cluster.Replica(t.Context(), victim)
		if err != nil {
			t.Fatal(err)
		}
		var rooms, others []string
		for _, r := range s.crowd.rooms {
			if s.at(r) == victim {
				rooms = append(rooms, r)
			} else {
				others = append(others, r)
			}
		}
		before := s.epochsOf(others)
		had := s.cutOff(victim, []*redisset.Server{replica}, rooms)
		began := time.Now()
		t.Logf("in the %d rooms of other primaries everybody hears again %s after the kill",
			len(others), s.heardAgain(others).Round(time.Millisecond))
		fleet.Eventually(t, failOver, "another primary of "+room, func() error {
			if now := s.at(room); now == victim {
				return fmt.Errorf("it is still %s", now.Addr)
			}
			return nil
		})
		t.Logf("%d rooms: a replica has taken over %s after the kill, everybody hears again %s after that",
			len(rooms), time.Since(began).Round(time.Millisecond), s.heardAgain(rooms).Round(time.Millisecond))
		if err := victim.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.fleet.Cluster.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.crowd.hear(s.some)
		s.tells(had)
		for room, epoch := range s.epochsOf(others) {
			if epoch != before[room] {
				t.Errorf("%s, whose primary was let alone, has another epoch", room)
			}
		}
	}
	s.told()
}

func TestStory_OnSentinelsAPrimaryReplacedLosesNothingInSilence(t *testing.T) {
	s := tellOn(t, fleet.Sentinels)
	set := s.fleet.Sentinel
	if n := fleet.KillPubSub(t, set.Data); n < int64(len(s.fleet.Nodes)) {
		t.Errorf("%d subscriptions were killed, want one a node at least", n)
	}
	s.crowd.hear(s.some)

	victim, err := set.Primary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	replicas := slices.DeleteFunc(slices.Clone(set.Data), func(one *redisset.Server) bool { return one == victim })
	had := s.cutOff(victim, replicas, s.crowd.rooms)
	killed := time.Now()
	fleet.Eventually(t, failOver, "another primary", func() error {
		now, err := set.Primary(t.Context())
		if err == nil && now == victim {
			err = fmt.Errorf("it is still %s", now.Addr)
		}
		return err
	})
	t.Logf("a replica took over %s after the kill, everybody hears again %s after that",
		time.Since(killed).Round(time.Millisecond), s.heardAgain(s.crowd.rooms).Round(time.Millisecond))
	if err := victim.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := set.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.crowd.hear(s.some)
	s.tells(had)

	if err := set.FailOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("everybody hears again %s after the failover", s.heardAgain(s.crowd.rooms).Round(time.Millisecond))
	s.crowd.hear(s.some)
	s.told()
}
