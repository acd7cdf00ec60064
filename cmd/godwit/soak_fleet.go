package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"godwit/internal/freeport"
)

const (
	soakHost = "127.0.0.1"
	// soakLate is how long after its budget a draining node may be there before
	// that is a flaw: until its end is seen, on a busy machine.
	soakLate = 2 * time.Second
	soakTail = 40 // lines of the processes that are kept
)

// tail keeps the last lines of what is written to it, and passes all on.
type tail struct {
	mu   sync.Mutex
	last []string  // guarded by mu
	all  io.Writer // guarded by mu: nil is nobody
}

// Write takes one line, as lines writes them.
func (t *tail) Write(line []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.last) == soakTail {
		t.last = slices.Delete(t.last, 0, 1)
	}
	t.last = append(t.last, string(line))
	if t.all == nil {
		return len(line), nil
	}
	return t.all.Write(line)
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.last, "")
}

// soakFleet is what a soak runs: nodes, and a redis-server if none was named.
type soakFleet struct {
	*fleet
	said     *tail
	dir      string
	redis    *proc // nil: somebody else's
	redisURL string
	vars     []string // of every node
	o        soakOptions
	nodes    []*soakNode
}

// soakNode is one node, which has several lives at one address.
type soakNode struct {
	name  string // for eyes
	id    string // the node's own, unique on its Redis
	url   string
	admin string
	vars  []string
	life  int
	proc  *proc
}

// soakOwn are the settings that a soak decides; others are passed on.
var soakOwn = []string{
	"GODWIT_LISTEN", "GODWIT_ADMIN_LISTEN", "GODWIT_REDIS_URL", "GODWIT_AUTH_", "GODWIT_NODE_",
	"GODWIT_PUBLIC_URL", "GODWIT_REDIRECT_ORIGINS", "GODWIT_REVISION", "GODWIT_DRAIN_BUDGET",
}

func newSoakFleet(env []string, logs io.Writer) *soakFleet {
	said := &tail{all: logs}
	return &soakFleet{fleet: &fleet{env: env, out: &lines{w: said}}, said: said}
}

// up starts everything and waits until it is ready.
func (f *soakFleet) up(ctx context.Context, o soakOptions, run, secret string) error {
	url := o.redis
	if url == "" {
		var err error
		if f.dir, err = os.MkdirTemp("", "godwit-soak-"); err != nil {
			return fmt.Errorf("make a directory for redis: %w", err)
		}
		if f.redis, url, err = f.fleet.redis(ctx, f.dir); err != nil {
			return err
		}
	}
	f.vars = slices.DeleteFunc(slices.Clone(f.env), func(pair string) bool {
		return slices.ContainsFunc(soakOwn, func(own string) bool { return strings.HasPrefix(pair, own) })
	})
	f.o, f.redisURL = o, url
	f.vars = append(f.vars, "GODWIT_REDIS_URL="+url, "GODWIT_AUTH_SECRET="+secret, "GODWIT_DRAIN_BUDGET="+o.budget.String())
	for try := 1; ; try++ { // as for redis
		again, err := f.add(ctx, o.nodes, run)
		if err == nil || !again || ctx.Err() != nil || try == startTries {
			return err
		}
		for _, n := range f.nodes {
			if n.proc.running() {
				_ = n.proc.cmd.Process.Kill()
				<-n.proc.done
			}
			f.forget(n.proc)
		}
	}
}

// add finds places for nodes, which each must know, and starts them. Again says
// that other places may do.
func (f *soakFleet) add(ctx context.Context, nodes int, run string) (again bool, err error) {
	f.nodes = nil
	listen := make([]string, nodes)
	places := make([]*soakNode, nodes)
	for i := range places {
		if places[i], listen[i], err = newSoakNode(i, run); err != nil {
			return false, err
		}
	}
	for i, n := range places {
		n.vars = append(n.vars, redirectable(nil, listen, i)...)
		err := f.launch(ctx, n)
		if n.proc != nil {
			f.nodes = append(f.nodes, n)
		}
		if err != nil { // a node that cannot listen ends with 1
			return n.proc != nil && !n.proc.running() && n.proc.cmd.ProcessState.ExitCode() == 1, err
		}
	}
	return false, nil
}

// newSoakNode finds a place for a node, which it keeps over its lives.
func newSoakNode(i int, run string) (n *soakNode, listen string, err error) {
	ports, err := freeport.Find(soakHost, 2)
	if err != nil {
		return nil, "", err
	}
	listen = net.JoinHostPort(soakHost, strconv.Itoa(ports[0]))
	n = &soakNode{name: "n" + strconv.Itoa(i+1), url: "ws://" + listen + "/v1/ws"}
	n.id = run + "-" + n.name
	n.admin = net.JoinHostPort(soakHost, strconv.Itoa(ports[1]))
	n.vars = []string{"GODWIT_NODE_ID=" + n.id, "GODWIT_LISTEN=" + listen, "GODWIT_ADMIN_LISTEN=" + n.admin}
	return n, listen, nil
}

// urls are the addresses of all nodes for the nth client: one in front, and then
// the others in an order of their own, so that who was at one node does not go
// to the same next one.
func (f *soakFleet) urls(nth int) []string {
	first := nth % len(f.nodes)
	if f.o.packed {
		first = 0
	}
	urls := []string{f.nodes[first].url}
	for _, i := range rand.New(rand.NewPCG(f.o.seed, uint64(nth))).Perm(len(f.nodes)) {
		if i != first {
			urls = append(urls, f.nodes[i].url)
		}
	}
	return urls
}

// launch starts a life of a node, each of a new revision as in a deploy, and
// waits until it is ready.
func (f *soakFleet) launch(ctx context.Context, n *soakNode) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	n.life++
	env := slices.Concat(f.vars, n.vars, []string{"GODWIT_REVISION=soak-" + strconv.Itoa(n.life)})
	if n.proc, err = f.serve(n.name, env, self); err != nil {
		return err
	}
	return n.proc.ready(ctx, n.admin)
}

// alive is nil while the process of a node runs that nobody has ended.
func (f *soakFleet) alive(n *soakNode) error {
	if n.proc.running() {
		return nil
	}
	return fmt.Errorf("%s ended by itself: %s", n.name, n.proc.cmd.ProcessState)
}

// end ends a node's life by a signal and waits for it. A flaw is what a node
// that keeps its promises does not do.
func (f *soakFleet) end(ctx context.Context, n *soakNode, by syscall.Signal, within time.Duration) (flaw error) {
	flaw = f.alive(n)
	_ = n.proc.cmd.Process.Signal(by) // it may have ended
	late := time.NewTimer(within)
	defer late.Stop()
	select {
	case <-n.proc.done:
		if code := n.proc.cmd.ProcessState.ExitCode(); flaw == nil && by == syscall.SIGTERM && code != 0 {
			flaw = fmt.Errorf("%s drained and ended with %s", n.name, n.proc.cmd.ProcessState)
		}
	case <-late.C:
		flaw = fmt.Errorf("%s was still there %s after %s", n.name, within, by)
		_ = n.proc.cmd.Process.Kill()
		<-n.proc.done
	case <-ctx.Done(): // down ends it
		return flaw
	}
	f.forget(n.proc)
	return flaw
}

// down ends everything, and leaves nothing.
func (f *soakFleet) down() error {
	f.stop()
	if f.dir == "" {
		return nil
	}
	return os.RemoveAll(f.dir)
}
