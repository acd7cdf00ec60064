package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"godwit/e2e/fault"
	"godwit/e2e/fleet"
)

// A redirect in directed mode goes from the first node to the second; a third
// looks on.
const (
	source = iota
	target
	onlooker
)

// step is one of a redirect, at the node that does it.
type step struct {
	at int // source or target
	fault.Step
}

// steps are the moments of a redirect at which the store comes in: right before
// each thing that a node says to it, and right after.
func steps(t *testing.T) []step {
	t.Helper()
	var all []step
	for _, s := range []struct {
		at   int
		name string
		does func([][]byte) bool
	}{
		{source, "a place is asked for", fault.Says(`"prepare"`)},
		{target, "a place is kept", fault.Says(`"prepared"`)},
		{source, "the offer is written", fault.Runs(script(t, "offer"))},
		{target, "the claim", fault.On("}:redirect")},
		{target, "a room is attached", fault.Runs(script(t, "head", "room", "attach"))},
		{target, "the source is told of the claim", fault.Says(`"claimed"`)},
		{target, "the source is told of the end", fault.Says(`"done"`)},
	} {
		for _, after := range []bool{false, true} {
			moment := "before "
			if after {
				moment = "after "
			}
			all = append(all, step{s.at, fault.Step{Name: moment + s.name, Does: s.does, Answered: after}})
		}
	}
	return all
}

// script is the text of a script of the store, of its parts.
func script(t *testing.T, parts ...string) string {
	t.Helper()
	text := ""
	for _, name := range parts {
		b, err := os.ReadFile(filepath.Join("..", "store", name+".lua"))
		if err != nil {
			t.Fatal(err)
		}
		text += string(b)
	}
	return text
}

// mishaps is how many there are.
const mishaps = 6

// mishap is what befalls a fleet at a step, and how it ends.
type mishap struct {
	name  string
	begin func()
	end   func() // nil: it does not
}

// threePeople have one room, and each a node.
var threePeople = size{people: 3, rooms: 1, roomsEach: 1, pause: 40 * time.Millisecond}

// rehearse has the second one of a crowd redirected to the third node, so that
// Redis has loaded every script.
func (c *crowd) rehearse() {
	c.t.Helper()
	if err := c.people[1].client.RequestRedirect(c.t.Context(), "n3"); err != nil {
		c.t.Fatal(err)
	}
	fleet.Eventually(c.t, fleet.Patience, "a first redirect", func() error {
		if n := c.moved.Load(); n != 1 {
			return fmt.Errorf("%d sessions have moved, want 1", n)
		}
		return nil
	})
}

// move has the first one of a crowd redirected to the second node, and lets
// something happen when the step is reached. It returns when the talk goes on.
func (c *crowd) move(at *fault.Point, what mishap, lasts time.Duration) error {
	ctx, cancel := context.WithTimeout(c.t.Context(), fleet.Patience)
	defer cancel()
	asked := make(chan error, 1)
	go func() { asked <- c.people[0].client.RequestRedirect(ctx, "n2") }()
	select {
	case <-at.Reached():
	case <-ctx.Done():
		at.Release()
		return fmt.Errorf("the step was not reached; the request was answered: %v", <-asked)
	}
	what.begin()
	at.Release()
	<-time.After(lasts)
	if what.end != nil {
		what.end()
	}
	if err := <-asked; errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the request had no answer: %w", err)
	}
	c.hear(20)
	return nil
}

// whole ends the talk: nothing was lost, nobody was told of a gap, and each
// session is at exactly one node. loads are the nodes' sessions, as they say.
func (c *crowd) whole(loads func() ([]int, error)) {
	c.t.Helper()
	if r := c.settle(catchUp); r.Excused != 0 {
		c.t.Errorf("%d times a client was told of a gap, a reset or a lost session; nothing here excuses that", r.Excused)
	}
	fleet.Eventually(c.t, fleet.Patience, "each session is at one node", func() error {
		n, err := loads()
		sum := 0
		for _, one := range n {
			sum += one
		}
		if err == nil && sum != len(c.people) {
			err = fmt.Errorf("the nodes have %v sessions, of %d people", n, len(c.people))
		}
		return err
	})
}
