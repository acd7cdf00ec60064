package store

import (
	"cmp"
	"context"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// againFirst and againMost are the pauses before what a Cluster did not
	// execute is tried again: a slot on its way takes milliseconds.
	againFirst = 5 * time.Millisecond
	againMost  = 50 * time.Millisecond
	// againThere is that before a place which a server has named is tried.
	againThere = 500 * time.Microsecond
)

// router brings each command to the primary that has its slot. It takes what
// the library does by itself out of its hands, because the library repeats
// commands whose outcome is unknown, and lets one command overtake another of the
// same key. The router repeats only what a server says that it did not execute
// (MOVED, ASK, TRYAGAIN, CLUSTERDOWN...) or what never reached one, until the
// command's time is over.
type router struct {
	rdb *redis.ClusterClient // knows which primary has which slot
	opt *redis.ClusterOptions
	// sharded: scripts publish on sharded channels.
	sharded bool
	late    *late // told of messages that too few replicas have

	mu     sync.Mutex
	others map[string]*redis.Client // guarded by mu: primaries without a slot yet, to which others point
}

func newCluster(opt *redis.ClusterOptions, sharded bool, late *late) *router {
	r := &router{rdb: redis.NewClusterClient(opt), opt: opt, sharded: sharded, late: late, others: make(map[string]*redis.Client)}
	r.rdb.AddHook(r)
	return r
}

func (r *router) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.rdb.Close()
	for _, c := range r.others {
		err = errors.Join(err, c.Close())
	}
	return err
}

// DialHook is the library's: nothing is changed.
func (r *router) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook routes a single command that has a key.
func (r *router) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if keyOf(cmd) == "" {
			return next(ctx, cmd)
		}
		r.do(ctx, []redis.Cmder{cmd})
		return cmd.Err()
	}
}

// ProcessPipelineHook routes a pipeline, whose commands may go to many primaries.
func (r *router) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if keyOf(cmds[0]) == "" { // a transaction, of one slot
			return next(ctx, cmds)
		}
		r.do(ctx, cmds)
		for _, cmd := range cmds {
			if err := cmd.Err(); err != nil {
				return err
			}
		}
		return nil
	}
}

// route is where a slot is, for once.
type route struct {
	addr string // empty: where the library's view says
	ask  bool   // the slot is on its way there
	slot string // as the server named it; empty: it named none
}

// do runs commands, in their order for each slot, and sets their errors.
func (r *router) do(ctx context.Context, cmds []redis.Cmder) {
	b := r.begin(ctx, cmds)
	for b.attempt() {
	}
}

// batch is commands on their way.
type batch struct {
	router *router
	ctx    context.Context
	waits  func(redis.Cmder) bool   // whether a command's answer waits for replicas; nil: none's
	wait   int                      // for how many of them
	left   []redis.Cmder            // to be tried next, in order
	done   []redis.Cmder            // what the last attempt settled
	routes map[int]route            // of slots that were not where they were thought to be
	named  map[string]*redis.Client // by address, those that routes have named
	pause  time.Duration
	failed map[*redis.Client]bool // did not answer
}

func (r *router) begin(ctx context.Context, cmds []redis.Cmder) *batch {
	return &batch{router: r, ctx: ctx, left: cmds, routes: make(map[int]route), failed: make(map[*redis.Client]bool)}
}

// part is what one primary gets of an attempt.
type part struct {
	client *redis.Client
	cmds   []redis.Cmder
	asks   []bool
}

// attempt tries what is left once, after a pause where that helps, and says
// whether to go on. What it settles stands in done.
func (b *batch) attempt() bool {
	b.done = nil
	if b.pause > 0 {
		t := time.NewTimer(b.pause)
		select {
		case <-t.C:
		case <-b.ctx.Done():
			t.Stop()
			b.done, b.left = b.left, nil // with the errors that they have
			return false
		}
	}
	clear(b.failed)
	var parts []*part
	for _, cmd := range b.left {
		cmd.SetErr(nil)
		c, ask, err := b.client(keyOf(cmd))
		if err != nil {
			cmd.SetErr(err)
			continue
		}
		i := slices.IndexFunc(parts, func(p *part) bool { return p.client == c })
		if i < 0 {
			i, parts = len(parts), append(parts, &part{client: c})
		}
		parts[i].cmds, parts[i].asks = append(parts[i].cmds, cmd), append(parts[i].asks, ask)
	}
	broken := make([]bool, len(parts))
	if len(parts) == 1 {
		broken[0] = b.send(parts[0])
	} else {
		var all sync.WaitGroup
		for i, p := range parts {
			all.Go(func() { broken[i] = b.send(p) })
		}
		all.Wait()
	}
	for i, p := range parts {
		if broken[i] {
			b.failed[p.client] = true
		}
	}
	b.sort()
	return len(b.left) > 0
}

// client is where the slot of a key is.
func (b *batch) client(key string) (c *redis.Client, ask bool, err error) {
	if to := b.routes[slotOf(key)]; to.addr != "" {
		c := b.named[to.addr]
		if c == nil { // a question to the Cluster
			if c, err = b.router.at(b.ctx, to.addr); err != nil {
				return nil, false, err
			}
			if b.named == nil {
				b.named = make(map[string]*redis.Client)
			}
			b.named[to.addr] = c
		}
		return c, to.ask, nil
	}
	c, err = b.router.rdb.MasterForKey(b.ctx, key)
	return c, false, err
}

// send is one round trip to one primary. It says whether that did not answer.
func (b *batch) send(p *part) (broken bool) {
	pipe := p.client.Pipeline()
	for i, cmd := range p.cmds {
		if p.asks[i] {
			pipe.Do(b.ctx, "ASKING")
		}
		_ = pipe.Process(b.ctx, cmd) // it queues
	}
	var enough *redis.Cmd
	if b.waits != nil && slices.ContainsFunc(p.cmds, b.waits) {
		enough = pipe.Do(b.ctx, "WAIT", b.wait, waitMillis(b.ctx))
	}
	_ = execute(b.ctx, pipe) // each command has its own error
	if last := p.cmds[len(p.cmds)-1].Err(); last != nil && !isReply(last) {
		return true
	}
	if enough != nil {
		if err := b.router.late.replicated(enough, b.wait, p.client.Options().Addr); err != nil {
			for _, cmd := range p.cmds {
				if b.waits(cmd) && cmd.Err() == nil {
					cmd.SetErr(err)
				}
			}
		}
	}
	return false
}

// sort tells what is settled from what was certainly not executed. Of a slot in
// which a later command was executed nothing is tried again: it would be
// overtaken.
func (b *batch) sort() {
	over := make(map[int]bool)
	again := make([]bool, len(b.left))
	reload, anew := false, false
	clear(b.routes)
	for i, cmd := range slices.Backward(b.left) {
		slot := slotOf(keyOf(cmd))
		to, undone := unexecuted(cmd.Err())
		if !undone || over[slot] {
			over[slot] = true
			continue
		}
		again[i] = true
		reload = true
		if to.addr == "" {
			anew = true
			delete(b.routes, slot)
		} else {
			b.routes[slot] = to // the first command's in the end
		}
	}
	var left []redis.Cmder
	for i, cmd := range b.left {
		if again[i] {
			left = append(left, cmd)
		} else {
			b.done = append(b.done, cmd)
		}
	}
	switch {
	case b.pause > 0:
		b.pause = min(2*b.pause, againMost)
	case anew:
		b.pause = againFirst
	case reload:
		b.pause = againThere
	}
	if reload {
		b.router.rdb.ReloadState(b.ctx)
	}
	if b.left = left; b.ctx.Err() != nil {
		b.done, b.left = append(b.done, b.left...), nil
	}
}

// unexecuted says that an error proves that its command was not executed, and
// where the slot is, if the error says so.
func unexecuted(err error) (to route, undone bool) {
	if err == nil || errors.Is(err, redis.Nil) {
		return route{}, false
	}
	if !isReply(err) {
		var op *net.OpError // never sent
		return route{}, errors.As(err, &op) && op.Op == "dial" || errors.Is(err, redis.ErrPoolTimeout)
	}
	f := strings.Fields(err.Error())
	switch f[0] {
	case "MOVED", "ASK":
		if len(f) != 3 {
			return route{}, true
		}
		to.slot = f[1]
		if host, _, err := net.SplitHostPort(f[2]); err == nil && host != "" && host != "?" {
			to.addr, to.ask = f[2], f[0] == "ASK"
		}
		return to, true
	case "TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY":
		return route{}, true
	}
	return route{}, false
}

// scripts calls scripts, and tells of each as soon as it has its answer: those of
// one slot in their order. Then it says which primaries did not answer.
func (r *router) scripts(ctx context.Context, calls []call, wait int, settled func(i int, cmd *redis.Cmd)) (failed map[*redis.Client]bool) {
	cmds, place := make([]redis.Cmder, len(calls)), make(map[redis.Cmder]int, len(calls))
	for i, c := range calls {
		cmds[i] = c.command(ctx, "evalsha", r.version(c.script).sha)
		place[cmds[i]] = i
	}
	b := r.begin(ctx, cmds)
	if wait > 0 {
		b.wait, b.waits = wait, func(cmd redis.Cmder) bool { return calls[place[cmd]].says() }
	}
	for more := true; more; {
		more = b.attempt()
		for _, cmd := range b.done {
			i := place[cmd]
			if cmd.Name() == "evalsha" && noScript(cmd.Err()) && ctx.Err() == nil {
				text := calls[i].command(ctx, "eval", r.version(calls[i].script).text)
				place[text] = i
				b.left, more = append(b.left, text), true
				continue
			}
			settled(i, cmd.(*redis.Cmd))
		}
		slices.SortFunc(b.left, func(x, y redis.Cmder) int { return cmp.Compare(place[x], place[y]) })
	}
	return b.failed
}

// version is a script as this store's nodes call it.
func (r *router) version(sc *script) *script {
	if r.sharded {
		return sc.shard
	}
	return sc
}

// at is the client of an address.
func (r *router) at(ctx context.Context, addr string) (*redis.Client, error) {
	all, err := r.primaries(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		if c.Options().Addr == addr {
			return c, nil
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.others[addr]
	if c == nil {
		o := r.opt
		c = redis.NewClient(&redis.Options{
			Addr: addr, Username: o.Username, Password: o.Password, TLSConfig: o.TLSConfig, Dialer: o.Dialer,
			Protocol: o.Protocol, MaxRetries: -1, ContextTimeoutEnabled: true,
			DialTimeout: o.DialTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout, PoolTimeout: o.PoolTimeout,
			DialerRetries: 1, DisableIdentity: true, MaintNotificationsConfig: o.MaintNotificationsConfig,
		})
		r.others[addr] = c
	}
	return c, nil
}

// primaries are all that have slots, in the order of their addresses, by a view
// that is asked for anew.
func (r *router) primaries(ctx context.Context) ([]*redis.Client, error) {
	var mu sync.Mutex
	var all []*redis.Client
	err := r.rdb.ForEachMaster(ctx, func(_ context.Context, c *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, c)
		return nil
	})
	slices.SortFunc(all, func(a, b *redis.Client) int { return cmp.Compare(a.Options().Addr, b.Options().Addr) })
	return all, err
}

// ping is nil when any primary answers.
func (r *router) ping(ctx context.Context) error {
	all, err := r.primaries(ctx)
	for _, i := range rand.Perm(len(all)) {
		if err = all[i].Ping(ctx).Err(); err == nil {
			return nil
		}
	}
	return unavailable("ping", err)
}

// scan is one step over the keys of all primaries, one after the other. Its
// cursor is the library's, and above that which primary it belongs to: the
// number, by address, and a check that the address is the same. Where it is not,
// that primary's part begins anew.
func (r *router) scan(ctx context.Context, cursor uint64, match string, count int64) *redis.ScanCmd {
	failed := func(err error) *redis.ScanCmd {
		cmd := redis.NewScanCmd(ctx, nil)
		cmd.SetErr(err)
		return cmd
	}
	all, err := r.primaries(ctx)
	if err != nil {
		return failed(err)
	}
	check := func(i int) uint64 { return uint64(crc32.ChecksumIEEE([]byte(all[i].Options().Addr)) & 0xff) }
	at, own := int(cursor>>56), cursor&(1<<48-1)
	if at >= len(all) { // there are fewer now
		at, own = 0, 0
	}
	if cursor>>48&0xff != check(at) {
		own = 0
	}
	keys, next, err := all[at].Scan(ctx, own, match, count).Result()
	switch {
	case err != nil:
		return failed(err)
	case next != 0:
		next |= uint64(at)<<56 | check(at)<<48
	case at+1 < len(all):
		next = uint64(at+1)<<56 | check(at+1)<<48
	}
	cmd := redis.NewScanCmd(ctx, nil)
	cmd.SetVal(keys, next)
	return cmd
}
