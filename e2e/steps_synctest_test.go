package e2e

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"godwit/e2e/fault"
	"godwit/internal/trial"
)

// TestChaos_ANodeOrTheStoreFailsAtAnyStepOfARedirect lets each thing happen at
// each step, in virtual time; in a single run, one thing at each step.
func TestChaos_ANodeOrTheStoreFailsAtAnyStepOfARedirect(t *testing.T) {
	rng, seed := choices(t)
	for _, s := range steps(t) {
		which := rng.Perm(mishaps)
		if *runs == 1 {
			which = which[:1]
		}
		for _, i := range which {
			synctest.Test(t, func(t *testing.T) {
				var points [3]fault.Points
				f, c := bubble(t, rand.New(rand.NewPCG(seed, uint64(i))), threePeople, func(set *trial.Settings) {
					set.Store.Dial = points[set.Server.Node.Node[1]-'1'].Dial(set.Store.Dial)
				})
				crash := func(n int) func() { return func() { f.Nodes[n].Part(); f.Nodes[n].Cut() } }
				m := [mishaps]mishap{
					{"the source crashes", crash(source), nil},
					{"the target crashes", crash(target), nil},
					{"the source cannot reach the store", f.Nodes[source].Part, f.Nodes[source].Join},
					{"the target cannot reach the store", f.Nodes[target].Part, f.Nodes[target].Join},
					{"nobody can use the store", func() { f.Redis.SetError("LOADING it is not ready") }, func() { f.Redis.SetError("") }},
					{"every connection of the source ends", f.Nodes[source].Hang, nil},
				}[i]
				c.rehearse()
				c.hear(5)
				if err := c.move(points[s.at].At(s.Step), m, 3*time.Second); err != nil {
					t.Fatalf("%s, %s: %v", s.Name, m.name, err)
				}
				c.whole(func() ([]int, error) {
					var n []int
					for _, node := range f.Nodes {
						n = append(n, node.Core.Sessions())
					}
					return n, nil
				})
				if t.Failed() {
					t.Fatalf("%s, %s", s.Name, m.name)
				}
			})
		}
	}
}
