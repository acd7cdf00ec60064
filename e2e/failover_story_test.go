package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"godwit/e2e/fleet"
	"godwit/e2e/ledger"
	"godwit/internal/redisset"
)

// failOver bounds how long a Redis may take to put a replica in a primary's place:
// some seconds of silence, a vote, and room for a busy machine.
const failOver = 40 * time.Second

// manyRooms are spread over all primaries.
var manyRooms = size{people: 20, rooms: 20, roomsEach: 4, pause: 800 * time.Millisecond}

// tellOn is a story on a Redis of several servers, with the product's own lease and
// grace: they must be longer than a failover.
func tellOn(t *testing.T, on fleet.On) *story {
	t.Helper()
	return tellTo(t, fleet.Options{On: on, Env: map[string]string{"GODWIT_LEASE": "10s", "GODWIT_GRACE": "30s"}}, manyRooms)
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

// epochs are those of the rooms. A view of who is a primary, anybody's, may be a
// second old after a failover.
func (s *story) epochs() map[string]string {
	s.t.Helper()
	out := make(map[string]string)
	for _, room := range s.crowd.rooms {
		fleet.Eventually(s.t, failOver, "the epoch of "+room, func() (err error) {
			out[room], err = s.fleet.Store.HGet(s.t.Context(), metaOf(room), "epoch").Result()
			return err
		})
	}
	return out
}

// heardAgain waits until everybody who is in one of the rooms has heard something
// new of it, and is how long that took.
func (s *story) heardAgain(rooms []string) time.Duration {
	s.t.Helper()
	began := time.Now()
	before := make(map[*talker]map[string]uint64)
	for _, p := range s.crowd.people {
		before[p] = make(map[string]uint64)
		for room, pos := range p.positions() {
			before[p][room] = pos.Seq
		}
	}
	epochs := s.epochs()
	fleet.Eventually(s.t, failOver, "everybody hears again", func() error {
		for _, p := range s.crowd.people {
			for room, pos := range p.positions() {
				if slices.Contains(rooms, room) && pos.Seq <= before[p][room] && pos.Epoch == epochs[room] {
					return fmt.Errorf("%s is still at %d of %s", p.who, pos.Seq, room)
				}
			}
		}
		return nil
	})
	return time.Since(began)
}

// lostOnly ends the story where some rooms may have lost their end: nothing was
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

func TestStory_OnAClusterWhatIsDoneInOrderLosesNothing(t *testing.T) {
	s := tellOn(t, fleet.Cluster)
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
	if n := s.crowd.dropped.Load(); n != 0 {
		t.Errorf("%d sockets were lost, want none", n)
	}
}

func TestStory_OnAClusterAPrimaryKilledLosesNothingInSilence(t *testing.T) {
	s := tellOn(t, fleet.Cluster)
	rounds := 1
	if *long {
		rounds = 4
	}
	before := s.epochs()
	var hit []string
	for range rounds {
		room := s.crowd.rooms[s.rng.IntN(len(s.crowd.rooms))]
		victim := s.at(room)
		var rooms []string
		for _, r := range s.crowd.rooms {
			if s.at(r) == victim {
				rooms = append(rooms, r)
			}
		}
		hit = append(hit, rooms...)
		killed := time.Now()
		victim.Kill()
		fleet.Eventually(t, failOver, "another primary of "+room, func() error {
			if now := s.at(room); now == victim {
				return fmt.Errorf("it is still %s", now.Addr)
			}
			return nil
		})
		promoted := time.Since(killed)
		t.Logf("%d rooms: a replica took over %s after the kill, everybody hears again %s after that",
			len(rooms), promoted.Round(time.Millisecond), s.heardAgain(rooms).Round(time.Millisecond))
		if err := victim.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.fleet.Cluster.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.crowd.hear(s.some)
	}
	s.lostOnly(hit, before)
	if n := s.crowd.dropped.Load(); n != 0 {
		t.Errorf("%d sockets were lost, want none", n)
	}
}

func TestStory_OnSentinelsAPrimaryReplacedLosesNothingInSilence(t *testing.T) {
	s := tellOn(t, fleet.Sentinels)
	set := s.fleet.Sentinel
	before := s.epochs()
	if n := fleet.KillPubSub(t, set.Data); n < int64(len(s.fleet.Nodes)) {
		t.Errorf("%d subscriptions were killed, want one a node at least", n)
	}
	s.crowd.hear(s.some)

	victim, err := set.Primary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	victim.Kill()
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

	if err := set.FailOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("everybody hears again %s after the failover", s.heardAgain(s.crowd.rooms).Round(time.Millisecond))
	s.crowd.hear(s.some)
	s.lostOnly(s.crowd.rooms, before)
	if n := s.crowd.dropped.Load(); n != 0 {
		t.Errorf("%d sockets were lost, want none", n)
	}
}
