package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"godwit/e2e/fault"
	"godwit/internal/pipe"
	"godwit/internal/trial"
)

// TestChaos is a crowd in a fleet in virtual time, to which something happens
// every few seconds, by a seed. Nobody has an excuse but after a wipe.
func TestChaos(t *testing.T) {
	for i := range *runs {
		for _, wipes := range []bool{false, true} {
			_, seed := choices(t)
			seed += uint64(i)
			t.Run(fmt.Sprintf("seed=%d/wipes=%t", seed, wipes), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { chaos(t, rand.New(rand.NewPCG(seed, 0)), wipes) })
			})
		}
	}
}

// TestChaos_ARolloutThatNobodyNotices ends every node in turn, twice, while a
// crowd talks and nothing else happens.
func TestChaos_ARolloutThatNobodyNotices(t *testing.T) {
	for i := range *runs {
		_, seed := choices(t)
		seed += uint64(i)
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, c := bubble(t, rand.New(rand.NewPCG(seed, 0)), fewPeople, patient)
				c.hear(20)
				for i := range 2 * len(f.Nodes) {
					n := i % len(f.Nodes)
					if err := f.Nodes[n].Core.Drain(t.Context()); err != nil {
						t.Errorf("n%d: %v", n+1, err)
					}
					f.Nodes[n].Cut()
					f.Restart(n)
					c.hear(20)
				}
				moved, dropped := c.moved.Load(), c.dropped.Load()
				if stirs := c.stirs(); len(stirs) > 0 {
					t.Errorf("nobody's presence has changed, and %q", stirs)
				}
				if r := c.settle(catchUp); dropped != 0 || r.Excused != 0 || moved < int64(len(c.people)) {
					t.Errorf("%d sessions moved, %d sockets lost, %d breaks told; want all to be moved, and nothing else", moved, dropped, r.Excused)
				}
			})
		})
	}
}

// bubble is a fleet in virtual time, and a crowd that talks in it.
func bubble(t *testing.T, rng *rand.Rand, people size, change func(*trial.Settings)) (*trial.Fleet, *crowd) {
	return bubbleOver(t, rng, people, change, func(_ int, network fault.Dialler) fault.Dialler { return network })
}

// bubbleOver is bubble where each person has a way of its own to the network.
func bubbleOver(t *testing.T, rng *rand.Rand, people size, change func(*trial.Settings), way func(person int, network fault.Dialler) fault.Dialler) (*trial.Fleet, *crowd) {
	const nodes = 3
	f := trial.Start(trial.Options{Nodes: nodes, Bubble: true, Change: change})
	t.Cleanup(f.Close)
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379", Protocol: 2, Dialer: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := pipe.New()
		f.Redis.Server().ServeConn(theirs)
		return ours, nil
	}})
	t.Cleanup(func() { rdb.Close() })
	return f, gather(t, stage{
		urls: func(first int) []string {
			all := f.URLs()
			first %= len(all)
			return slices.Concat(all[first:], all[:first])
		},
		token: func(user string) string { return "dev:" + user },
		dial:  func(person int) fault.Dialler { return way(person, f.Dial) },
		redis: rdb,
	}, people, rng)
}

// patient nodes take their time to drain.
func patient(s *trial.Settings) { s.Server.DrainBudget = 10 * time.Second }

func chaos(t *testing.T, rng *rand.Rand, wipes bool) {
	f, c := bubble(t, rng, fewPeople, patient)
	nodes := len(f.Nodes)
	for range 12 {
		time.Sleep(time.Duration(rng.Int64N(int64(3 * time.Second))))
		victim := rng.IntN(nodes)
		n := f.Nodes[victim]
		span := time.Duration(rng.Int64N(int64(4 * time.Second)))
		what := rng.IntN(8)
		t.Logf("%s: fault %d at n%d, for %s", time.Now().Format("05.000"), what, victim+1, span)
		switch what {
		case 0: // a crash
			n.Cut()
			time.Sleep(span)
			f.Restart(victim)
		case 1: // a network between node and store
			n.Part()
			time.Sleep(span)
			n.Join()
		case 2: // a store that answers nothing useful
			f.Redis.SetError("LOADING it is not ready")
			time.Sleep(span)
			f.Redis.SetError("")
		case 3: // everything reconnects
			n.Hang()
		case 4: // all at once
			for _, n := range f.Nodes {
				n.Hang()
			}
		case 5:
			if wipes {
				f.Redis.FlushAll()
			}
		case 6: // a deploy of one node
			_ = n.Core.Drain(t.Context()) // who is left resumes
			n.Cut()
			f.Restart(victim)
		case 7: // everybody wants to be elsewhere, while the next fault comes
			for _, p := range c.people {
				c.asking.Go(func() { _ = p.client.RequestRedirect(c.talking, "") }) // or does not get it
			}
		}
	}
	c.hear(60)
	r := c.settle(catchUp)
	if !wipes && r.Excused != 0 {
		t.Errorf("%d times a client was told of a gap, a reset or a lost session; nothing here excuses that", r.Excused)
	}
	if stirs := c.stirs(); !wipes && len(stirs) > 0 {
		t.Errorf("nobody's presence has changed, and %q", stirs)
	}
}
