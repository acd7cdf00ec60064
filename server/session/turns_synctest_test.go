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
		var dones []func()
		for range turnsAtOnce {
			done, ok := turns.take(t.Context())
			if !ok {
				t.Fatal("no turn, though there are some")
			}
			dones = append(dones, done)
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
		dones[0]()
		synctest.Wait()
		dones[1]()
		synctest.Wait()
		if first, second := <-came, <-came; first != 0 || second != 1 {
			t.Errorf("%d came before %d, want who was first", first, second)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		dones[2]()
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
