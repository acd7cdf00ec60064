package redisset

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestSentinel_ReplacesAPrimaryThatIsKilledAndEndsWithoutATrace(t *testing.T) {
	ctx := within(t)
	s, err := StartSentinel(ctx, Options{Dir: t.TempDir(), Silent: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.Primary(ctx)
	if err != nil || first != s.Data[0] {
		t.Fatalf("primary %v, %v", first, err)
	}
	first.Kill()
	if err := until(ctx, "a replica is the primary", func() error {
		c := s.Client()
		defer c.Close()
		return c.Set(ctx, "k", "v", 0).Err()
	}); err != nil {
		t.Fatal(err)
	}
	if err := first.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.FailOver(ctx); err != nil {
		t.Fatal(err)
	}
	s.Close()
	for _, one := range s.Servers() {
		if one.Runs() {
			t.Errorf("%s is there still", one.Addr)
		}
	}
}

func TestCluster_MovesASlotAndEndsWithoutATrace(t *testing.T) {
	ctx := within(t)
	c, err := StartCluster(ctx, Options{Dir: t.TempDir(), Silent: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	all, err := c.Primaries(ctx)
	if err != nil || len(all) != Shards {
		t.Fatalf("primaries %v, %v", all, err)
	}
	at, err := c.Primary(ctx, "foo")
	if err != nil || at != all[2] && at != all[1] && at != all[0] {
		t.Fatalf("primary of foo %v, %v", at, err)
	}
	if err := at.Client.Set(ctx, "foo", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	to := all[0]
	if to == at {
		to = all[1]
	}
	steps := 0
	if err := c.Move(ctx, 12182, at, to, func() { steps++ }); err != nil {
		t.Fatal(err)
	}
	if v, err := to.Client.Get(ctx, "foo").Result(); v != "v" || err != nil || steps != 2 {
		t.Errorf("after %d steps foo is %q, %v", steps, v, err)
	}
	c.Close()
	for _, one := range c.Servers() {
		if one.Runs() {
			t.Errorf("%s is there still", one.Addr)
		}
	}
}
