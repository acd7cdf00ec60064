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

func TestBalance_ANodeThatJoinsGetsItsShareAndNobodyMovesTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := trial.Start(trial.Options{Nodes: 4, Bubble: true, Change: func(s *trial.Settings) {
			s.Server.Rebalance, s.Server.Lease, s.Store.Lease = true, 3*time.Second, 3*time.Second
		}})
		defer f.Close()
		f.Nodes[3].Cut()
		const each = 20
		moves := make(chan passage, 4*each)
		var following sync.WaitGroup
		for i := range 3 * each {
			p := follower(t, f, 1+i%3, fmt.Sprint("u", i))
			following.Go(func() { p.follow(f, moves) })
		}
		time.Sleep(30 * time.Second)
		if n := len(moves); n > 0 {
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
		for range len(moves) {
			m := <-moves
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
		for _, n := range f.Nodes {
			n.Cut()
		}
		following.Wait()
	})
}

// Who was moved is left alone for a minute, though the node has too many again.
func TestBalance_WhoHasJustMovedStaysForAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := trial.Start(trial.Options{Nodes: 3, Bubble: true, Change: func(s *trial.Settings) {
			s.Server.Rebalance, s.Server.Lease, s.Store.Lease = true, 3*time.Second, 3*time.Second
		}})
		defer f.Close()
		f.Nodes[1].Cut()
		f.Nodes[2].Cut()
		moves := make(chan passage, 100)
		var following sync.WaitGroup
		for i := range 20 {
			p := follower(t, f, 1, fmt.Sprint("u", i))
			following.Go(func() { p.follow(f, moves) })
		}
		f.Restart(1)
		time.Sleep(20 * time.Second)
		moved := len(moves)
		if moved < 5 {
			t.Fatalf("%d moves to a node that has joined", moved)
		}
		f.Nodes[0].Hang() // all who are left there are gone
		f.Restart(2)
		time.Sleep(30 * time.Second)
		if n := len(moves) - moved; n > 0 {
			t.Errorf("%d moves within a minute of the last", n)
		}
		time.Sleep(time.Minute)
		if len(moves) == moved {
			t.Error("no moves after a minute")
		}
		for _, n := range f.Nodes {
			n.Cut()
		}
		following.Wait()
	})
}

func TestBalance_OffItMovesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := trial.Start(trial.Options{Nodes: 2, Bubble: true, Change: func(s *trial.Settings) {
			s.Server.Rebalance, s.Server.Lease, s.Store.Lease = false, 3*time.Second, 3*time.Second
		}})
		defer f.Close()
		f.Nodes[1].Cut()
		moves := make(chan passage, 100)
		var following sync.WaitGroup
		for i := range 20 {
			p := follower(t, f, 1, fmt.Sprint("u", i))
			following.Go(func() { p.follow(f, moves) })
		}
		f.Restart(1)
		time.Sleep(time.Minute)
		if n := len(moves); n > 0 || f.Nodes[0].Core.Sessions() != 20 {
			t.Errorf("%d moves, and %d sessions where there were 20", n, f.Nodes[0].Core.Sessions())
		}
		for _, n := range f.Nodes {
			n.Cut()
		}
		following.Wait()
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
