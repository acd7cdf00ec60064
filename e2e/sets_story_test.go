package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"godwit/e2e/fleet"
	"godwit/internal/redisset"
)

// onSets tells a story on each Redis of several servers.
func onSets(t *testing.T, story func(t *testing.T, on fleet.On)) {
	t.Helper()
	longOnly(t)
	for name, on := range map[string]fleet.On{"cluster": fleet.Cluster, "sentinels": fleet.Sentinels} {
		t.Run(name, func(t *testing.T) { story(t, on) })
	}
}

// settingsOnSets are tellOn's, and more.
func settingsOnSets(more map[string]string) map[string]string {
	env := map[string]string{"GODWIT_LEASE": "10s", "GODWIT_GRACE": "30s"}
	maps.Copy(env, more)
	return env
}

// primary is the one that a room is at, of either kind of set.
func (s *story) primary(room string) *redisset.Server {
	s.t.Helper()
	if s.fleet.Cluster != nil {
		return s.at(room)
	}
	p, err := s.fleet.Sentinel.Primary(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

func TestStory_OnSetsANodeKilledLosesNothingAndNobodySeemsToLeave(t *testing.T) {
	onSets(t, func(t *testing.T, on fleet.On) {
		s := tellOn(t, on)
		for range 2 {
			victim := s.pick()
			victim.Kill()
			s.crowd.hear(s.some)
			victim.Start()
			s.crowd.hear(s.some)
		}
		s.whole(catchUp)
		if s.crowd.dropped.Load() == 0 {
			t.Error("no client lost its socket: the kills hit nobody")
		}
	})
}

func TestStory_OnSetsANodeStoppedForLongComesBackFenced(t *testing.T) {
	onSets(t, func(t *testing.T, on fleet.On) {
		tellTo(t, fleet.Options{On: on, Env: settingsOnSets(map[string]string{"GODWIT_PING": "1s"})}, manyRooms).stopsOneForLong()
	})
}

func TestStory_OnSetsAPrimaryWipedResetsItsRoomsAloneAndKeepsSessions(t *testing.T) {
	onSets(t, func(t *testing.T, on fleet.On) {
		s := tellOn(t, on)
		first := s.epochs()
		var hit []string
		for range 2 {
			before := s.epochs()
			victim := s.primary(s.crowd.rooms[s.rng.IntN(len(s.crowd.rooms))])
			var rooms []string
			for _, room := range s.crowd.rooms {
				if s.primary(room) == victim {
					rooms = append(rooms, room)
				}
			}
			if err := victim.Client.FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			fleet.Eventually(t, catchUp, "the rooms that were wiped begin anew", func() error {
				for room, epoch := range s.epochs() {
					if epoch == before[room] && slices.Contains(rooms, room) {
						return fmt.Errorf("%s still has its epoch", room)
					}
				}
				return nil
			})
			s.heardAgain(rooms)
			s.crowd.hear(s.some)
			hit = append(hit, rooms...)
		}
		r := s.lostOnly(hit, first)
		places := 0
		for _, p := range s.crowd.people {
			for _, room := range hit {
				if slices.Contains(p.home, room) {
					places++
				}
			}
		}
		if r.Excused < places {
			t.Errorf("%d breaks were told, want one a member and wipe at least (%d)", r.Excused, places)
		}
		s.keptSockets()
	})
}

func TestStory_OnSetsNodesDrainedHandTheirSessionsOver(t *testing.T) {
	onSets(t, func(t *testing.T, on fleet.On) {
		s := tellTo(t, fleet.Options{On: on, Directed: true, Env: settingsOnSets(nil)}, manyRooms)
		for _, n := range s.fleet.Nodes {
			before := s.crowd.moved.Load()
			n.Term()
			code, err := n.Exit(90 * time.Second) // a drain's budget is a minute
			if err != nil || code != 0 {
				t.Fatalf("%s, drained: exit code %d, %v; want 0", n.Name, code, err)
			}
			if s.crowd.moved.Load() == before {
				t.Errorf("no session of %s was redirected", n.Name)
			}
			s.crowd.hear(s.some / 2)
			n.Start()
		}
		s.crowd.hear(s.some)
		s.whole(catchUp)
	})
}

// A fleet goes over to sharded channels and back, one node and one step at a time,
// and nobody notices. A node that skips a step does not join.
func TestStory_AFleetGoesOverToShardedChannelsAndBack(t *testing.T) {
	longOnly(t)
	s := tellTo(t, fleet.Options{On: fleet.Cluster, Directed: true, Env: settingsOnSets(nil)}, manyRooms)
	again := func(n *fleet.Node, mode string) {
		n.Term()
		if code, err := n.Exit(90 * time.Second); err != nil || code != 0 {
			t.Fatalf("%s, drained: exit code %d, %v; want 0", n.Name, code, err)
		}
		n.Set("GODWIT_REDIS_SHARDED", mode)
	}
	hasty := s.fleet.Nodes[0]
	again(hasty, "on")
	hasty.Launch()
	hasty.Says("does not hear sharded channels")
	if err := hasty.Probe("/readyz", http.StatusServiceUnavailable); err != nil {
		t.Error(err)
	}
	for _, mode := range []string{"hear", "on", "hear", "off"} {
		for _, n := range s.fleet.Nodes {
			again(n, mode)
			n.Start()
			s.crowd.hear(s.some / 2)
		}
		s.crowd.hear(s.some)
	}
	s.whole(catchUp)
	if s.crowd.moved.Load() == 0 {
		t.Error("nobody was redirected: the fleet stood still")
	}
}
