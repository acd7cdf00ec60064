package redistest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/redis/go-redis/v9"

	"godwit/internal/redisset"
)

const (
	// busChannel is the channel on which quiet publishes, busAgain how soon again.
	busChannel = "redistest:quiet"
	busAgain   = 250 * time.Millisecond
)

// quiet waits until the bus of a Cluster of these servers carries nothing that was
// published before: what each publishes now has come to every other, and overtakes
// nothing.
func quiet(ctx context.Context, all []*redisset.Server) error {
	for _, at := range all {
		if err := hearsAll(ctx, at, all); err != nil {
			return fmt.Errorf("%s hears the others by the bus: %w", at.Addr, err)
		}
	}
	return nil
}

// hearsAll is nil once the server has heard what each of all has published since.
func hearsAll(ctx context.Context, s *redisset.Server, all []*redisset.Server) error {
	sub := s.Client.Subscribe(ctx, busChannel)
	defer sub.Close()
	if _, err := sub.Receive(ctx); err != nil {
		return err
	}
	call := rand.Text() // what an earlier one has published may still come
	missing := make(map[string]*redis.Client, len(all))
	for _, one := range all {
		missing[call+one.Addr] = one.Client
	}
	for {
		for word, client := range missing { // again: a link that broke has lost what it carried
			if err := client.Publish(ctx, busChannel, word).Err(); err != nil {
				return err
			}
		}
		for {
			v, err := sub.ReceiveTimeout(ctx, busAgain)
			if m, ok := v.(*redis.Message); ok {
				delete(missing, m.Payload)
			}
			if len(missing) == 0 {
				return nil
			}
			if late := net.Error(nil); errors.As(err, &late) && late.Timeout() && ctx.Err() == nil {
				break
			}
			if err != nil {
				return err
			}
		}
	}
}
