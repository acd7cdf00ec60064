package e2e

import (
	"fmt"
	"testing"
	"time"

	"godwit/e2e/fleet"
	"godwit/store"
)

// TestStory_ANodeOrRedisFailsAtAStepOfARedirect does to processes what the fleet
// in virtual time has done to it: in the long form two things at each step, else
// one at each third step.
func TestStory_ANodeOrRedisFailsAtAStepOfARedirect(t *testing.T) {
	rng, _ := choices(t)
	every, first, times := 3, rng.IntN(3), 1
	if *long {
		every, first, times = 1, 0, 2
	}
	for i, s := range steps(t) {
		for _, which := range rng.Perm(mishaps)[:times] {
			if i%every == first {
				t.Run(fmt.Sprintf("%s/%d", s.Name, which), func(t *testing.T) { failsAt(t, s, which) })
			}
		}
	}
}

func failsAt(t *testing.T, s step, which int) {
	t.Parallel() // most of it is waiting
	st := tellTo(t, fleet.Options{Proxied: true, Directed: true, Env: map[string]string{"GODWIT_PING": "1s", "GODWIT_GRACE": "30s"}}, threePeople)
	f, c := st.fleet, st.crowd
	m := [mishaps]mishap{
		{"the source is killed", f.Nodes[source].Kill, nil},
		{"the target is killed", f.Nodes[target].Kill, nil},
		{"the source is frozen", f.Nodes[source].Stop, f.Nodes[source].Cont},
		{"the target is frozen", f.Nodes[target].Stop, f.Nodes[target].Cont},
		{"redis is frozen", f.Redis.Stop, f.Redis.Cont},
		{"redis is killed", f.Redis.Kill, f.Redis.Start},
	}[which]
	t.Log(m.name)
	c.rehearse()
	if err := c.move(f.Proxies[s.at].Points.At(s.Step), m, 5*time.Second); err != nil { // longer than the lease
		t.Fatal(err)
	}
	db, err := store.Open(store.Config{URL: "redis://" + f.Redis.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	c.whole(func() ([]int, error) {
		nodes, err := db.Nodes(t.Context())
		var n []int
		for _, one := range nodes {
			if one.Alive {
				n = append(n, one.Sessions)
			}
		}
		return n, err
	})
}
