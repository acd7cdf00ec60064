package store

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// pipelinesAtOnce is how many shared pipelines may be under way.
	pipelinesAtOnce = 2
	// pipelineMost is how many commands of others a shared pipeline takes along.
	pipelineMost = 256
)

// autopipeline is a hook of a client by which the commands of many callers share
// round trips: on both ends, a round trip costs several times what a command
// does. Who comes while a pipeline is free sends at once and alone. Who comes
// meanwhile waits, and when a pipeline comes back the first of those that wait
// takes the others along. So it is a caller that sends, and no goroutine.
//
// The commands of one caller keep their order and are not torn apart; those of
// two callers have none, as on connections of their own. A pipeline that fails
// fails for all in it, and for those who wait behind it: they have waited as long,
// and would only wait for a second failure.
type autopipeline struct {
	rdb     *redis.Client // sends; it has no hook
	timeout time.Duration // of a pipeline

	mu      sync.Mutex
	free    int          // guarded by mu: pipelines that are not under way
	waiting []*passenger // guarded by mu: in the order in which they came; no more than callers
}

// passenger is the commands of a caller that waits.
type passenger struct {
	cmds []redis.Cmder
	// told says once what has become of it: those that it is to send, itself
	// first, or nobody when its commands have their results.
	told chan []*passenger // cap 1
}

func newAutopipeline(rdb *redis.Client, timeout time.Duration) *autopipeline {
	return &autopipeline{rdb: rdb, timeout: timeout, free: pipelinesAtOnce}
}

// DialHook is the library's: nothing is changed.
func (a *autopipeline) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook takes a single command.
func (a *autopipeline) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		a.do(ctx, []redis.Cmder{cmd})
		return cmd.Err()
	}
}

// ProcessPipelineHook takes a pipeline; a transaction goes by itself.
func (a *autopipeline) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() == "multi" {
			return next(ctx, cmds)
		}
		a.do(ctx, cmds)
		for _, cmd := range cmds {
			if err := cmd.Err(); err != nil {
				return err
			}
		}
		return nil
	}
}

// do has commands run and returns when they have their results. A ctx that ends
// ends the wait, but not a pipeline that is under way with them.
func (a *autopipeline) do(ctx context.Context, cmds []redis.Cmder) {
	p := &passenger{cmds: cmds}
	if err := ctx.Err(); err != nil {
		p.fail(err)
		return
	}
	a.mu.Lock()
	if a.free > 0 {
		a.free--
		a.mu.Unlock()
		a.send(ctx, []*passenger{p})
		return
	}
	p.told = make(chan []*passenger, 1)
	a.waiting = append(a.waiting, p)
	a.mu.Unlock()
	select {
	case all := <-p.told:
		a.send(ctx, all)
	case <-ctx.Done():
		if a.leave(p) {
			p.fail(ctx.Err())
			return
		}
		a.send(ctx, <-p.told) // too late to leave: others may depend on it
	}
}

// leave takes back what nobody has taken along yet.
func (a *autopipeline) leave(p *passenger) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	i := slices.Index(a.waiting, p)
	if i < 0 {
		return false
	}
	a.waiting = slices.Delete(a.waiting, i, i+1)
	return true
}

// send sends what all of them want in one pipeline, tells them, and hands the
// pipeline on.
func (a *autopipeline) send(ctx context.Context, all []*passenger) {
	if len(all) == 0 {
		return // another has sent it
	}
	// Of those in it, no one's ctx is another's.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.timeout)
	defer cancel()
	pipe := a.rdb.Pipeline()
	for _, p := range all {
		for _, cmd := range p.cmds {
			_ = pipe.Process(ctx, cmd) // it queues
		}
	}
	_ = execute(ctx, pipe) // each command has its own error
	last := all[len(all)-1].cmds
	failed := last[len(last)-1].Err()
	if isReply(failed) {
		failed = nil
	}
	for _, p := range all[1:] {
		p.told <- nil
	}
	a.hand(failed)
}

// hand hands a pipeline to the first of those who wait, with the others. After a
// failure it tells them of that instead.
func (a *autopipeline) hand(failed error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if failed != nil {
		for _, p := range a.waiting {
			p.fail(failed)
			p.told <- nil
		}
		a.waiting = nil
	}
	if len(a.waiting) == 0 {
		a.free++
		return
	}
	n, commands := 0, 0
	for n < len(a.waiting) && (n == 0 || commands+len(a.waiting[n].cmds) <= pipelineMost) {
		commands += len(a.waiting[n].cmds)
		n++
	}
	all := a.waiting[:n:n]
	a.waiting = slices.Clone(a.waiting[n:])
	all[0].told <- all
}

// fail gives all commands an error.
func (p *passenger) fail(err error) {
	for _, cmd := range p.cmds {
		cmd.SetErr(err)
	}
}

var _ redis.Hook = (*autopipeline)(nil)
