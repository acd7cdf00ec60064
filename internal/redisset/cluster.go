package redisset

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Shards is how many primaries a Cluster has, each with one replica.
const Shards = 3

const (
	allSlots = 16384
	// meetingTimeout is the node timeout until all is ready: servers tell each other
	// who follows whom at the latest after half of it.
	meetingTimeout = 2 * time.Second
)

// Cluster is a Redis Cluster of three primaries and three replicas.
type Cluster struct{ set }

// StartCluster runs a Cluster, and waits until all of it is ready.
func StartCluster(ctx context.Context, o Options) (*Cluster, error) {
	c := &Cluster{set{opt: o}}
	if err := c.start(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) error {
	for range 2 * Shards {
		if _, err := c.add(ctx, func(at seat) ([]string, error) {
			return append(c.data(at),
				"--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf",
				"--cluster-node-timeout", strconv.FormatInt(c.opt.Silent.Milliseconds(), 10),
				// Rooms of other primaries go on while one is away.
				"--cluster-require-full-coverage", "no"), nil
		}); err != nil {
			return err
		}
	}
	if err := c.NodeTimeout(ctx, min(meetingTimeout, c.opt.Silent)); err != nil {
		return err
	}
	first := c.servers[0].Client
	for i, s := range c.servers {
		if err := s.Client.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil {
			return fmt.Errorf("make the cluster: %w", err)
		}
	}
	for _, s := range c.servers[1:] {
		ip, port, _ := strings.Cut(s.own, ":") // and the port of its bus by that
		if err := first.ClusterMeet(ctx, ip, port).Err(); err != nil {
			return fmt.Errorf("make the cluster: %w", err)
		}
	}
	for i, s := range c.servers[:Shards] {
		if err := s.Client.ClusterAddSlotsRange(ctx, i*allSlots/Shards, (i+1)*allSlots/Shards-1).Err(); err != nil {
			return fmt.Errorf("give out slots: %w", err)
		}
	}
	for i, s := range c.servers[Shards:] {
		id, err := c.servers[i].Client.ClusterMyID(ctx).Result()
		if err != nil {
			return fmt.Errorf("make the cluster: %w", err)
		}
		if err := until(ctx, s.Addr+" is a replica", func() error { return s.Client.ClusterReplicate(ctx, id).Err() }); err != nil {
			return err
		}
	}
	if err := c.Ready(ctx); err != nil {
		return err
	}
	return c.NodeTimeout(ctx, c.opt.Silent)
}

// NodeTimeout changes how long a primary may be silent.
func (c *Cluster) NodeTimeout(ctx context.Context, d time.Duration) error {
	for _, s := range c.running() {
		if err := s.Client.ConfigSet(ctx, "cluster-node-timeout", strconv.FormatInt(d.Milliseconds(), 10)).Err(); err != nil {
			return fmt.Errorf("set the node timeout: %w", err)
		}
	}
	return nil
}

// Ready waits until every server that runs sees the whole Cluster in order: each
// slot has a primary, and each primary a replica that has what it has.
func (c *Cluster) Ready(ctx context.Context) error {
	return until(ctx, "the cluster is ready", func() error {
		for _, s := range c.running() {
			info, err := s.Client.ClusterInfo(ctx).Result()
			if err != nil {
				return err
			}
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_slots_ok:16384") {
				return fmt.Errorf("%s does not see all slots served", s.Addr)
			}
			members, err := s.members(ctx)
			if err != nil {
				return err
			}
			for _, m := range members {
				if len(m.slots) > 0 && !slices.ContainsFunc(members, func(r member) bool { return r.of == m.id && !r.failed }) {
					return fmt.Errorf("%s sees no replica of %s", s.Addr, m.addr)
				}
			}
			if err := s.linked(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// linked is nil for a primary, and for a replica that follows its own.
func (s *Server) linked(ctx context.Context) error {
	info, err := s.Client.Info(ctx, "replication").Result()
	if err == nil && strings.Contains(info, "role:slave") && !strings.Contains(info, "master_link_status:up") {
		err = fmt.Errorf("%s does not follow its primary yet", s.Addr)
	}
	return err
}

func (s *set) running() (out []*Server) {
	for _, one := range s.servers {
		if one.Runs() {
			out = append(out, one)
		}
	}
	return out
}

// URL is how a node names the Cluster.
func (c *Cluster) URL() string {
	addrs := make([]string, len(c.servers))
	for i, s := range c.servers {
		addrs[i] = s.Addr
	}
	return scheme(c.opt.TLS.client(), "redis+cluster") + "://" + strings.Join(addrs, ",")
}

// Client asks the whole Cluster.
func (c *Cluster) Client() redis.UniversalClient {
	o := &redis.ClusterOptions{ClusterStateReloadInterval: time.Second, ContextTimeoutEnabled: true, TLSConfig: c.opt.TLS.client()}
	for _, s := range c.servers {
		o.Addrs = append(o.Addrs, s.Addr)
	}
	return redis.NewClusterClient(o)
}

// member is a server as another sees it.
type member struct {
	id, addr string
	of       string // the primary that it follows; empty: it is one
	epoch    string
	failed   bool
	slots    [][2]int // first and last; of primaries
}

func (m member) has(slot int) bool {
	return slices.ContainsFunc(m.slots, func(r [2]int) bool { return slot >= r[0] && slot <= r[1] })
}

// members are all servers, as one sees them.
func (s *Server) members(ctx context.Context) (out []member, err error) {
	text, err := s.Client.ClusterNodes(ctx).Result()
	if err != nil {
		return nil, fmt.Errorf("ask %s for the cluster: %w", s.Addr, err)
	}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 8 {
			continue
		}
		m := member{id: f[0], epoch: f[6], failed: strings.Contains(f[2], "fail")}
		m.addr, _, _ = strings.Cut(f[1], "@")
		if strings.Contains(f[2], "slave") {
			m.of = f[3]
		}
		for _, part := range f[8:] {
			if strings.HasPrefix(part, "[") {
				continue // on its way
			}
			first, last, two := strings.Cut(part, "-")
			if !two {
				last = first
			}
			lo, err1 := strconv.Atoi(first)
			hi, err2 := strconv.Atoi(last)
			if err := errors.Join(err1, err2); err != nil {
				return nil, fmt.Errorf("read the cluster that %s sees: %w", s.Addr, err)
			}
			m.slots = append(m.slots, [2]int{lo, hi})
		}
		out = append(out, m)
	}
	return out, nil
}

// seen is the first member that a server which runs sees and that is as ok says.
func (c *Cluster) seen(ctx context.Context, ok func(m member) bool) (*Server, error) {
	err := errors.New("no server runs")
	for _, asked := range c.running() {
		var members []member
		if members, err = asked.members(ctx); err != nil {
			continue
		}
		err = errors.New("nobody sees it")
		for _, m := range members {
			if ok(m) {
				return c.at(m.addr)
			}
		}
	}
	return nil, err
}

// Primary is the server that has a key, as a server that runs sees it.
func (c *Cluster) Primary(ctx context.Context, key string) (*Server, error) {
	slot, err := c.running()[0].Client.ClusterKeySlot(ctx, key).Result()
	if err != nil {
		return nil, fmt.Errorf("find the primary of %s: %w", key, err)
	}
	s, err := c.seen(ctx, func(m member) bool { return m.has(int(slot)) })
	if err != nil {
		return nil, fmt.Errorf("find the primary of %s: %w", key, err)
	}
	return s, nil
}

func (s *set) at(addr string) (*Server, error) {
	for _, one := range s.servers {
		if one.Addr == addr {
			return one, nil
		}
	}
	return nil, errors.New("no server of ours is at " + addr)
}

// Replica is a server that follows another.
func (c *Cluster) Replica(ctx context.Context, of *Server) (*Server, error) {
	id, err := of.Client.ClusterMyID(ctx).Result()
	if err != nil {
		return nil, fmt.Errorf("find a replica: %w", err)
	}
	s, err := c.seen(ctx, func(m member) bool { return m.of == id && !m.failed })
	if err != nil {
		return nil, fmt.Errorf("find a replica of %s: %w", of.Addr, err)
	}
	return s, nil
}

// failOverLasts is after how long a server gives a failover up.
const failOverLasts = 5 * time.Second

// FailOver has a replica take over in order: nothing that was answered is lost. It
// asks again where that came to nothing, as when the others have just voted for
// this shard and do not yet again, which is twice the node timeout.
func (c *Cluster) FailOver(ctx context.Context, replica *Server) error {
	var asked time.Time
	return until(ctx, replica.Addr+" is a primary", func() error {
		info, err := replica.Client.Info(ctx, "replication").Result()
		if err == nil && !strings.Contains(info, "role:master") {
			err = errors.New("it is a replica still")
			if time.Since(asked) > failOverLasts {
				asked = time.Now()
				err = errors.Join(err, replica.Client.ClusterFailover(ctx).Err())
			}
		}
		return err
	})
}

// Move moves a slot with its keys to another primary while it is used, one key at
// a time; between is called before each and after the last.
func (c *Cluster) Move(ctx context.Context, slot int, from, to *Server, between func()) error {
	const set = "SETSLOT"
	fromID, err1 := from.Client.ClusterMyID(ctx).Result()
	toID, err2 := to.Client.ClusterMyID(ctx).Result()
	err3 := to.Client.Do(ctx, "CLUSTER", set, slot, "IMPORTING", fromID).Err()
	err4 := from.Client.Do(ctx, "CLUSTER", set, slot, "MIGRATING", toID).Err()
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return fmt.Errorf("begin to move slot %d: %w", slot, err)
	}
	for {
		keys, err := from.Client.Do(ctx, "CLUSTER", "GETKEYSINSLOT", slot, 1).StringSlice()
		if err != nil {
			return fmt.Errorf("move slot %d: %w", slot, err)
		}
		between()
		if len(keys) == 0 {
			break
		}
		ip, port, _ := strings.Cut(to.Addr, ":")
		if err := from.Client.Do(ctx, "MIGRATE", ip, port, keys[0], 0, 5000).Err(); err != nil {
			return fmt.Errorf("move slot %d: %w", slot, err)
		}
	}
	for _, s := range []*Server{to, from} {
		if err := s.Client.Do(ctx, "CLUSTER", set, slot, "NODE", toID).Err(); err != nil {
			return fmt.Errorf("end the move of slot %d: %w", slot, err)
		}
	}
	return c.agree(ctx, slot, to)
}

// agree waits until every server knows that a slot has moved, and of which epoch
// that is: one that does not would take the slot back by the next move.
func (c *Cluster) agree(ctx context.Context, slot int, at *Server) error {
	return until(ctx, fmt.Sprintf("all know where slot %d is", slot), func() error {
		epoch := ""
		for _, s := range append([]*Server{at}, c.running()...) {
			members, err := s.members(ctx)
			if err != nil {
				return err
			}
			i := slices.IndexFunc(members, func(m member) bool { return m.has(slot) })
			if i < 0 || members[i].addr != at.Addr || epoch != "" && members[i].epoch != epoch {
				return fmt.Errorf("%s does not know it yet", s.Addr)
			}
			epoch = members[i].epoch
		}
		return nil
	})
}

// Primaries are the servers that have slots, as one that runs sees them.
func (c *Cluster) Primaries(ctx context.Context) (out []*Server, err error) {
	running := c.running()
	if len(running) == 0 {
		return nil, errors.New("no server runs")
	}
	members, err := running[0].members(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if len(m.slots) == 0 {
			continue
		}
		s, err := c.at(m.addr)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}
