package e2e

import (
	"errors"
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
		if s.fleet.Cluster != nil && !sharded {
			for _, p := range s.fleet.Proxies {
				p.Set(fault.Spoil{Deaf: true})
				s.crowd.hear(s.some / 2)
				t.Logf("everybody hears again after %s, of another server", s.heardAgain(s.crowd.rooms))
				p.Set(fault.Spoil{})
			}
		}
		s.deafens(s.fleet.Proxies, s.fleet.Nodes)
		t.Logf("everybody hears again after %s", s.heardAgain(s.crowd.rooms))
		s.whole(catchUp)
		s.keptSockets()
	})
}

// deafens has nodes hear nothing of what they subscribe to until each has replaced a
// subscription.
func (s *story) deafens(at []*fault.Proxy, nodes []*fleet.Node) {
	s.t.Helper()
	resets := func(node *fleet.Node) (float64, error) {
		return node.Metric("godwit_redis_subscription_resets_total")
	}
	before := make(map[*fleet.Node]float64)
	for _, node := range nodes {
		n, err := resets(node)
		if err != nil {
			s.t.Fatal(err)
		}
		before[node] = n
	}
	for _, p := range at {
		p.Set(fault.Spoil{Deaf: true})
	}
	s.crowd.hear(s.some / 2)
	for _, node := range nodes {
		fleet.Eventually(s.t, fleet.Patience, node.Name+" has replaced what is deaf", func() error {
			if n, err := resets(node); err != nil || n > before[node] {
				return err
			}
			return errors.New("it has not")
		})
	}
	for _, p := range at {
		p.Set(fault.Spoil{})
	}
}
