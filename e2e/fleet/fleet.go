package fleet

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/redis/go-redis/v9"

	"godwit/e2e/fault"
	"godwit/internal/redisset"
)

// Secret signs the tokens of a fleet.
const Secret = "a secret of tests, long enough for HS256"

// Options shape a fleet. The zero value is three nodes with the project's
// defaults but a short lease and grace.
type Options struct {
	Nodes int // 0 is 3
	// Env is added to every node's settings.
	Env map[string]string
	// On is what the nodes run on.
	On On
	// Proxied puts a fault proxy between each node and its one Redis, or else one in
	// front of each server of the set.
	Proxied bool
	// Seed of the proxies.
	Seed uint64
	// Directed tells each node its URL, so that clients can be sent to it.
	Directed bool
	// Balanced puts one address in front of all nodes, which is all that clients
	// know, and tells the nodes that it is the fleet's.
	Balanced bool
}

// Fleet is a Redis, of one kind or another, and its nodes.
type Fleet struct {
	Redis    *Redis // nil with one of the next two
	Cluster  *redisset.Cluster
	Sentinel *redisset.Sentinel
	// Store asks whichever it is what tests want to know.
	Store   redis.UniversalClient
	Nodes   []*Node
	Proxies []*fault.Proxy // when proxied; one a node, or one a server
	// Balancer leads to the nodes, when balanced; else nil.
	Balancer *Balancer
}

// Start runs a fleet and waits until all of it is ready.
func Start(t testing.TB, o Options) *Fleet {
	t.Helper()
	if o.Nodes == 0 {
		o.Nodes = 3
	}
	godwit(t) // before the clock of anything runs
	f := &Fleet{}
	var url string
	if o.On == OneRedis {
		f.Redis = StartRedis(t)
		f.Store = f.Redis.Client
	} else {
		url = f.startSet(t, o)
	}
	var listen, origins []string
	for _, port := range freePorts(t, o.Nodes) {
		addr := "127.0.0.1:" + strconv.Itoa(port)
		listen, origins = append(listen, addr), append(origins, "ws://"+addr)
	}
	if o.Balanced {
		var err error
		if f.Balancer, err = Balance(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(f.Balancer.Close)
	}
	for i := range o.Nodes {
		if o.On == OneRedis {
			at := f.Redis.Addr()
			if o.Proxied {
				var err error
				if at, err = f.proxy(t, at, o.Seed); err != nil {
					t.Fatal(err)
				}
			}
			url = "redis://" + at + "/0"
		}
		env := map[string]string{
			"GODWIT_REDIS_URL":   url,
			"GODWIT_AUTH_SECRET": Secret,
			"GODWIT_LEASE":       "3s",
			"GODWIT_GRACE":       "2m", // on a busy machine what a test does between two sockets takes its time
			"GODWIT_LOG_LEVEL":   "info",
			"GODWIT_LISTEN":      listen[i],
		}
		if o.Directed {
			env["GODWIT_NODE_URL"] = origins[i] + "/v1/ws"
			env["GODWIT_REDIRECT_ORIGINS"] = strings.Join(origins, ",")
		}
		if o.Balanced {
			env["GODWIT_PUBLIC_URL"] = "ws://" + f.Balancer.Addr() + "/v1/ws"
		}
		maps.Copy(env, o.Env)
		f.Nodes = append(f.Nodes, StartNode(t, fmt.Sprintf("n%d", i+1), env))
	}
	f.Rebalance()
	return f
}

// proxy puts one more in front of a server, and is where it listens.
func (f *Fleet) proxy(t testing.TB, addr string, seed uint64) (string, error) {
	p, err := fault.Listen(addr, seed+uint64(len(f.Proxies))<<32)
	if err != nil {
		return "", err
	}
	t.Cleanup(p.Close)
	f.Proxies = append(f.Proxies, p)
	return p.Addr(), nil
}

// Rebalance tells the balancer, if there is one, where the nodes are: one that
// was started again may be elsewhere.
func (f *Fleet) Rebalance() {
	if f.Balancer == nil {
		return
	}
	var at []string
	for _, n := range f.Nodes {
		at = append(at, n.env["GODWIT_LISTEN"])
	}
	f.Balancer.To(at...)
}

// URLs are the addresses of all nodes, that of number first in front, or that of
// the balancer.
func (f *Fleet) URLs(first int) []string {
	if f.Balancer != nil {
		return []string{"ws://" + f.Balancer.Addr() + "/v1/ws"}
	}
	var urls []string
	for i := range f.Nodes {
		urls = append(urls, f.Nodes[(first+i)%len(f.Nodes)].URL)
	}
	return urls
}

// Token is good for the user at any node of a fleet.
func Token(user string, ttl time.Duration) string {
	s, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": user, "exp": jwt.NewNumericDate(time.Now().Add(ttl)),
	}).SignedString([]byte(Secret))
	if err != nil {
		panic(err) // HMAC with a key that is there cannot fail
	}
	return s
}
