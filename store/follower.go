package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// subscribeChunk is how many channels one SUBSCRIBE names at most.
	subscribeChunk = 512
	// redialEvery is the pause before a lost subscription is tried again.
	redialEvery = 100 * time.Millisecond
)

// follower is one connection that follows channels, and the next one when that
// breaks, or does not hear its own probe in time.
type follower struct {
	sub   *Subscriber
	shard string        // the address of the primary whose sharded channels it follows; empty: classic ones
	own   string        // the channel on which it hears its probes, and words for its node
	kick  chan struct{} // cap 1: channels to follow or to drop
	heard chan string   // probes that came back
	deaf  atomic.Bool   // not everything is heard

	mu       sync.Mutex
	channels channels // guarded by mu

	// owned by run
	conn  *redis.PubSub
	at    *redis.Client // the primary, of sharded channels
	ended int           // sharded channels that the server has ended on this connection
}

func (s *Subscriber) newFollower(own string) *follower {
	return &follower{sub: s, own: own, kick: make(chan struct{}, 1), heard: make(chan string, 256), channels: newChannels()}
}

// follow asks for a channel, which another follower may have had.
func (f *follower) follow(name string, w wish) {
	f.mu.Lock()
	f.channels.follow(name, w)
	if w.owed == owesReset {
		f.sub.hears(f, false) // until settle
	}
	f.mu.Unlock()
	ring(f.kick)
}

func (f *follower) drop(name string) {
	f.mu.Lock()
	f.channels.drop(name)
	f.mu.Unlock()
	ring(f.kick)
}

// take gives a channel away.
func (f *follower) take(name string) wish {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer ring(f.kick)
	return f.channels.take(name, true)
}

// run follows until ctx ends, over as many connections as it takes.
func (f *follower) run(ctx context.Context) {
	f.sub.hears(f, false)
	for level := slog.LevelWarn; ctx.Err() == nil; level = slog.LevelDebug {
		err := f.connection(ctx)
		if ctx.Err() != nil {
			return
		}
		f.sub.Stats.Lost.Add(1)
		if f.sub.hears(f, false) {
			level = slog.LevelWarn // it did hear; a store that stays away is said once
		}
		if f.shard != "" {
			f.sub.shards.doubt() // the slots may have gone elsewhere
		}
		f.sub.store.cfg.Logger.Log(ctx, level, "subscription lost; trying again", "error", err)
		pause := time.NewTimer(redialEvery)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}

// connection works one connection until it fails.
func (f *follower) connection(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	conn, err := f.connect(ctx)
	if err != nil {
		return err
	}
	f.conn = conn
	f.anew()
	// The first command dials: a connection that is not there has nothing to read.
	if err := f.subscribe(ctx, []string{f.own}); err != nil {
		conn.Close()
		return err
	}
	ring(f.kick)
	var writer sync.WaitGroup
	writer.Go(func() { cancel(f.write(ctx)) })
	// A read that waits is ended by closing the connection under it.
	unblock := context.AfterFunc(ctx, func() { conn.Close() })
	err = f.receive(ctx)
	cancel(err)
	writer.Wait()
	if unblock() {
		conn.Close()
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	return err
}

// anew is for a new connection, which is asked for the follower's own channel first.
func (f *follower) anew() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.channels.forget()
	f.channels.follow(f.own, wish{})
	f.channels.ask(f.own, true)
}

// write sends what changed to the connection, and the probes, until one fails.
func (f *follower) write(ctx context.Context) error {
	probe := time.NewTicker(probeEvery)
	defer probe.Stop()
	nth := 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.kick:
			if err := f.flush(ctx); err != nil {
				return err
			}
		case <-probe.C:
			nth++
			if err := f.probe(ctx, nth); err != nil {
				return err
			}
		}
	}
}

// flush subscribes and unsubscribes until the connection follows what is wanted.
func (f *follower) flush(ctx context.Context) error {
	for {
		f.mu.Lock()
		add, drop := f.channels.next(subscribeChunk)
		f.mu.Unlock()
		if len(add)+len(drop) == 0 {
			return nil
		}
		if len(add) > 0 {
			if err := f.subscribe(ctx, add); err != nil {
				return err
			}
		}
		if len(drop) > 0 {
			if err := f.unsubscribe(ctx, drop); err != nil {
				return err
			}
		}
	}
}

func (f *follower) subscribe(ctx context.Context, names []string) error {
	if f.shard != "" {
		return eachShard(ctx, names, f.conn.SSubscribe)
	}
	if err := f.conn.Subscribe(ctx, names...); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	return nil
}

func (f *follower) unsubscribe(ctx context.Context, names []string) error {
	if f.shard != "" {
		return eachShard(ctx, names, f.conn.SUnsubscribe)
	}
	if err := f.conn.Unsubscribe(ctx, names...); err != nil {
		return fmt.Errorf("unsubscribe: %w", err)
	}
	return nil
}

// receive reads the connection until it fails.
func (f *follower) receive(ctx context.Context) error {
	for {
		v, err := f.conn.ReceiveTimeout(ctx, 2*probeEvery)
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() && ctx.Err() == nil {
				continue // silence is the probe's to judge
			}
			if f.shard != "" && isReply(err) {
				if err = f.refused(err); err == nil {
					f.settle()
					continue
				}
			}
			return fmt.Errorf("receive: %w", err)
		}
		switch m := v.(type) {
		case *redis.Subscription:
			if err := f.confirm(m); err != nil {
				return err
			}
		case *redis.Message:
			f.sub.dispatch(f, m)
			if m.Channel == f.own {
				f.settle() // what lacked may have been dropped, or taken away
			}
		}
	}
}

// confirm notes that the connection follows a channel, or no longer does.
func (f *follower) confirm(m *redis.Subscription) error {
	f.mu.Lock()
	asked := f.channels.answered(m.Channel, m.Kind == "subscribe" || m.Kind == "ssubscribe")
	f.mu.Unlock()
	switch {
	case asked:
	case m.Kind == "sunsubscribe":
		if err := f.moved(m.Channel); err != nil {
			return err
		}
	default:
		return errUnasked
	}
	f.settle()
	return nil
}

// errUnasked says that the client library has replaced the connection by itself.
var errUnasked = errors.New("a confirmation that was not asked for")

// settle tells of what may have been missed, when everything is heard again.
func (f *follower) settle() {
	f.mu.Lock()
	if f.channels.lacking > 0 {
		f.mu.Unlock()
		return
	}
	owed := f.channels.owed
	f.channels.owed = owesNothing
	f.sub.hears(f, true)
	f.mu.Unlock()
	switch owed { // without mu: who is told may hold locks under which it follows
	case owesLook:
		f.sub.out.Suspect()
	case owesReset:
		f.sub.Stats.Resets.Add(1)
		f.sub.out.Reset()
	}
}
