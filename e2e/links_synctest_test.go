package e2e

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"godwit/e2e/fault"
	"godwit/e2e/fleet"
	"godwit/internal/trial"
)

// moments are those of a redirect at which the client's sockets come in: right
// before each thing that is said on them, and right after.
func moments() []fault.Moment {
	var all []fault.Moment
	for _, m := range []fault.Moment{
		{Name: "the offer", Old: true, Down: true, Text: `"method":"redirect"`},
		{Name: "the dial", Text: fault.DialFrame},
		{Name: "the upgrade", Text: "GET "},
		{Name: "the answer to the upgrade", Down: true, Text: "HTTP/1.1 101"},
		{Name: "the handover", Text: `"method":"handover"`},
		{Name: "the answer to the handover", Down: true, Text: `"resumed":true`},
		{Name: "the first event at the target", Down: true, Text: `"method":"room.event"`},
		{Name: "the ninth event of a replay", Down: true, Text: `"method":"room.event"`, Nth: 9, Behind: 2 * time.Second},
		{Name: "the word that the old socket is needed no more", Text: `"method":"handover.done"`},
		{Name: "the source's last word", Old: true, Down: true, Text: `"method":"moved"`},
		{Name: "the old socket's close", Old: true, Down: true, Text: fault.CloseFrame},
	} {
		m.Name = "before " + m.Name
		all = append(all, m)
		m.Name, m.After = "after"+m.Name[len("before"):], true
		all = append(all, m)
	}
	return all
}

// blow is what befalls sockets of a client.
type blow struct {
	name  string
	which fault.Which
	cut   bool
	lasts time.Duration // not cut: until bytes pass again; 0: they do not
}

func blows() (all []blow) {
	for _, which := range []struct {
		name string
		fault.Which
	}{
		{"the old socket", fault.Which{Old: true}},
		{"the new socket", fault.Which{New: true}},
		{"both sockets", fault.Which{Old: true, New: true}},
	} {
		all = append(all,
			blow{which.name + " ends", which.Which, true, 0},
			blow{which.name + " stops for a moment", which.Which, false, 700 * time.Millisecond},
			blow{which.name + " stops for good", which.Which, false, 0},
		)
	}
	return all
}

// outcome is how a redirect ends: whether the session has moved, and how many
// sockets were lost besides.
type outcome struct {
	moved   bool
	dropped int64
}

// promised is what must become of a redirect, whatever else may happen: one socket
// that fails is of no account while the session has no need of it. The second result
// is false where more than that is not promised.
func promised(all []fault.Moment, at int, b blow) (outcome, bool) {
	said := slices.IndexFunc(all, func(m fault.Moment) bool { return m.Name == "before the handover" })
	switch {
	case b.lasts > 0:
		return outcome{moved: true}, true
	case b.which == fault.Which{Old: true} && (at >= said || at > 0 && !b.cut):
		return outcome{moved: true}, true
	case b.which == fault.Which{New: true} && at <= said:
		return outcome{moved: false}, true
	}
	return outcome{}, false
}

// TestChaos_AClientsSocketFailsAtAnyStepOfARedirect lets each thing happen at
// each step, in virtual time; in a single run, one thing at each step.
func TestChaos_AClientsSocketFailsAtAnyStepOfARedirect(t *testing.T) {
	rng, seed := choices(t)
	ways := moments()
	for at, m := range ways {
		all := blows()
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		if *runs == 1 {
			all = all[:1]
		}
		for i, b := range all {
			synctest.Test(t, func(t *testing.T) {
				var line *fault.Line
				f, c := bubbleOver(t, rand.New(rand.NewPCG(seed, uint64(i))), calm, impatient, func(person int, network fault.Dialler) fault.Dialler {
					if person != 0 {
						return network
					}
					line = fault.NewLine(network)
					t.Cleanup(line.Close) // after the client's
					return line.Dial
				})
				c.rehearse()
				c.hear(5)
				c.blown(line, m, b)
				c.whole(func() ([]int, error) {
					var n []int
					for _, node := range f.Nodes {
						n = append(n, node.Core.Sessions())
					}
					return n, nil
				})
				if stirs := c.stirs(); len(stirs) > 0 {
					t.Errorf("nobody's presence has changed, and %q", stirs)
				}
				end := outcome{moved: c.moved.Load() == 2, dropped: c.dropped.Load()} // one was the rehearsal
				if want, sure := promised(ways, at, b); sure && end != want {
					t.Errorf("ends with %+v, want %+v", end, want)
				}
				if t.Failed() {
					t.Fatalf("%s, %s", m.Name, b.name)
				}
			})
		}
	}
}

// blown has the first one of a crowd redirected to the second node, and lets
// something happen to its sockets when the moment has come. It returns when the talk
// goes on, that of the first one too.
func (c *crowd) blown(line *fault.Line, m fault.Moment, b blow) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), fleet.Patience)
	defer cancel()
	reached := line.At(m, b.which, b.cut)
	asked := make(chan error, 1)
	go func() { asked <- c.people[0].client.RequestRedirect(ctx, "n2") }()
	select {
	case <-reached:
	case <-ctx.Done():
		c.t.Fatalf("%s was not reached; the request was answered: %v", m.Name, <-asked)
	}
	if b.lasts > 0 {
		<-time.After(b.lasts)
		line.Thaw()
	}
	<-time.After(3 * time.Second)
	if err := <-asked; errors.Is(err, context.DeadlineExceeded) {
		c.t.Errorf("the request had no answer: %v", err)
	}
	c.say(c.people[0], c.rooms[0], rand.New(rand.NewPCG(1, 1)))
	c.hear(20)
}

// calm is threePeople who talk less.
var calm = size{people: 3, rooms: 1, roomsEach: 1, pause: 200 * time.Millisecond}

// impatient nodes notice soon that a socket is silent.
func impatient(s *trial.Settings) { s.Server.Ping, s.Socket.Ping = time.Second, time.Second }
