package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// reloadEvery is how old the store's view of a Cluster may be. The library's own
// default would dial a primary that is gone for a minute.
const reloadEvery = time.Second

// connect makes the clients for a place. None of them ever repeats a command by
// itself: only who knows that it is safe does.
func (s *Store) connect(p place) {
	switch p.kind {
	case sentinel:
		s.share(redis.NewFailoverClient(s.sentinelOptions(p)))
	case cluster:
		s.cluster = newCluster(s.clusterOptions(p), s.cfg.Sharded.tells(), s.late)
		s.rdb = s.cluster.rdb
	default:
		s.share(redis.NewClient(s.singleOptions(p.one)))
	}
}

// share has the callers of rdb share the pipelines that direct carries. rdb has no
// connection of its own: the library has a client's hooks take what opens one, too, so
// that its password, and the question whether a primary is there, would go by direct.
func (s *Store) share(direct *redis.Client) {
	none := s.singleOptions(&redis.Options{})
	none.Dialer = func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("the client that shares pipelines has no connection of its own")
	}
	rdb := redis.NewClient(none)
	rdb.AddHook(newAutopipeline(direct, s.cfg.Timeout))
	s.direct, s.rdb = direct, rdb
}

func (s *Store) singleOptions(opt *redis.Options) *redis.Options {
	opt.Dialer = s.cfg.Dial
	opt.Protocol = 2
	opt.MaxRetries = -1
	opt.ContextTimeoutEnabled = true
	opt.DialTimeout = s.cfg.Timeout
	opt.ReadTimeout = s.cfg.Timeout
	opt.WriteTimeout = s.cfg.Timeout
	opt.PoolTimeout = s.cfg.Timeout
	opt.DialerRetries = 1
	opt.DisableIdentity = true
	opt.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return opt
}

func (s *Store) sentinelOptions(p place) *redis.FailoverOptions {
	return &redis.FailoverOptions{
		MasterName: p.master, SentinelAddrs: p.addrs,
		SentinelUsername: p.sentinelUser, SentinelPassword: p.sentinelPassword,
		Username: p.user, Password: p.password, DB: p.db,
		TLSConfig: p.config(), Dialer: s.cfg.Dial,
		OnConnect: isPrimary,

		Protocol: 2, MaxRetries: -1, ContextTimeoutEnabled: true,
		DialTimeout: s.cfg.Timeout, ReadTimeout: s.cfg.Timeout, WriteTimeout: s.cfg.Timeout, PoolTimeout: s.cfg.Timeout,
		DialerRetries: 1, DisableIdentity: true,
	}
}

func (s *Store) clusterOptions(p place) *redis.ClusterOptions {
	return &redis.ClusterOptions{
		Addrs: p.addrs, Username: p.user, Password: p.password,
		TLSConfig: p.config(), Dialer: s.cfg.Dial,
		ClusterStateReloadInterval: reloadEvery,
		MaxRedirects:               -1, // cluster follows them, and knows when that is safe

		Protocol: 2, MaxRetries: -1, ContextTimeoutEnabled: true,
		DialTimeout: s.cfg.Timeout, ReadTimeout: s.cfg.Timeout, WriteTimeout: s.cfg.Timeout, PoolTimeout: s.cfg.Timeout,
		DialerRetries: 1, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

// isPrimary refuses a connection to a replica, which a Sentinel that is behind
// may name: what is read there may be old. The Sentinels' own are asked, too.
func isPrimary(ctx context.Context, c *redis.Conn) error {
	role, err := c.Do(ctx, "ROLE").Slice()
	if err != nil {
		return fmt.Errorf("ask for the role: %w", err)
	}
	if len(role) == 0 || role[0] != "master" && role[0] != "sentinel" {
		return errors.New("the server is a replica")
	}
	return nil
}

// execute sends a pipeline, of which each command has its own error then. Where
// the server refuses what opens a connection, such as the password, the library
// leaves that to the pipeline's error, and its commands seem answered with nothing.
func execute(ctx context.Context, pipe redis.Pipeliner) error {
	cmds, err := pipe.Exec(ctx)
	if err == nil || !isReply(err) || slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return cmd.Err() != nil }) {
		return err
	}
	err = fmt.Errorf("open a connection: %v", err) // no reply to any of them
	for _, cmd := range cmds {
		cmd.SetErr(err)
	}
	return err
}
