package fault_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"godwit/e2e/fault"
	"godwit/e2e/fleet"
)

// bench is a subscriber behind a proxy and a publisher that is not.
type bench struct {
	proxy *fault.Proxy
	pub   *redis.Client
	sub   *redis.Client
	ears  *redis.PubSub
}

const room, control = "gw:{r:lobby}:ev", "gw:{n:a/b}:ctl"

func newBench(t *testing.T, protocol int, seed uint64) *bench {
	t.Helper()
	r := fleet.StartRedis(t)
	p, err := fault.Listen(r.Addr(), seed)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	b := &bench{proxy: p, pub: r.Client}
	b.sub = redis.NewClient(&redis.Options{Addr: p.Addr(), Protocol: protocol, ContextTimeoutEnabled: true})
	b.ears = b.sub.Subscribe(t.Context(), room, control)
	t.Cleanup(func() { b.ears.Close(); b.sub.Close() })
	for range 2 {
		if _, err := b.ears.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func (b *bench) publish(t *testing.T, channel string, from, to int, pad string) {
	t.Helper()
	for i := from; i <= to; i++ {
		if err := b.pub.Publish(t.Context(), channel, fmt.Sprintf("%d%s", i, pad)).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// hear publishes an end mark on the control channel and is all that came before
// it.
func (b *bench) hear(t *testing.T) []string {
	t.Helper()
	b.publish(t, control, 0, 0, "end")
	ctx, cancel := context.WithTimeout(t.Context(), fleet.Patience)
	defer cancel()
	var got []string
	for {
		m, err := b.ears.ReceiveMessage(ctx)
		if err != nil {
			t.Fatalf("after %d messages: %v", len(got), err)
		}
		if m.Payload == "0end" {
			return got
		}
		got = append(got, strings.TrimRight(m.Payload, "x"))
	}
}

func TestProxy_LosesOneRoomMessageInAHundredAndNothingElse(t *testing.T) {
	for _, protocol := range []int{2, 3} {
		t.Run(fmt.Sprintf("RESP%d", protocol), func(t *testing.T) {
			b := newBench(t, protocol, 7)
			b.proxy.Set(fault.Spoil{Channel: fault.Rooms, LoseOneIn: 100})
			b.publish(t, room, 1, 1000, strings.Repeat("x", 2000))
			got := b.hear(t)
			lost := b.proxy.Counts().Lost
			if lost < 2 || lost > 40 || len(got) != 1000-int(lost) {
				t.Errorf("of 1000 messages %d came and %d are counted as lost, want about ten lost", len(got), lost)
			}
			b.publish(t, control, 1, 300, "")
			if got := b.hear(t); len(got) != 300 {
				t.Errorf("of 300 control messages %d came, want all", len(got))
			}
			if err := b.sub.Set(t.Context(), "key", strings.Repeat("v", 100_000), 0).Err(); err != nil {
				t.Fatal(err)
			}
			if v, err := b.sub.Get(t.Context(), "key").Result(); err != nil || len(v) != 100_000 {
				t.Errorf("a large value came with %d bytes, %v", len(v), err)
			}
			if n := b.proxy.Counts().Unread; n != 0 {
				t.Errorf("%d connections were not understood", n)
			}
		})
	}
}

func TestProxy_LosesTheSameMessagesForTheSameSeed(t *testing.T) {
	var runs [][]string
	for range 2 {
		b := newBench(t, 3, 42)
		b.proxy.Set(fault.Spoil{Channel: fault.Rooms, LoseOneIn: 10})
		b.publish(t, room, 1, 200, "")
		runs = append(runs, b.hear(t))
	}
	if !slices.Equal(runs[0], runs[1]) || len(runs[0]) == 200 {
		t.Errorf("one run had %d messages, the other %d, want the same", len(runs[0]), len(runs[1]))
	}
}

func TestProxy_ExchangesNeighbours(t *testing.T) {
	b := newBench(t, 3, 1)
	b.proxy.Set(fault.Spoil{Channel: fault.Rooms, SwapOneIn: 5})
	b.publish(t, room, 1, 100, "")
	got := b.hear(t)
	b.proxy.Set(fault.Spoil{})
	b.publish(t, room, 101, 101, "")
	got = append(got, b.hear(t)...) // with one that was held back until the mark had passed
	if len(got) != 101 {
		t.Errorf("%d messages came, want all 101", len(got))
	}
	inOrder := slices.IsSortedFunc(got, func(a, b string) int { return len(a) - len(b) }) // 9 before 10, 99 before 100
	sorted := slices.Clone(got)
	slices.Sort(sorted)
	if len(slices.Compact(sorted)) != 101 {
		t.Error("a message came twice")
	}
	if b.proxy.Counts().Swapped == 0 || inOrder && slices.IsSorted(got[:9]) && slices.IsSorted(got[9:99]) {
		t.Errorf("%d exchanged, want some: %v", b.proxy.Counts().Swapped, got)
	}
}

func TestProxy_DeafLosesMessagesWhileAnswersPass(t *testing.T) {
	b := newBench(t, 3, 1)
	b.proxy.Set(fault.Spoil{Deaf: true})
	b.publish(t, room, 1, 10, "")
	if err := b.ears.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	m, err := b.ears.ReceiveTimeout(t.Context(), fleet.Patience)
	if _, pong := m.(*redis.Pong); !pong || err != nil {
		t.Fatalf("a deaf subscriber got %v, %v; want the pong", m, err)
	}
	b.proxy.Set(fault.Spoil{})
	b.publish(t, room, 11, 11, "")
	if got := b.hear(t); !slices.Equal(got, []string{"11"}) {
		t.Errorf("after it hears again: %v, want what is new", got)
	}
}

func TestProxy_FreezeHoldsBytesAndThawLetsThemGo(t *testing.T) {
	b := newBench(t, 3, 1)
	b.proxy.Freeze()
	b.publish(t, room, 1, 5, "")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := b.sub.Ping(ctx).Err(); err == nil {
		t.Error("a ping went through a frozen proxy")
	}
	b.proxy.Thaw()
	if got := b.hear(t); len(got) != 5 {
		t.Errorf("%d messages after the thaw, want 5", len(got))
	}
}

func TestProxy_CutEndsConnectionsAndLetsNewOnesIn(t *testing.T) {
	b := newBench(t, 3, 1)
	b.proxy.CutSubscriptions()
	if _, err := b.ears.ReceiveTimeout(t.Context(), fleet.Patience); err == nil {
		t.Fatal("the subscription outlived the cut")
	}
	b.proxy.Cut()
	if err := b.sub.Ping(t.Context()).Err(); err != nil {
		t.Errorf("after the cut: %v, want a new connection", err)
	}
	b.proxy.Refuse(true)
	b.proxy.Cut()
	if err := b.sub.Ping(t.Context()).Err(); err == nil {
		t.Error("a connection came through while all are refused")
	}
}
