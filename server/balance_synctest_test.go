package server_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json"

	"godwit/e2e/raw"
	"godwit/internal/trial"
	"godwit/wire"
)

// flock is a fleet in a bubble, and people who go where it leads them.
type flock struct {
	*trial.Fleet
	moves     chan passage
	following sync.WaitGroup
}

// led runs a test with a flock of that many nodes, of which all but the first up
// are away.
func led(t *testing.T, nodes, up int, rebalance bool, test func(t *testing.T, f *flock)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &flock{moves: make(chan passage, 100), Fleet: trial.Start(trial.Options{Nodes: nodes, Bubble: true, Change: func(s *trial.Settings) {
			s.Server.Rebalance, s.Server.Lease, s.Store.Lease = rebalance, 3*time.Second, 3*time.Second
		}})}
		defer f.following.Wait()
		defer f.Close() // and with it every socket
		for _, n := range f.Nodes[up:] {
			n.Cut()
		}
		test(t, f)
	})
}

// enter logs a user in at a node.
func (f *flock) enter(t *testing.T, node int, user string) {
	t.Helper()
	p := follower(t, f.Fleet, node, user)
	f.following.Go(func() { p.follow(f.Fleet, f.moves) })
}

func TestBalance_ANodeThatJoinsGetsItsShareAndNobodyMovesTwice(t *testing.T) {
	led(t, 4, 3, true, func(t *testing.T, f *flock) {
		const each = 20
		for i := range 3 * each {
			f.enter(t, 1+i%3, fmt.Sprint("u", i))
		}
		time.Sleep(30 * time.Second)
		if n := len(f.moves); n > 0 {
			t.Errorf("%d moves in a fleet that is even", n)
		}
		f.Restart(3)
		began := time.Now()
		time.Sleep(90 * time.Second)
		loads, all := make([]int, 4), 0
		for i, n := range f.Nodes {
			loads[i] = n.Core.Sessions()
			all += loads[i]
		}
		// 60 of 4 nodes: a mean of 15, of which 1.15 is 17.
		if slices.Max(loads) > 17 || all != 3*each {
			t.Errorf("loads %v after %s", loads, time.Since(began))
		}
		seen, seconds := make(map[string]bool), make(map[time.Duration]int)
		for range len(f.moves) {
			m := <-f.moves
			seconds[m.at.Sub(began)/time.Second]++
			if seen[m.user] {
				t.Errorf("%s moved twice", m.user)
			}
			if m.to != f.Nodes[3].URL {
				t.Errorf("%s moved to %s, which had its share", m.user, m.to)
			}
			seen[m.user] = true
		}
		for second, n := range seconds {
			if n > 2*3 { // one of each 20 that has too many, and one that was on its way before
				t.Errorf("%d moves within second %d, want a hundredth, or one, of each node's", n, second)
			}
		}
	})
}

// Who was moved is left alone for a minute, though the node has too many again.
func TestBalance_WhoHasJustMovedStaysForAMinute(t *testing.T) {
	led(t, 3, 1, true, func(t *testing.T, f *flock) {
		for i := range 20 {
			f.enter(t, 1, fmt.Sprint("u", i))
		}
		f.Restart(1)
		time.Sleep(20 * time.Second)
		moved := len(f.moves)
		if moved < 5 {
			t.Fatalf("%d moves to a node that has joined", moved)
		}
		f.Nodes[0].Hang() // all who are left there are gone
		f.Restart(2)
		time.Sleep(30 * time.Second)
		if n := len(f.moves) - moved; n > 0 {
			t.Errorf("%d moves within a minute of the last", n)
		}
		time.Sleep(time.Minute)
		if len(f.moves) == moved {
			t.Error("no moves after a minute")
		}
	})
}

func TestBalance_OffItMovesNobody(t *testing.T) {
	led(t, 2, 1, false, func(t *testing.T, f *flock) {
		for i := range 20 {
			f.enter(t, 1, fmt.Sprint("u", i))
		}
		f.Restart(1)
		time.Sleep(time.Minute)
		if n := len(f.moves); n > 0 || f.Nodes[0].Core.Sessions() != 20 {
			t.Errorf("%d moves, and %d sessions where there were 20", n, f.Nodes[0].Core.Sessions())
		}
	})
}

// passage is one move.
type passage struct {
	user, to string
	at       time.Time
}

// follow takes every offer up until the last socket ends.
func (p *person) follow(f *trial.Fleet, moves chan<- passage) {
	for {
		n, err := p.next(context.Background())
		if err != nil {
			return
		}
		var o wire.Redirect
		if n.Method != "redirect" || json.Unmarshal(n.Params, &o) != nil {
			continue
		}
		if o.URL == p.lost {
			if p.says > 0 {
				time.Sleep(p.says)
				_ = p.Call(context.Background(), "redirect.refuse", wire.RedirectRefuse{ID: o.ID, Reason: wire.RefusedDial}, nil)
			}
			continue
		}
		conn, err := f.Dial(context.Background(), "tcp", strings.TrimSuffix(strings.TrimPrefix(o.URL, "ws://"), "/"))
		if err != nil {
			continue
		}
		next, err := raw.Over(conn, o.URL, nil)
		if err != nil {
			continue
		}
		if next.Call(context.Background(), "handover", wire.Handover{ID: o.ID, Token: o.Token, Caps: []string{"redirect"}}, nil) != nil {
			next.Drop()
			continue
		}
		moves <- passage{p.session.User, o.URL, time.Now()}
		_ = next.Call(context.Background(), "handover.done", wire.HandoverDone{ID: o.ID}, nil) // else its timer
		p.Conn.Drop()
		p.Conn = next
	}
}
