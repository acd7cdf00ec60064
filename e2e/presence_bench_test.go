package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"godwit/e2e/fleet"
	"godwit/e2e/raw"
	"godwit/wire"
)

// BenchmarkPresence_ToTheLastOfManyWatchers is the time from one user's change
// until the last of 5,000 sockets at three nodes was told, on a machine that
// runs the watchers, too.
func BenchmarkPresence_ToTheLastOfManyWatchers(b *testing.B) {
	const watchers = 5000
	f := fleet.Start(b, fleet.Options{})
	pipe := f.Redis.Client.Pipeline()
	for i := range watchers {
		user := fmt.Sprintf("watcher %d", i)
		pipe.SAdd(b.Context(), "gw:{u:ann}:watchers", user)
		pipe.SAdd(b.Context(), "gw:{u:"+user+"}:contacts", "ann")
	}
	if _, err := pipe.Exec(b.Context()); err != nil {
		b.Fatal(err)
	}
	login := func(user string, n int) (*raw.Conn, error) {
		c, err := raw.Dial(f.Nodes[n%len(f.Nodes)].URL, nil)
		if err != nil {
			return nil, err
		}
		b.Cleanup(c.Drop)
		return c, c.Call(b.Context(), "hello", wire.Hello{Token: fleet.Token(user, time.Hour)}, nil)
	}
	all := make([]*raw.Conn, watchers)
	var logins errgroup.Group
	logins.SetLimit(64)
	for i := range all {
		logins.Go(func() (err error) {
			for range 5 { // this many at once may be told to come again
				if all[i], err = login(fmt.Sprintf("watcher %d", i), i); err == nil {
					return nil
				}
			}
			return err
		})
	}
	if err := logins.Wait(); err != nil {
		b.Fatal(err)
	}
	ann, err := login("ann", 0)
	if err != nil {
		b.Fatal(err)
	}
	told := func() {
		ctx, cancel := context.WithTimeout(b.Context(), fleet.Patience)
		defer cancel()
		var each sync.WaitGroup
		for _, c := range all {
			each.Go(func() {
				if _, err := c.Next(ctx); err != nil {
					b.Errorf("a watcher was not told: %v", err)
				}
			})
		}
		each.Wait()
	}
	told() // of her login
	value := uint8(1)
	var worst time.Duration
	for b.Loop() {
		value = 3 - value
		began := time.Now()
		if err := ann.Call(b.Context(), "presence.set", wire.SetPresence{Presence: &value}, nil); err != nil {
			b.Fatal(err)
		}
		told()
		worst = max(worst, time.Since(began))
	}
	b.ReportMetric(float64(worst.Milliseconds()), "ms/worst")
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/change")
}
