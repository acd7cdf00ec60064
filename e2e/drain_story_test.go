package e2e

import (
	"fmt"
	"testing"
	"time"

	"godwit/e2e/fleet"
)

// drainBudget is that of a slow machine: a drain ends when all have moved.
const drainBudget = 60 * time.Second

// TestStory_ARolloutBehindOneURLMovesEverybody ends nodes of a fleet whose
// clients know one address alone, that of a balancer which leads a dial to any
// of them, to the draining one too.
func TestStory_ARolloutBehindOneURLMovesEverybody(t *testing.T) {
	// Nobody moves but by a drain.
	s := tell(t, fleet.Options{Balanced: true, Env: map[string]string{
		"GODWIT_DRAIN_BUDGET": drainBudget.String(), "GODWIT_REBALANCE": "false",
	}})
	victims := []*fleet.Node{s.pick()}
	if *long {
		victims = s.fleet.Nodes
	}
	for _, victim := range victims {
		there := s.crowd.at(victim.Name)
		if len(there) == 0 {
			t.Errorf("nobody is at %s: the balancer leads to others alone", victim.Name)
		}
		moved := s.crowd.moved.Load()
		victim.Term()
		if code, err := victim.Exit(drainBudget + fleet.Patience); err != nil || code != 0 {
			t.Fatalf("%s drained and ended with %d, %v; want 0", victim.Name, code, err)
		}
		for _, p := range there {
			fleet.Eventually(t, fleet.Patience, p.who+" is elsewhere", func() error { return p.left(victim.Name) })
		}
		fleet.Eventually(t, fleet.Patience, "its clients were handed over, or on a bad day half of them", func() error {
			if n := s.crowd.moved.Load() - moved; n == 0 || 2*n < int64(len(there)) {
				return fmt.Errorf("%d of the %d of %s", n, len(there), victim.Name)
			}
			return nil
		})
		victim.Start()
		s.fleet.Rebalance()
		s.crowd.hear(s.some)
	}
	s.whole(catchUp)
}
