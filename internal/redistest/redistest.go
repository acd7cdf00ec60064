// Package redistest starts real redis-servers for tests. A missing
// redis-server fails the test: it is never passed over.
package redistest

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"godwit/internal/freeze"
)

const ready = 20 * time.Second

// tries is how often a start is tried: another process may take the port that
// was free.
const tries = 3

// Server is one redis-server, ended with the test.
type Server struct {
	Addr  string
	t     testing.TB
	dir   string
	cmd   *exec.Cmd
	ended chan struct{} // closed when the process has ended
}

// Start starts a redis-server on a free loopback port.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t, dir: t.TempDir()}
	for try := 1; ; try++ {
		err := s.start()
		if err == nil {
			break
		}
		if try == tries {
			t.Fatal(err)
		}
	}
	t.Cleanup(s.end)
	return s
}

// URL is where the server listens.
func (s *Server) URL() string { return "redis://" + s.Addr }

// Client is a connection of the test's own.
func (s *Server) Client() *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: s.Addr, MaxRetries: -1})
	s.t.Cleanup(func() { c.Close() })
	return c
}

// start starts the process on a port of its choice. An error says that it ended.
func (s *Server) start() error {
	s.t.Helper()
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		s.t.Fatal("redis-server is missing, and this test needs it. Type: make need-redis")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	s.Addr = l.Addr().String()
	l.Close()
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.cmd = exec.Command(bin, "--bind", "127.0.0.1", "--port", port, "--dir", s.dir,
		"--save", "", "--appendonly", "yes", "--appendfsync", "no",
		"--logfile", filepath.Join(s.dir, "redis.log"))
	s.cmd.SysProcAttr = tied()
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.ended = make(chan struct{})
	go func() {
		defer close(s.ended)
		_ = s.cmd.Wait() // the state says the same
	}()
	c := redis.NewClient(&redis.Options{Addr: s.Addr, MaxRetries: -1})
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), ready)
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	own := fmt.Sprintf("process_id:%d\r\n", s.cmd.Process.Pid) // and nobody else's on that port
	for {
		if info, err := c.Info(ctx, "server").Result(); err == nil && strings.Contains(info, own) {
			return nil
		}
		select {
		case <-again.C:
		case <-s.ended:
			return fmt.Errorf("redis-server on %s ended with %s", s.Addr, s.cmd.ProcessState)
		case <-ctx.Done():
			s.t.Fatalf("redis-server on %s does not answer", s.Addr)
		}
	}
}

func (s *Server) end() {
	_ = s.cmd.Process.Kill() // it may have ended; a replica that writes its first AOF would not by SIGTERM
	<-s.ended
}

// Stop freezes the server: connections stay, nothing answers.
func (s *Server) Stop() {
	if err := freeze.Stop(s.cmd.Process); err != nil {
		s.t.Log(err)
	}
}

// Cont ends Stop.
func (s *Server) Cont() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Logf("signal redis-server %s: %v", strconv.Itoa(s.cmd.Process.Pid), fmt.Errorf("%v: %w", sig, err))
	}
}
