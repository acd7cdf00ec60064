package e2e

import (
	"testing"

	"godwit/e2e/fault"
	"godwit/e2e/fleet"
)

// onProxiedSets tells a story on each Redis of several servers, each of them behind
// a proxy, and on a Cluster with sharded channels too.
func onProxiedSets(t *testing.T, story func(t *testing.T, s *story, sharded bool)) {
	t.Helper()
	longOnly(t)
	for name, c := range map[string]struct {
		on      fleet.On
		sharded string
	}{
		"cluster":         {fleet.Cluster, "off"},
		"cluster sharded": {fleet.Cluster, "on"},
		"sentinels":       {fleet.Sentinels, "off"},
	} {
		t.Run(name, func(t *testing.T) {
			env := settingsOnSets(map[string]string{"GODWIT_REDIS_SHARDED": c.sharded})
			s := tellTo(t, fleet.Options{On: c.on, Proxied: true, Env: env}, manyRooms)
			story(t, s, c.sharded == "on")
		})
	}
}

func TestStory_OnSetsFanOutMessagesLostOnTheWayAreFilledFromTheLog(t *testing.T) {
	onProxiedSets(t, func(_ *testing.T, s *story, _ bool) { s.spoils(s.fleet.Proxies, 20) })
}

// A server says nothing more on its channels, but answers. On a Cluster another one
// is heard meanwhile, which says the same; on Sentinels there is none, nor is there
// for sharded channels.
func TestStory_OnSetsDeafSubscriptionsAreNoticedAndReplaced(t *testing.T) {
	onProxiedSets(t, func(t *testing.T, s *story, sharded bool) {
		before := s.resets()
		for _, p := range s.fleet.Proxies {
			p.Set(fault.Spoil{Deaf: true})
			s.crowd.hear(s.some / 2)
			if s.fleet.Cluster != nil && !sharded {
				t.Logf("everybody hears again after %s, of another server", s.heardAgain(s.crowd.rooms))
			}
			p.Set(fault.Spoil{})
			t.Logf("everybody hears again after %s", s.heardAgain(s.crowd.rooms))
		}
		for i, n := range s.resets() {
			if n == before[i] {
				t.Errorf("%s has replaced no subscription, and each of its servers was deaf", s.fleet.Nodes[i].Name)
			}
		}
		s.whole(catchUp)
		if n := s.crowd.dropped.Load(); n != 0 {
			t.Errorf("%d sockets were lost, want none", n)
		}
	})
}

// resets is how many subscriptions each node has replaced.
func (s *story) resets() (out []float64) {
	s.t.Helper()
	for _, node := range s.fleet.Nodes {
		n, err := node.Metric("godwit_redis_subscription_resets_total")
		if err != nil {
			s.t.Fatal(err)
		}
		out = append(out, n)
	}
	return out
}
