package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Errors that an operation may return. Anything else is a bug or a broken
// record.
var (
	// ErrUnavailable: Redis did not answer in time. A write may or may not have
	// taken effect.
	ErrUnavailable = errors.New("store unavailable")
	// ErrWiped: the room, or the whole store, is not there any more.
	ErrWiped = errors.New("store lost the room")
	// ErrMoved: a newer gen owns the session.
	ErrMoved = errors.New("session moved")
	// ErrGone: there is no such session, or it is ending.
	ErrGone = errors.New("session gone")
	// ErrSecret: the resume secret is wrong.
	ErrSecret = errors.New("wrong resume secret")
	// ErrExpired: the session's token has expired.
	ErrExpired = errors.New("token expired")
	// ErrNotMember: the client is not in the room.
	ErrNotMember = errors.New("not a member")
	// ErrRoomFull: the room has its most members.
	ErrRoomFull = errors.New("room full")
	// ErrTooManyRooms: the session is in its most rooms.
	ErrTooManyRooms = errors.New("too many rooms")
	// ErrNoRecipient: nobody who is addressed is in the room.
	ErrNoRecipient = errors.New("no recipient")
)

// GapError says that a cseq was past the next one.
type GapError struct{ Expect uint64 }

func (e *GapError) Error() string { return fmt.Sprintf("cseq gap: expected %d", e.Expect) }

// Config says where the store is and how long and how much it keeps.
type Config struct {
	// URL of Redis, in one of Forms. Empty: the embedded store.
	URL string
	// Dial replaces the network, for tests. Nil: TCP.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	LogMax int           // entries a room's log keeps at least; default 10,000
	LogAge time.Duration // entries older than this are not kept; 0: no limit
	LogTTL time.Duration // life of a room without members; default 10 min
	Grace  time.Duration // life of a detached session; default 30 s
	Lease  time.Duration // node lease; default 10 s
	// OfferTTL is how long a redirect's offer holds; default 15 s.
	OfferTTL time.Duration
	Wait     int // replicas that must have a message before it is answered
	// MaxMembers of a room; default 10,000.
	MaxMembers int
	// MaxContacts of a user; default 10,000.
	MaxContacts int
	// Timeout of one round trip; default 700 ms, so that whoever waits behind
	// one that fails still gets an answer within a second.
	Timeout time.Duration
	// Sharded is for a Cluster of Redis 7 or newer; empty: ShardedOff.
	Sharded Sharded
	Logger  *slog.Logger
}

func (c *Config) fill() {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&c.LogTTL, 10*time.Minute)
	set(&c.Grace, 30*time.Second)
	set(&c.Lease, 10*time.Second)
	set(&c.OfferTTL, 15*time.Second)
	set(&c.Timeout, 700*time.Millisecond)
	if c.LogMax == 0 {
		c.LogMax = 10_000
	}
	if c.MaxMembers == 0 {
		c.MaxMembers = 10_000
	}
	if c.MaxContacts == 0 {
		c.MaxContacts = 10_000
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// Store is one node's way to Redis. Its methods may be called from any
// goroutine. Run must be running for writes to rooms to be answered.
type Store struct {
	cfg      Config
	rdb      redis.UniversalClient // of all commands but a lane's; its callers share pipelines, but in a Cluster
	direct   *redis.Client         // carries the pipelines; nil in a Cluster
	cluster  *router               // of a Cluster, else nil
	lanes    []*lane
	stats    map[*script]*ScriptStats // not changed after Open
	embedded *embedded

	listed  atomic.Pointer[Ref] // the node that Renew has listed last
	late    *late
	markers markers      // of a Cluster
	ahead   atomic.Int64 // ns: Redis's clock, of this node's
}

// Open connects, starting the embedded store if there is no URL. It fails only
// on a URL that cannot be read: a Redis that is away is waited for by Run and
// by each operation's ErrUnavailable.
func Open(cfg Config) (*Store, error) {
	cfg.fill()
	s := &Store{cfg: cfg, stats: newStats(), late: &late{log: cfg.Logger, said: make(map[string]time.Time)}}
	at := place{one: &redis.Options{Addr: "127.0.0.1:6379"}} // handed to Dial, which knows better
	switch {
	case cfg.URL != "":
		var err error
		if at, err = parsePlace(cfg.URL); err != nil {
			return nil, fmt.Errorf("redis URL cannot be read: %w", err)
		}
	case cfg.Dial == nil:
		e, err := startEmbedded()
		if err != nil {
			return nil, err
		}
		s.embedded = e
		at.one.Addr = e.addr()
	}
	if cfg.Sharded.hears() && at.kind != cluster {
		return nil, errors.New("only a Redis Cluster has sharded channels")
	}
	redis.SetLogger(toDebug{cfg.Logger})
	s.connect(at)
	for range s.laneCount() {
		s.lanes = append(s.lanes, newLane(s))
	}
	return s, nil
}

// toDebug is where the Redis library's own remarks go: what matters of them
// comes back as errors, too.
type toDebug struct{ log *slog.Logger }

func (l toDebug) Printf(_ context.Context, format string, v ...any) {
	l.log.Debug("redis client", "text", fmt.Sprintf(format, v...))
}

// Embedded says whether the store is inside this process.
func (s *Store) Embedded() bool { return s.embedded != nil }

// Close ends the connections and the embedded store. Call it after Run returned.
func (s *Store) Close() error {
	var err error
	if s.cluster != nil {
		err = s.cluster.close()
	} else {
		err = errors.Join(s.rdb.Close(), s.direct.Close())
	}
	if s.embedded != nil {
		s.embedded.close()
	}
	return err
}

// Ping asks Redis for a sign of life; of a Cluster, any primary that has slots.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	if s.cluster != nil {
		return s.cluster.ping(ctx)
	}
	return unavailable("ping", s.rdb.Ping(ctx).Err())
}

// run calls one script by itself, outside the lanes.
func (s *Store) run(ctx context.Context, sc *script, keys []string, args ...any) (answer, error) {
	out, err := s.runAll(ctx, []call{{sc, keys, args}})
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

// runAll calls scripts in one round trip, in order, outside the lanes.
func (s *Store) runAll(ctx context.Context, calls []call) ([]answer, error) {
	out, errs := s.runEach(ctx, calls)
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// runSome is runAll for calls of which each counts by itself: an answer that is
// missing is nil, and the error is there when all are.
func (s *Store) runSome(ctx context.Context, calls []call) ([]answer, error) {
	out, errs := s.runEach(ctx, calls)
	if len(calls) > 0 && !slices.Contains(errs, nil) {
		return nil, errs[0]
	}
	return out, nil
}

// runEach is what both are made of: each call has its answer, or its error.
func (s *Store) runEach(ctx context.Context, calls []call) ([]answer, []error) {
	if len(calls) == 0 {
		return nil, nil
	}
	came := time.Now()
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	out, errs := make([]answer, len(calls)), make([]error, len(calls))
	cmds, away := s.pipeline(ctx, s.rdb, calls)
	for i, c := range calls {
		err := away
		if err == nil {
			out[i], err = read(cmds[i])
		}
		s.answered(c.script, came, err)
		errs[i] = unavailable("run "+c.script.name, err)
	}
	return out, errs
}

// pipeline sends the calls in one round trip. A script that the server does
// not know did not run: it is called once more with its text, which repeats
// nothing and cannot miss again. In a Cluster each call has its own error: some
// primaries may have answered, and others not.
func (s *Store) pipeline(ctx context.Context, rdb redis.UniversalClient, calls []call) ([]*redis.Cmd, error) {
	if s.cluster != nil {
		cmds := make([]*redis.Cmd, len(calls))
		s.cluster.scripts(ctx, calls, s.cfg.Wait, func(i int, cmd *redis.Cmd) { cmds[i] = cmd })
		return cmds, nil
	}
	cmds, err := s.exec(ctx, rdb, calls, bySHA)
	if err != nil {
		return nil, err
	}
	var missing []int
	var again []call
	for i, cmd := range cmds {
		if noScript(cmd.Err()) {
			missing = append(missing, i)
			again = append(again, calls[i])
		}
	}
	if len(missing) == 0 {
		return cmds, nil
	}
	second, err := s.exec(ctx, rdb, again, byText)
	if err != nil {
		return cmds, nil //nolint:nilerr // the others have run; these keep their NOSCRIPT
	}
	for j, i := range missing {
		cmds[i] = second[j]
	}
	return cmds, nil
}

// bySHA and byText are the two ways to call a script.
func bySHA(ctx context.Context, pipe redis.Pipeliner, c call) *redis.Cmd {
	return pipe.EvalSha(ctx, c.script.sha, c.keys, c.args...)
}

func byText(ctx context.Context, pipe redis.Pipeliner, c call) *redis.Cmd {
	return pipe.Eval(ctx, c.script.text, c.keys, c.args...)
}

// exec sends one pipeline. Its error is the connection's; a script's own stays
// with its command.
func (s *Store) exec(ctx context.Context, rdb redis.UniversalClient, calls []call, way func(context.Context, redis.Pipeliner, call) *redis.Cmd) ([]*redis.Cmd, error) {
	pipe := rdb.Pipeline()
	cmds := make([]*redis.Cmd, len(calls))
	for i, c := range calls {
		cmds[i] = way(ctx, pipe, c)
	}
	var wait *redis.Cmd
	if s.cfg.Wait > 0 && slices.ContainsFunc(calls, call.says) {
		wait = pipe.Do(ctx, "WAIT", s.cfg.Wait, waitMillis(ctx))
	}
	if err := execute(ctx, pipe); err != nil && !isReply(err) {
		return nil, err
	}
	if wait != nil {
		if err := s.late.replicated(wait, s.cfg.Wait, "the primary"); err != nil {
			for i, c := range calls {
				if c.says() && cmds[i].Err() == nil {
					cmds[i].SetErr(err)
				}
			}
		}
	}
	return cmds, nil
}

// says is whether the call's answer waits for the replicas: a message's alone.
// Were it all writes, a node could not even hold its lease without them, and
// the loss of a replica would take the fleet away.
func (c call) says() bool { return c.script == sendScript || c.script == sayScript }

// isReply tells an error that Redis answered from one of the connection.
func isReply(err error) bool {
	var re redis.Error
	return errors.As(err, &re)
}

func read(cmd *redis.Cmd) (answer, error) {
	v, err := cmd.Result()
	if err != nil {
		return nil, err
	}
	flat, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("script answered a %T", v)
	}
	return flat, nil
}

// unavailable turns any failure of a round trip into ErrUnavailable, keeping
// its text for the log.
func unavailable(what string, err error) error {
	if err == nil || errors.Is(err, redis.Nil) {
		return err
	}
	return fmt.Errorf("%s: %w: %v", what, ErrUnavailable, err)
}

// verdict turns a script's word into the error that it stands for.
func verdict(a answer) error {
	switch a.status() {
	case "moved":
		return ErrMoved
	case "gone":
		return ErrGone
	case "wiped":
		return ErrWiped
	case "secret":
		return ErrSecret
	case "expired":
		return ErrExpired
	case "not_member":
		return ErrNotMember
	case "room_full":
		return ErrRoomFull
	case "too_many_rooms":
		return ErrTooManyRooms
	case "used":
		return ErrUsed
	case "cancelled":
		return ErrCancelled
	case "wrong_audience":
		return ErrWrongAudience
	case "same_node":
		return ErrSameNode
	case "gen_mismatch":
		return ErrGenMismatch
	case "busy":
		return ErrBusy
	case "no_recipient":
		return ErrNoRecipient
	case "gap":
		return &GapError{Expect: a.uint(1)}
	}
	return nil
}
