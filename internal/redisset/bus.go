package redisset

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"

	"github.com/redis/go-redis/v9"
)

// quiet is the channel on which Quiet publishes.
const quiet = "redisset:quiet"

// Quiet waits until the Cluster's bus carries nothing that was published before:
// what each server publishes now has come to every other, and overtakes nothing.
func (c *Cluster) Quiet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	all := c.running()
	for _, at := range all {
		if err := at.hearsAll(ctx, all); err != nil {
			return fmt.Errorf("%s hears the others by the bus: %w", at.Addr, err)
		}
	}
	return nil
}

// hearsAll is nil once the server has heard what each of all has published since.
func (s *Server) hearsAll(ctx context.Context, all []*Server) error {
	sub := s.Client.Subscribe(ctx, quiet)
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
			if err := client.Publish(ctx, quiet, word).Err(); err != nil {
				return err
			}
		}
		for {
			v, err := sub.ReceiveTimeout(ctx, 10*look)
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
