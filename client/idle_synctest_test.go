package client_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"godwit/client"
	"godwit/internal/trial"
)

func TestIdle_FollowsTheUserAndNotOverItsWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := trial.Start(trial.Options{Bubble: true})
		defer f.Close()
		c, err := client.Dial(t.Context(), client.Options{
			URLs: f.URLs(), Dial: f.Dial, Token: func(context.Context) (string, error) { return "dev:ann", nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		idle := client.NewIdle(c, client.IdleOptions{After: 10 * time.Second})
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			if err := idle.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		self := func(what string, want uint8) {
			t.Helper()
			time.Sleep(time.Second)
			if got := c.Self(); got != want {
				t.Errorf("%s: %d, want %d", what, got, want)
			}
		}
		self("at first", 3)
		time.Sleep(8 * time.Second)
		idle.Touch()
		time.Sleep(8 * time.Second)
		self("in use", 3)
		time.Sleep(2 * time.Second)
		self("nobody there", 2)
		time.Sleep(time.Minute)
		self("for long", 2)
		idle.Touch()
		self("somebody is back", 3)
		if err := c.SetPresence(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		self("do not disturb, and nobody there", 1)
		idle.Touch()
		self("do not disturb, and somebody is back", 1)
		stop()
		running.Wait()
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if err := idle.Run(t.Context()); err == nil {
			t.Error("it runs on without its client")
		}
	})
}

// Active and Idle are the application's, and it begins with Active.
func TestIdle_BeginsWithActive(t *testing.T) {
	for _, said := range []struct {
		what  string
		begin *uint8
		want  uint8
	}{
		{"nothing was set", nil, 7},
		{"an idle timer was", new(uint8(0x80 | 2)), 7},
		{"the user has", new(uint8(1)), 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := trial.Start(trial.Options{Bubble: true})
			defer f.Close()
			c, err := client.Dial(t.Context(), client.Options{
				URLs: f.URLs(), Dial: f.Dial, Presence: said.begin,
				Token: func(context.Context) (string, error) { return "dev:ann", nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			idle := client.NewIdle(c, client.IdleOptions{After: 10 * time.Second, Active: 7, Idle: 4})
			ctx, stop := context.WithCancel(t.Context())
			var running sync.WaitGroup
			running.Go(func() {
				if err := idle.Run(ctx); err != nil {
					t.Error(err)
				}
			})
			time.Sleep(time.Second)
			if got := c.Self(); got != said.want {
				t.Errorf("%s: %d, want %d", said.what, got, said.want)
			}
			stop()
			running.Wait()
			_ = c.Close(t.Context())
		})
	}
}
