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

func chaos(t *testing.T, rng *rand.Rand, wipes bool) {
	const nodes = 3
	f := trial.Start(trial.Options{Nodes: nodes, Bubble: true})
	t.Cleanup(f.Close)
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379", Protocol: 2, Dialer: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := pipe.New()
		f.Redis.Server().ServeConn(theirs)
		return ours, nil
	}})
	t.Cleanup(func() { rdb.Close() })
	c := gather(t, stage{
		urls: func(first int) []string {
			all := f.URLs()
			first %= len(all)
			return slices.Concat(all[first:], all[:first])
		},
		token: func(user string) string { return "dev:" + user },
		dial:  f.Dial,
		redis: rdb,
	}, fewPeople, rng)

	for range 12 {
		time.Sleep(time.Duration(rng.Int64N(int64(3 * time.Second))))
		victim := rng.IntN(nodes)
		n := f.Nodes[victim]
		span := time.Duration(rng.Int64N(int64(4 * time.Second)))
		what := rng.IntN(6)
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
		}
	}
	c.hear(60)
	r := c.settle(catchUp)
	if !wipes && r.Excused != 0 {
		t.Errorf("%d times a client was told of a gap, a reset or a lost session; nothing here excuses that", r.Excused)
	}
}
