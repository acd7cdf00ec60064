package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestServe_AStopThatHangsEndsInsideTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			budget, takes, ends time.Duration
			want                error
		}{
			{10 * time.Second, 9 * time.Second, 9 * time.Second, nil},
			{10 * time.Second, time.Hour, 9900 * time.Millisecond, errOverdue},
			{100 * time.Millisecond, time.Hour, 90 * time.Millisecond, errOverdue},
		} {
			ctx, signal := context.WithCancel(t.Context())
			began := time.Now()
			time.AfterFunc(time.Minute, signal) // a node that serves for longer than its budget
			err := within(ctx, c.budget, func() error {
				<-ctx.Done()
				time.Sleep(c.takes)
				return nil
			})
			if took := time.Since(began) - time.Minute; !errors.Is(err, c.want) || took != c.ends {
				t.Errorf("budget %s, stop %s: %v after %s, want %v after %s", c.budget, c.takes, err, took, c.want, c.ends)
			}
		}
		time.Sleep(time.Hour) // for those that were not waited for
	})
}

func TestServe_ANodeThatEndsByItselfIsNotWaitedFor(t *testing.T) {
	failed := errors.New("listener closed")
	if err := within(t.Context(), time.Hour, func() error { return failed }); !errors.Is(err, failed) {
		t.Errorf("%v, want %v", err, failed)
	}
}
