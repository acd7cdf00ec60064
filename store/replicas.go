package store

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// lateEvery is how often it is said, at most, that a primary's replicas are late.
const lateEvery = time.Minute

// waitMillis is how long a WAIT may take: half of what is left of the round trip,
// for a script that the server does not know is called, and waits, once more.
func waitMillis(ctx context.Context) int64 {
	till, _ := ctx.Deadline()
	return max(1, time.Until(till).Milliseconds()/2)
}

// late says of primaries that too few of their replicas have the messages: the store
// is there and the nodes are ready then, and nothing else shows why nobody can send.
type late struct {
	log *slog.Logger

	mu   sync.Mutex
	said map[string]time.Time // guarded by mu: of each primary, when
}

// replicated reads the answer of a WAIT at a primary.
func (l *late) replicated(wait *redis.Cmd, want int, primary string) error {
	n, err := wait.Int()
	if err == nil && n >= want {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.said[primary]) >= lateEvery {
		l.said[primary] = now
		l.log.Warn("too few replicas have the messages in time, which are answered unavailable; start replicas, or lower GODWIT_REDIS_WAIT",
			"primary", primary, "have", n, "want", want, "error", err)
	}
	return fmt.Errorf("%d of %d replicas have the write", n, want)
}
