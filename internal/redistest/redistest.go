// Package redistest starts real redis-servers for tests. A missing
// redis-server fails the test: it is never passed over.
package redistest

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"godwit/internal/redisset"
)

const ready = 20 * time.Second

// Server is one redis-server, ended with the test.
type Server struct {
	*redisset.Server
	t testing.TB
}

// Start starts a redis-server on a free loopback port.
func Start(t testing.TB) *Server {
	t.Helper()
	return StartTLS(t, nil)
}

// StartTLS starts one that speaks TLS alone.
func StartTLS(t testing.TB, by *redisset.TLS) *Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), ready)
	defer cancel()
	one, err := redisset.StartOne(ctx, redisset.Options{Dir: t.TempDir(), TLS: by})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		one.Kill() // a replica that writes its first AOF would not end by SIGTERM
		one.Close()
	})
	return &Server{one, t}
}

// Client asks the server.
func (s *Server) Client() *redis.Client { return s.Server.Client }

// Stop freezes the server: connections stay, nothing answers.
func (s *Server) Stop() {
	if err := s.Server.Stop(); err != nil {
		s.t.Error(err)
	}
}
