// Package redisset runs a redis-server, a Redis Cluster, or a primary with its
// replicas and Sentinels, as processes of this machine: for tests, and for people
// who want to see one. It decides when a set is ready, and ends what it has
// started. It knows nothing of what is stored.
package redisset

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"godwit/internal/freeport"
	"godwit/internal/freeze"
)

const (
	// look is how often is asked what nothing announces.
	look = 25 * time.Millisecond
	// ending is how long a server may take to end by itself.
	ending = 5 * time.Second
	// patience bounds every wait: what has not come by then will not.
	patience = time.Minute
	// tries is how often a start is tried: another process may take the port that
	// was free.
	tries = 3
)

// Program is the variable that names the program to run in redis-server's place,
// which must understand its arguments, as valkey-server does.
const Program = "GODWIT_TEST_REDIS_SERVER"

// Path is where the program to run is.
func Path() (string, error) {
	name := cmp.Or(os.Getenv(Program), "redis-server")
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", name, err)
	}
	return path, nil
}

// Options shape what is run.
type Options struct {
	// Dir is where all files are kept.
	Dir string
	// Silent is how long the primary of a set may be silent before it is replaced.
	Silent time.Duration
	// TLS is all that the servers speak, with each other too. Nil: none of it.
	TLS *TLS
	// Front puts something in front of a server, and is where that listens: on the
	// server's own host, and without TLS. All others find the server there, the
	// servers of its set too. Nil: nothing.
	Front func(addr string) (front string, err error)
}

// Set is a Redis of several processes.
type Set interface {
	// URL is how a node names it.
	URL() string
	// Client asks whoever has what is asked for.
	Client() redis.UniversalClient
	// Servers are all that were started.
	Servers() []*Server
	// Close ends every process. The data stays in the directory.
	Close()
}

// The kinds of set.
const (
	KindCluster  = "cluster"
	KindSentinel = "sentinel"
)

// Start runs a set of that kind, and waits until all of it is ready.
func Start(ctx context.Context, kind string, o Options) (Set, error) {
	switch kind {
	case KindCluster:
		return settled(StartCluster(ctx, o))
	case KindSentinel:
		return settled(StartSentinel(ctx, o))
	}
	return nil, fmt.Errorf("there is no set of kind %q", kind)
}

// settled is nil, and no pointer to nothing, with an error.
func settled[S Set](s S, err error) (Set, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Server is one redis-server, or one Sentinel.
type Server struct {
	// Addr is where others find it.
	Addr string
	// Client asks this server alone, past what is in front of it.
	Client *redis.Client

	own   string // where it listens
	tls   *tls.Config
	args  []string
	cmd   *exec.Cmd
	ended chan struct{} // closed when the process has ended
}

// start runs the process.
func (s *Server) start() error {
	bin, err := Path()
	if err != nil {
		return fmt.Errorf("%w. Type: make need-redis", err)
	}
	s.cmd = exec.Command(bin, s.args...)
	s.cmd.SysProcAttr = tied()
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("start redis-server: %w", err)
	}
	ended := make(chan struct{})
	s.ended = ended
	cmd := s.cmd
	go func() { // waited for by Close
		defer close(ended)
		_ = cmd.Wait() // the state says the same
	}()
	return nil
}

// answers waits until the server, and nobody else, answers on its port.
func (s *Server) answers(ctx context.Context) error {
	own := fmt.Sprintf("process_id:%d\r\n", s.cmd.Process.Pid)
	return until(ctx, "redis-server on "+s.Addr+" answers", func() error {
		select {
		case <-s.ended:
			return over{fmt.Errorf("redis-server on %s ended: %s", s.Addr, s.cmd.ProcessState)}
		default:
		}
		c, err := net.Dial("tcp", s.own) // the client's library complains aloud
		if err != nil {
			return err
		}
		c.Close()
		info, err := s.Client.Info(ctx, "server").Result()
		if err == nil && !strings.Contains(info, own) {
			err = errors.New("somebody else has the port")
		}
		if err == nil {
			err = s.Client.Ping(ctx).Err() // refused while it reads its data
		}
		return err
	})
}

// Start runs a server again that was killed, with its data, and waits until it
// answers.
func (s *Server) Start(ctx context.Context) error {
	if err := s.start(); err != nil {
		return err
	}
	return s.answers(ctx)
}

// URL is how a node names the server, if it is alone.
func (s *Server) URL() string { return scheme(s.tls, "redis") + "://" + s.Addr }

// Pid is the process of the server's life.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Runs says whether the process is there.
func (s *Server) Runs() bool {
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

// Kill ends the server at once. Nothing writes to its directory then.
func (s *Server) Kill() {
	if !s.Runs() {
		return
	}
	kill(s.cmd.Process)
	<-s.ended
	late := time.NewTimer(time.Second)
	defer late.Stop()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for left(s.cmd.Process) {
		select {
		case <-again.C:
		case <-late.C: // it is dead, and nobody has asked how it ended
			return
		}
	}
}

// Stop freezes the server: connections stay, nothing answers.
func (s *Server) Stop() error { return freeze.Stop(s.cmd.Process) }

// Cont ends Stop.
func (s *Server) Cont() error { return s.cmd.Process.Signal(syscall.SIGCONT) }

// Close ends the process, frozen or not.
func (s *Server) Close() {
	s.Client.Close()
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = s.Cont()
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	late := time.NewTimer(ending)
	defer late.Stop()
	select {
	case <-s.ended:
	case <-late.C:
		s.Kill()
	}
}

// StartOne runs one server alone, and waits until it answers.
func StartOne(ctx context.Context, o Options) (*Server, error) {
	s := &set{opt: o}
	one, err := s.add(ctx, func(at seat) ([]string, error) { return s.data(at), nil })
	if err != nil {
		s.Close()
		return nil, err
	}
	return one, nil
}

// set is the processes of one kind of set, and how they were started.
type set struct {
	opt     Options
	servers []*Server
}

// seat is where a server is put.
type seat struct {
	dir         string
	port, front string // its own, and the one that others find it at
}

// add starts one more server, on a free port, with a directory of its own.
func (s *set) add(ctx context.Context, args func(at seat) ([]string, error)) (*Server, error) {
	for try := 1; ; try++ {
		one, err := s.addAt(ctx, args)
		var end over
		if err == nil || try == tries || !errors.As(err, &end) {
			return one, err
		}
		one.Client.Close()
		s.servers = s.servers[:len(s.servers)-1]
	}
}

func (s *set) addAt(ctx context.Context, args func(at seat) ([]string, error)) (*Server, error) {
	ports, err := freeport.Find(host, 1, busPorts)
	if err != nil {
		return nil, err
	}
	port := strconv.Itoa(ports[0])
	own := net.JoinHostPort(host, port)
	addr := own
	if s.opt.Front != nil {
		if addr, err = s.opt.Front(own); err != nil {
			return nil, fmt.Errorf("put something in front of redis: %w", err)
		}
	}
	_, front, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("put something in front of redis: %w", err)
	}
	dir := filepath.Join(s.opt.Dir, port)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make a directory for redis: %w", err)
	}
	one := &Server{Addr: addr, own: own, tls: s.opt.TLS.client(), Client: redis.NewClient(&redis.Options{
		Addr: own, TLSConfig: s.opt.TLS.client(),
		Protocol: 2, MaxRetries: -1, ContextTimeoutEnabled: true, DialerRetries: 1, DisableIdentity: true,
	})}
	if one.args, err = args(seat{dir, port, front}); err != nil {
		return nil, err
	}
	if err := one.start(); err != nil {
		return nil, err
	}
	s.servers = append(s.servers, one)
	return one, one.answers(ctx)
}

// Close ends every process. The data stays in the directory.
func (s *set) Close() {
	for _, one := range s.servers {
		_ = one.cmd.Process.Signal(syscall.SIGTERM) // all at once; a frozen one by its Close
	}
	for _, one := range s.servers {
		one.Close()
	}
}

// Servers are all that were started.
func (s *set) Servers() []*Server { return s.servers }

const host = "127.0.0.1"

// busPorts is how far the port of a Cluster's bus is from the server's own.
const busPorts = 10000

// listens are the arguments of every server.
func (s *set) listens(at seat) []string {
	return append([]string{"--bind", host, "--dir", at.dir, "--logfile", filepath.Join(at.dir, "redis.log")}, s.opt.TLS.port(at.port)...)
}

// data are the arguments of every server with data.
func (s *set) data(at seat) []string {
	args := append(s.listens(at),
		"--save", "", "--appendonly", "yes", "--appendfsync", "no", "--repl-diskless-sync-delay", "0")
	if at.front != at.port {
		args = append(args, "--cluster-announce-port", at.front, "--replica-announce-port", at.front)
	}
	return args
}

// over is an error that no waiting mends.
type over struct{ error }

// until waits until check is nil.
func until(ctx context.Context, what string, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	again := time.NewTicker(look)
	defer again.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		var end over
		if errors.As(err, &end) {
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w; at last: %w", what, context.Cause(ctx), err)
		}
	}
}
