package redisset

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// Master is the name that the Sentinels have for the primary.
	Master    = "main"
	replicas  = 2
	sentinels = 3
	quorum    = 2
)

// Sentinel is a primary with two replicas, and three Sentinels that watch it.
type Sentinel struct {
	set
	Data      []*Server // the primary first, as it was made
	Sentinels []*Server
}

// StartSentinel runs a set, and waits until all of it is ready.
func StartSentinel(ctx context.Context, o Options) (*Sentinel, error) {
	s := &Sentinel{set: set{opt: o}}
	if err := s.start(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Sentinel) start(ctx context.Context) error {
	for i := range 1 + replicas {
		one, err := s.add(ctx, func(at seat) ([]string, error) {
			args := s.data(at)
			if i > 0 {
				args = append(args, "--replicaof", strings.Replace(s.Data[0].Addr, ":", " ", 1))
			}
			return args, nil
		})
		if err != nil {
			return err
		}
		s.Data = append(s.Data, one)
	}
	for range sentinels {
		one, err := s.add(ctx, func(at seat) ([]string, error) {
			// It writes into its file what it learns.
			file := filepath.Join(at.dir, "sentinel.conf")
			text := fmt.Sprintf("sentinel monitor %[1]s %[2]s %[3]d\n"+
				"sentinel down-after-milliseconds %[1]s %[4]d\nsentinel failover-timeout %[1]s %[5]d\n",
				Master, strings.Replace(s.Data[0].Addr, ":", " ", 1), quorum,
				s.opt.Silent.Milliseconds(), max(10*s.opt.Silent, 10*time.Second).Milliseconds())
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				return nil, fmt.Errorf("write the sentinel's settings: %w", err)
			}
			return append([]string{file, "--sentinel"}, s.listens(at)...), nil
		})
		if err != nil {
			return err
		}
		s.Sentinels = append(s.Sentinels, one)
	}
	return s.Ready(ctx)
}

// Ready waits until every Sentinel that runs knows the others and all replicas, and
// holds that a failover could be decided; and each replica that runs follows the
// primary.
func (s *Sentinel) Ready(ctx context.Context) error {
	return until(ctx, "the sentinels are ready", func() error {
		for _, one := range s.Sentinels {
			if !one.Runs() {
				continue
			}
			if err := one.Client.Do(ctx, "SENTINEL", "CKQUORUM", Master).Err(); err != nil {
				return err
			}
			state, err := one.Client.Do(ctx, "SENTINEL", "MASTER", Master).StringSlice()
			if err != nil {
				return err
			}
			field := func(name string) string {
				for i := 0; i+1 < len(state); i += 2 {
					if state[i] == name {
						return state[i+1]
					}
				}
				return ""
			}
			if field("flags") != "master" || field("num-slaves") != strconv.Itoa(replicas) || field("num-other-sentinels") != strconv.Itoa(sentinels-1) {
				return fmt.Errorf("%s knows %s replicas and %s other sentinels of a %s",
					one.Addr, field("num-slaves"), field("num-other-sentinels"), field("flags"))
			}
		}
		for _, one := range s.Data {
			if one.Runs() {
				if err := one.linked(ctx); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// URL is how a node names the set.
func (s *Sentinel) URL() string {
	addrs := make([]string, len(s.Sentinels))
	for i, one := range s.Sentinels {
		addrs[i] = one.Addr
	}
	return scheme(s.opt.TLS.client(), "redis+sentinel") + "://" + strings.Join(addrs, ",") + "/" + Master
}

// Client asks whoever is the primary.
func (s *Sentinel) Client() redis.UniversalClient {
	o := &redis.FailoverOptions{MasterName: Master, ContextTimeoutEnabled: true, TLSConfig: s.opt.TLS.client()}
	for _, one := range s.Sentinels {
		o.SentinelAddrs = append(o.SentinelAddrs, one.Addr)
	}
	return redis.NewFailoverClient(o)
}

// Primary is who the Sentinels hold to be the primary.
func (s *Sentinel) Primary(ctx context.Context) (*Server, error) {
	err := errors.New("no sentinel runs")
	for _, one := range s.Sentinels {
		if !one.Runs() {
			continue
		}
		var at []string
		if at, err = one.Client.Do(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", Master).StringSlice(); err == nil && len(at) == 2 {
			return s.at(at[0] + ":" + at[1])
		}
	}
	return nil, fmt.Errorf("find the primary: %w", err)
}

// FailOver has the Sentinels put a replica in the primary's place. The primary is
// not held meanwhile: what it still takes, and the replica has not, is lost.
func (s *Sentinel) FailOver(ctx context.Context) error {
	before, err := s.Primary(ctx)
	if err != nil {
		return err
	}
	if err := s.Sentinels[0].Client.Do(ctx, "SENTINEL", "FAILOVER", Master).Err(); err != nil {
		return fmt.Errorf("ask for a failover: %w", err)
	}
	return until(ctx, "another is the primary", func() error {
		now, err := s.Primary(ctx)
		if err == nil && now == before {
			err = errors.New("it is the same still")
		}
		return err
	})
}
