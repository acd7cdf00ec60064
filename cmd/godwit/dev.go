package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"godwit/internal/freeport"
	"godwit/internal/redisset"
)

const (
	devListen  = "127.0.0.1:8080" // the first node's, if the port is free; the next have the next
	devAdmin   = "127.0.0.1:0"
	devReady   = 30 * time.Second // what is not ready by then will not be
	devLook    = 20 * time.Millisecond
	devEnding  = 15 * time.Second // a node that has not drained by then is killed
	devLogLine = 256 << 10        // longest log line that is passed on
	startTries = 3                // where another process may take the port that was free
)

func devCommand(env []string) *cobra.Command {
	var nodes int
	var kind string
	c := &cobra.Command{
		Use:   "dev",
		Short: "Run a small fleet here: a redis-server, or several, and some nodes, as processes",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if nodes < 1 || nodes > 16 {
				return usage{errors.New("--nodes: expected 1 to 16")}
			}
			if !slices.Contains(devKinds, kind) {
				return usage{errors.New("--redis: expected " + strings.Join(devKinds, ", "))}
			}
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			f := &fleet{env: env, out: &lines{w: c.OutOrStdout()}}
			return f.run(ctx, nodes, kind)
		},
	}
	c.Flags().IntVar(&nodes, "nodes", 3, "how many nodes")
	c.Flags().StringVar(&kind, "redis", devKinds[0], "what they run on: single, cluster (3 primaries, 3 replicas) or sentinel (a primary, 2 replicas, 3 sentinels)")
	return c
}

// lines writes whole lines of many processes to one stream.
type lines struct {
	mu sync.Mutex
	w  io.Writer // guarded by mu
}

func (l *lines) print(mark, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.w, "%-5s| %s\n", mark, line)
}

// fleet is a redis-server and nodes, as processes of ours.
type fleet struct {
	env   []string
	out   *lines
	procs []*proc      // in the order of their start
	set   redisset.Set // nil: redis is one of procs
}

// proc is one process and the goroutines that pass its output on.
type proc struct {
	mark string
	cmd  *exec.Cmd
	out  sync.WaitGroup
	done chan struct{} // closed when it has ended
	// addrs gets the addresses that a node listens on: for clients, for operators.
	addrs chan [2]string
	// hear gets the lines of its stdout, which are then not passed on; nil: they are.
	hear func(line []byte)
}

func (f *fleet) run(ctx context.Context, nodes int, kind string) (err error) {
	dir, err := os.MkdirTemp("", "godwit-dev-")
	if err != nil {
		return fmt.Errorf("make a directory for redis: %w", err)
	}
	defer os.RemoveAll(dir)
	defer f.stop()
	var redisURL string
	var redisEnded <-chan struct{} // of a set nobody waits: one of it may well end
	if kind == devKinds[0] {
		var redis *proc
		if redis, redisURL, err = f.redis(ctx, dir); err == nil {
			redisEnded = redis.done
		}
	} else {
		redisURL, err = f.startSet(ctx, kind, dir)
	}
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	vars := environment(f.env)
	dev := vars["GODWIT_AUTH_SECRET"] == "" && vars["GODWIT_AUTH_SECRET_FILE"] == "" && vars["GODWIT_AUTH_JWKS"] == ""
	listen := make([]string, nodes)
	for i := range listen {
		if listen[i], err = devAddr(vars["GODWIT_LISTEN"], devListen, i); err != nil {
			return err
		}
	}
	var addrs, admins, kill []string
	var procs []*proc
	for i := range nodes {
		mark := "n" + strconv.Itoa(i+1)
		env := append(append([]string(nil), f.env...),
			"GODWIT_REDIS_URL="+redisURL, "GODWIT_NODE_ID="+mark,
			"GODWIT_LISTEN="+listen[i], "GODWIT_ADMIN_LISTEN="+nthAddr(cmp.Or(vars["GODWIT_ADMIN_LISTEN"], devAdmin), i))
		env = append(env, redirectable(vars, listen, i)...)
		if dev {
			env = append(env, "GODWIT_AUTH_DEV=true")
		}
		if vars["GODWIT_LOG_FORMAT"] == "" {
			env = append(env, "GODWIT_LOG_FORMAT=text") // for eyes
		}
		p, err := f.serve(mark, env, self)
		if err != nil {
			return err
		}
		select {
		case at := <-p.addrs:
			addrs, admins, procs = append(addrs, at[0]), append(admins, at[1]), append(procs, p)
			kill = append(kill, fmt.Sprintf("  kill -9 %d   # %s", p.cmd.Process.Pid, mark))
		case <-p.done:
			return fmt.Errorf("%s ended before it listened; its log says why", mark)
		case <-time.After(devReady):
			return fmt.Errorf("%s did not listen within %s", mark, devReady)
		case <-ctx.Done():
			return nil
		}
	}
	for i, p := range procs {
		if err := p.ready(ctx, admins[i]); err != nil && ctx.Err() == nil {
			return err
		}
	}
	api := vars["GODWIT_ADMIN_TOKEN"] != "" || vars["GODWIT_ADMIN_TOKEN_FILE"] != ""
	for line := range strings.Lines(typeNext(addrs, dev) + "\nEnd a node, and watch its clients go on at another (without -9 it moves them first):\n" +
		strings.Join(append(kill, f.kills()...), "\n") + "\n\n" + operate(admins[0], api) + "\nCtrl-C ends them all.\n") {
		f.out.print("", strings.TrimSuffix(line, "\n"))
	}
	select {
	case <-ctx.Done():
		return nil
	case <-redisEnded:
		return errors.New("redis-server ended")
	}
}

// ready waits until a node takes clients, as its probe says.
func (p *proc) ready(ctx context.Context, admin string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, devReady, fmt.Errorf("%s is not ready after %s", p.mark, devReady))
	defer cancel()
	again := time.NewTicker(devLook)
	defer again.Stop()
	for askProbe(ctx, reachable(admin), "ready", io.Discard) != nil {
		select {
		case <-again.C: // nothing announces it
		case <-p.done:
			return fmt.Errorf("%s ended before it was ready: %s", p.mark, p.cmd.ProcessState)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// operate says how to ask the fleet at a node's admin listener, whose API is
// off without a token.
func operate(admin string, api bool) string {
	if !api {
		return "Start it with a GODWIT_ADMIN_TOKEN, and it can be asked: godwit nodes, rooms, drain.\n"
	}
	at := " --admin http://" + reachable(admin) + "\n"
	return "Ask it, in a terminal with the same GODWIT_ADMIN_TOKEN:\n  " + thisProgram() + " nodes" + at + "  " + thisProgram() + " drain n1" + at
}

// redis starts a redis-server that keeps its files in dir, and waits until it
// answers.
func (f *fleet) redis(ctx context.Context, dir string) (p *proc, url string, err error) {
	server, err := redisset.Path()
	if err != nil {
		return nil, "", usage{fmt.Errorf("redis-server is not installed; type: sudo apt-get install redis-server (%w)", err)}
	}
	for try := 1; ; try++ { // another process may take the port meanwhile
		free, err := freeport.Find("127.0.0.1", 1)
		if err != nil {
			return nil, "", err
		}
		port := free[0]
		p, err = f.start("redis", nil, server, "--bind", "127.0.0.1", "--port", strconv.Itoa(port),
			"--save", "", "--appendonly", "no", "--dir", dir)
		if err != nil {
			return nil, "", err
		}
		err = answers(ctx, port, p)
		if err == nil || try == startTries || p.running() {
			return p, "redis://127.0.0.1:" + strconv.Itoa(port), err
		}
		f.forget(p)
	}
}

// answers waits until a process of ours accepts connections.
func answers(ctx context.Context, port int, p *proc) error {
	ctx, cancel := context.WithTimeout(ctx, devReady)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return c.Close()
		}
		select {
		case <-again.C:
		case <-p.done:
			return fmt.Errorf("%s ended before it answered; its log says why", p.mark)
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w", p.mark, err)
		}
	}
}

// redirectable are the settings by which clients can be sent from node to node,
// unless there are some already, or it is not known where the nodes will be.
func redirectable(vars map[string]string, listen []string, nth int) []string {
	if vars["GODWIT_NODE_URL"] != "" || vars["GODWIT_PUBLIC_URL"] != "" || vars["GODWIT_REDIRECT_ORIGINS"] != "" {
		return nil
	}
	origins := make([]string, len(listen))
	for i, addr := range listen {
		host, port, err := net.SplitHostPort(addr)
		if err != nil || port == "0" || host == "" || net.ParseIP(host).IsUnspecified() {
			return nil
		}
		origins[i] = "ws://" + addr
	}
	return []string{"GODWIT_NODE_URL=" + origins[nth] + "/v1/ws", "GODWIT_REDIRECT_ORIGINS=" + strings.Join(origins, ",")}
}

// devAddr is the address for the nth node. Where none is asked for, a port that
// is taken is replaced by a free one.
func devAddr(asked, otherwise string, nth int) (string, error) {
	addr := nthAddr(cmp.Or(asked, otherwise), nth)
	if asked != "" {
		return addr, nil // the node says what is wrong with it
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("find an address: %w", err)
	}
	if port != "0" {
		if l, err := net.Listen("tcp", addr); err == nil {
			return addr, l.Close()
		}
	}
	free, err := freeport.Find(host, 1)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(host, strconv.Itoa(free[0])), nil
}

// nthAddr is the nth address from a first one: the same host, the next ports.
func nthAddr(first string, nth int) string {
	host, port, err := net.SplitHostPort(first)
	n, notNumber := strconv.Atoi(port)
	if err != nil || notNumber != nil || n == 0 {
		return first
	}
	return net.JoinHostPort(host, strconv.Itoa(n+nth))
}

// start starts a process whose output is passed on with a mark. It ends with
// us, even if we are killed.
func (f *fleet) start(mark string, env []string, name string, args ...string) (*proc, error) {
	p := newProc(mark, env, name, args...)
	if err := f.begin(p); err != nil {
		return nil, err
	}
	return p, nil
}

// serve starts a node, which is to say where it listens: that is in its log, at
// info.
func (f *fleet) serve(mark string, env []string, self string) (*proc, error) {
	if level := environment(env)["GODWIT_LOG_LEVEL"]; level == "warn" || level == "error" {
		env = append(slices.Clip(env), "GODWIT_LOG_LEVEL=info")
	}
	return f.start(mark, env, self, "serve")
}

func newProc(mark string, env []string, name string, args ...string) *proc {
	p := &proc{mark: mark, cmd: exec.Command(name, args...), done: make(chan struct{}), addrs: make(chan [2]string, 1)}
	p.cmd.Env = env
	p.cmd.SysProcAttr = tied()
	return p
}

// begin starts a process.
func (f *fleet) begin(p *proc) error {
	name := filepath.Base(p.cmd.Path)
	stdout, err1 := p.cmd.StdoutPipe()
	stderr, err2 := p.cmd.StderrPipe()
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	p.out.Go(func() { f.pass(p, stdout, p.hear) })
	p.out.Go(func() { f.pass(p, stderr, nil) })
	go func() {
		defer close(p.done)
		p.out.Wait()
		_ = p.cmd.Wait() // the state says the same
		f.out.print(p.mark, "ended: "+p.cmd.ProcessState.String())
	}()
	f.procs = append(f.procs, p)
	return nil
}

// running says whether a process was started and has not ended.
func (p *proc) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// forget takes a process that has ended from what is to be ended.
func (f *fleet) forget(gone *proc) {
	f.procs = slices.DeleteFunc(f.procs, func(p *proc) bool { return p == gone })
}

// listening finds the addresses in the line of a node's log, text or JSON; a
// bare hub has no listener for operators.
var listening = regexp.MustCompile(`msg"?[=:]"?listening\b.*?\baddr"?[=:]"?([^ ",]+)(?:.*?\badmin"?[=:]"?([^ ",]+))?`)

// pass passes a process's lines on, and looks for the one that says where a
// node listens.
func (f *fleet) pass(p *proc, r io.Reader, hear func(line []byte)) {
	in := bufio.NewScanner(r)
	in.Buffer(nil, devLogLine)
	for in.Scan() {
		if hear != nil {
			hear(in.Bytes())
			continue
		}
		if m := listening.FindSubmatch(in.Bytes()); m != nil {
			select {
			case p.addrs <- [2]string{string(m[1]), string(m[2])}:
			default: // said before
			}
		}
		f.out.print(p.mark, in.Text())
	}
	_, _ = io.Copy(io.Discard, r) // past a line too long, so that it is not blocked
}

// stop ends the nodes, then redis.
func (f *fleet) stop() {
	signalAll := func(procs []*proc) {
		for _, p := range procs {
			_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		}
		late := time.After(devEnding)
		for _, p := range procs {
			select {
			case <-p.done:
			case <-late:
				_ = p.cmd.Process.Kill()
				<-p.done
			}
		}
	}
	switch {
	case f.set != nil:
		signalAll(f.procs)
		f.set.Close()
	case len(f.procs) > 0:
		signalAll(f.procs[1:])
		signalAll(f.procs[:1])
	}
}

// kill ends all that is left at once.
func (f *fleet) kill() {
	for _, p := range f.procs {
		_ = p.cmd.Process.Kill() // it may have ended
		<-p.done
	}
}
