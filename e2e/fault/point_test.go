package fault_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"godwit/e2e/fault"
	"godwit/e2e/fleet"
)

const addOne = "return redis.call('INCR', KEYS[1])"

// caller runs a script behind a proxy that is to hold it.
func caller(t *testing.T, answered bool, timeout time.Duration) (at *fault.Point, direct, through *redis.Client, run func() error) {
	t.Helper()
	r := fleet.StartRedis(t)
	p, err := fault.Listen(r.Addr(), 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	through = redis.NewClient(&redis.Options{Addr: p.Addr(), ReadTimeout: timeout, MaxRetries: -1, ContextTimeoutEnabled: true})
	t.Cleanup(func() { through.Close() })
	sha, err := r.Client.ScriptLoad(t.Context(), addOne).Result()
	if err != nil {
		t.Fatal(err)
	}
	at = p.Points.At(fault.Step{Does: fault.Runs(addOne), Answered: answered})
	return at, r.Client, through, func() error {
		return through.EvalSha(t.Context(), sha, []string{"n"}).Err()
	}
}

func has(t *testing.T, r *redis.Client, want string) {
	t.Helper()
	if got, err := r.Get(t.Context(), "n").Result(); got != want || err != nil && !errors.Is(err, redis.Nil) {
		t.Errorf("redis has %q, %v, want %q", got, err, want)
	}
}

func TestPoints_ACommandIsHeldBeforeItIsDone(t *testing.T) {
	at, direct, through, run := caller(t, false, fleet.Patience)
	if err := through.Set(t.Context(), "other", "1", 0).Err(); err != nil {
		t.Fatalf("another command: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- run() }()
	<-at.Reached()
	has(t, direct, "")
	at.Release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	has(t, direct, "1")
	if err := run(); err != nil { // held once
		t.Fatal(err)
	}
	has(t, direct, "2")
}

func TestPoints_AnAnswerIsHeldAfterItIsDone(t *testing.T) {
	at, direct, _, run := caller(t, true, fleet.Patience)
	done := make(chan error, 1)
	go func() { done <- run() }()
	<-at.Reached()
	has(t, direct, "1")
	select {
	case err := <-done:
		t.Fatalf("answered while it was held: %v", err)
	default:
	}
	at.Release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestPoints_WhatIsHeldIsLostWithItsConnection(t *testing.T) {
	at, direct, _, run := caller(t, false, 100*time.Millisecond)
	var late net.Error
	if err := run(); !errors.As(err, &late) || !late.Timeout() {
		t.Fatalf("held, it is answered with %v, want a time-out", err)
	}
	<-at.Reached()
	fleet.Eventually(t, fleet.Patience, "the connection is gone", func() error {
		all, err := direct.ClientList(t.Context()).Result()
		if n := strings.Count(all, "\n"); err == nil && n != 1 {
			err = fmt.Errorf("redis has %d connections, want ours alone", n)
		}
		return err
	})
	at.Release()
	if err := run(); err != nil {
		t.Fatal(err)
	}
	has(t, direct, "1") // and not 2
}

// Who wrote it was told that it is written: no deadline of the writer's ends it later.
func TestPoints_WhatWasHeldComesThroughHoweverLate(t *testing.T) {
	var points fault.Points
	near, far := net.Pipe()
	defer far.Close()
	c := points.Conn(near)
	defer c.Close()
	const ping = "*1\r\n$4\r\nPING\r\n"
	at := points.At(fault.Step{Does: func([][]byte) bool { return true }})
	if _, err := c.Write([]byte(ping)); err != nil {
		t.Fatal(err)
	}
	<-at.Reached()
	if err := c.SetWriteDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := far.SetReadDeadline(time.Now().Add(fleet.Patience)); err != nil {
		t.Fatal(err)
	}
	at.Release()
	got := make([]byte, len(ping))
	if _, err := io.ReadFull(far, got); err != nil || string(got) != ping {
		t.Errorf("%q, %v came through", got, err)
	}
}
