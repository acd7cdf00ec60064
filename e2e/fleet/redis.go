package fleet

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"

	"godwit/internal/freeport"
)

// Redis is one redis-server with its data on disk.
type Redis struct {
	t    testing.TB
	path string
	dir  string
	port int
	life int
	proc *process
	// Client asks the server what tests want to know; nodes have their own.
	Client *redis.Client
}

// StartRedis starts a redis-server that keeps every write (append-only file,
// synced always).
func StartRedis(t testing.TB) *Redis {
	t.Helper()
	r := &Redis{t: t, path: redisServer(t)}
	var err error
	if r.dir, err = os.MkdirTemp("", "godwit-redis-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(r.dir) })
	// Another process may take a free port before the server does: try again.
	for try := 0; ; try++ {
		r.port = freePorts(t, 1)[0]
		err := r.start()
		if err == nil {
			break
		}
		if try == 4 {
			t.Fatal(err)
		}
	}
	r.Client = redis.NewClient(&redis.Options{Addr: r.Addr(), ContextTimeoutEnabled: true})
	t.Cleanup(func() { r.Client.Close() })
	return r
}

func (r *Redis) start() error {
	r.life++
	r.proc = start(r.t, "redis-"+strconv.Itoa(r.life), r.path, nil,
		"--port", strconv.Itoa(r.port), "--bind", "127.0.0.1", "--dir", r.dir,
		"--appendonly", "yes", "--appendfsync", "always", "--save", "", "--daemonize", "no")
	return r.proc.await("readiness", func(line string) bool {
		return strings.Contains(line, "Ready to accept connections")
	})
}

func freePorts(t testing.TB, n int) []int {
	t.Helper()
	ports, err := freeport.Find("127.0.0.1", n)
	if err != nil {
		t.Fatal(err)
	}
	return ports
}

// Addr is host and port of the server.
func (r *Redis) Addr() string { return "127.0.0.1:" + strconv.Itoa(r.port) }

// Kill ends the server at once; every answered write is on disk.
func (r *Redis) Kill() { r.proc.kill() }

// Start runs the server again on its port, with its data.
func (r *Redis) Start() {
	r.t.Helper()
	if err := r.start(); err != nil {
		r.t.Fatal(err)
	}
}

// Lose removes the data of a server that was killed.
func (r *Redis) Lose() {
	r.t.Helper()
	names, err := filepath.Glob(filepath.Join(r.dir, "*"))
	for _, name := range names {
		if err == nil {
			err = os.RemoveAll(name)
		}
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// Stop freezes the server (SIGSTOP): connections stay, nothing is answered.
func (r *Redis) Stop() { r.must(r.proc.freeze()) }

// Cont lets a frozen server go on.
func (r *Redis) Cont() { r.must(r.proc.signal(syscall.SIGCONT)) }

// Wipe removes all data from the living server.
func (r *Redis) Wipe() {
	r.t.Helper()
	r.must(r.Client.FlushAll(context.Background()).Err())
}

// KillPubSub closes every subscriber's connection and tells how many there were.
func (r *Redis) KillPubSub() int64 {
	r.t.Helper()
	n, err := r.Client.Do(context.Background(), "CLIENT", "KILL", "TYPE", "pubsub").Int64()
	r.must(err)
	return n
}

func (r *Redis) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(fmt.Errorf("redis: %w", err))
	}
}
