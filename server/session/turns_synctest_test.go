package session

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestTurns_SoManyAtOnceAndTheOthersInTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := NewTurns()
		var taken []turn
		for range turnsAtOnce {
			one, ok := turns.take(t.Context())
			if !ok {
				t.Fatal("no turn, though there are some")
			}
			taken = append(taken, one)
		}
		came := make(chan int, 3)
		for i := range 3 {
			go func() {
				if _, ok := turns.take(t.Context()); ok {
					came <- i
				}
			}()
			synctest.Wait()
		}
		time.Sleep(turnWithin - time.Millisecond)
		if len(came) != 0 {
			t.Fatalf("%d came in though all turns are taken", len(came))
		}
		taken[0].done()
		synctest.Wait()
		taken[1].done()
		synctest.Wait()
		if first, second := <-came, <-came; first != 0 || second != 1 {
			t.Errorf("%d came before %d, want who was first", first, second)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		taken[2].done()
		synctest.Wait()
		if len(came) != 0 {
			t.Error("who had waited too long came in")
		}
	})
}

func TestTurns_WhoGoesAwayWaitsNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := NewTurns()
		for range turnsAtOnce {
			turns.take(t.Context())
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		began := time.Now()
		if _, ok := turns.take(ctx); ok || time.Since(began) != time.Second {
			t.Errorf("a turn: %t, after %s", ok, time.Since(began))
		}
	})
}

func TestTurns_WhoWaitedLongIsTooLateToTakeUpASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := NewTurns()
		first, _ := turns.take(t.Context())
		for range turnsAtOnce - 1 {
			turns.take(t.Context())
		}
		time.AfterFunc(turnWithin-time.Millisecond, first.done)
		second, ok := turns.take(t.Context())
		if !ok || second.late() {
			t.Fatalf("a turn: %t, late: %t", ok, second.late())
		}
		time.Sleep(claimWithin - turnWithin + 2*time.Millisecond)
		if !second.late() {
			t.Error("its waiting does not count")
		}
	})
}
