package store

import (
	"fmt"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// embedded is a Redis in this process: one node, nothing kept after it ends.
type embedded struct {
	mini *miniredis.Miniredis
	stop chan struct{}
	done sync.WaitGroup
}

func startEmbedded() (*embedded, error) {
	mini, err := miniredis.Run()
	if err != nil {
		return nil, fmt.Errorf("start the embedded store: %w", err)
	}
	e := &embedded{mini: mini, stop: make(chan struct{})}
	e.done.Go(func() { Tick(mini, e.stop) })
	return e, nil
}

func (e *embedded) addr() string { return e.mini.Addr() }

func (e *embedded) close() {
	close(e.stop)
	e.done.Wait()
	e.mini.Close()
}

// Tick lets an embedded server's keys expire as time goes by, which it does
// not do by itself, until stop is closed.
func Tick(mini *miniredis.Miniredis, stop <-chan struct{}) {
	// ClockTTL would walk every key at every command; this walks them 20 times a second.
	const step = 50 * time.Millisecond
	t := time.NewTicker(step)
	defer t.Stop()
	last := time.Now()
	for {
		select {
		case <-stop:
			return
		case now := <-t.C:
			mini.FastForward(now.Sub(last))
			last = now
		}
	}
}
