package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// ear is a connection to hear channels on. In a Cluster every node hears what is
// published at any other, so any primary will do that took the last probe: one that
// is chosen anew, so that who has lost one that died, or hangs, finds another.
func (s *Store) ear(ctx context.Context, l *lines) (*redis.PubSub, error) {
	if s.cluster == nil {
		return s.direct.Subscribe(ctx), nil
	}
	within, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	all, err := s.cluster.primaries(within)
	if err != nil {
		return nil, fmt.Errorf("find a primary: %w", err)
	}
	if len(all) == 0 {
		return nil, errors.New("find a primary: the cluster has none")
	}
	if sound := slices.DeleteFunc(slices.Clone(all), func(c *redis.Client) bool { return l.failed[c.Options().Addr] }); len(sound) > 0 {
		all = sound
	}
	return all[rand.IntN(len(all))].Subscribe(ctx), nil
}

const (
	// probeEvery is how often a subscription is asked end to end whether it
	// still hears; probeWithin is how long the answer may take. Together they
	// bound how long a node can be deaf without knowing.
	probeEvery  = time.Second
	probeWithin = 900 * time.Millisecond
)

// probe publishes to the follower's own channel and expects to hear it.
func (f *follower) probe(ctx context.Context, nth int) error {
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	for len(f.heard) > 0 { // what came too late
		<-f.heard
	}
	began := time.Now()
	missing, err := f.sound(ctx, strconv.Itoa(nth))
	if err != nil {
		return err
	}
	for len(missing) > 0 {
		select {
		case got := <-f.heard:
			missing = slices.DeleteFunc(missing, func(want string) bool { return want == got })
		case <-ctx.Done():
			return errors.New("deaf: the subscription did not hear its probe")
		}
	}
	f.sub.Stats.Probe.Observe(time.Since(began))
	return nil
}

// sound publishes a probe and is what must be heard.
func (f *follower) sound(ctx context.Context, nth string) (want []string, err error) {
	if f.shard == "" {
		return f.sub.sound(ctx, nth)
	}
	if err := f.at.SPublish(ctx, f.own, "p "+nth).Err(); err != nil {
		return nil, fmt.Errorf("publish probe: %w", err)
	}
	return []string{nth}, nil
}

// sound publishes a probe by classic channels, in a Cluster one from each primary,
// and is what must be heard.
func (s *Subscriber) sound(ctx context.Context, nth string) (want []string, err error) {
	if s.store.cluster != nil {
		return s.lines.sound(ctx, s.store.cluster, s.ref.channel(), nth)
	}
	if err := s.store.rdb.Publish(ctx, s.ref.channel(), "p "+nth).Err(); err != nil {
		return nil, fmt.Errorf("publish probe: %w", err)
	}
	return []string{nth}, nil
}

// lines are the lives of a Cluster's primaries that a subscriber knows of, by the
// id that Redis gives to each one's stream of writes. A new one follows a failover
// or a restart, which may have lost what was heard before; the connection need not
// notice either, where it is to another primary.
type lines struct {
	known  map[string]bool // nil: none yet
	failed map[string]bool // addresses that did not take the last probe
}

const (
	// viewWithin and soundWithin are what of probeWithin it may take to learn of the
	// primaries, and to publish: a primary that hangs must not make the others seem
	// deaf.
	viewWithin  = 200 * time.Millisecond
	soundWithin = 400 * time.Millisecond
)

// probedMost is how many primaries one probe goes through: what comes back must
// find room.
const probedMost = 128

// sound publishes a probe from each primary, because each has its own way to the
// one that is listened to, and is what must be heard: one that did not take the
// probe has nothing else to tell. The error says that none did, or that a primary
// has begun a new life.
func (l *lines) sound(ctx context.Context, r *router, channel, nth string) (want []string, err error) {
	view, cancel := context.WithTimeout(ctx, viewWithin)
	defer cancel()
	all, err := r.primaries(view)
	if err != nil {
		return nil, fmt.Errorf("publish probe: %w", err)
	}
	ctx, cancel = context.WithTimeout(ctx, soundWithin)
	defer cancel()
	if len(all) > probedMost {
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:probedMost]
	}
	ids, errs := make([]string, len(all)), make([]error, len(all))
	var each sync.WaitGroup
	for i, c := range all {
		each.Go(func() {
			pipe := c.Pipeline()
			pipe.Publish(ctx, channel, "p "+nth+"."+strconv.Itoa(i))
			info := pipe.Info(ctx, "replication")
			_, errs[i] = pipe.Exec(ctx)
			ids[i] = infoField(info.Val(), "master_replid") // of its stream of writes
		})
	}
	each.Wait()
	first, begun := l.known == nil, false
	if first {
		l.known = make(map[string]bool)
	}
	l.failed = make(map[string]bool)
	for i, id := range ids {
		l.failed[all[i].Options().Addr] = errs[i] != nil
		if err = errors.Join(err, errs[i]); errs[i] != nil {
			continue
		}
		want = append(want, nth+"."+strconv.Itoa(i))
		if !l.known[id] {
			l.known[id], begun = true, true
		}
	}
	switch {
	case len(want) == 0:
		return nil, fmt.Errorf("publish probe: %w", err)
	case begun && !first:
		return nil, errors.New("a primary has begun a new life")
	}
	return want, nil
}

// infoField reads one field of what INFO tells; empty: it is not there.
func infoField(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			return value
		}
	}
	return ""
}
