package main

import (
	"context"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"net/url"
	"slices"
	"time"

	"github.com/rs/xid"
)

const (
	// soakTell is how often a soak of a fleet elsewhere says how it goes.
	soakTell = 10 * time.Second
	// soakVisit is how long it lasts at most, when nobody says so.
	soakVisit = 24 * time.Hour
)

// elsewhere checks what says where a fleet is that runs elsewhere, and fills
// what was left to us.
func (o *soakOptions) elsewhere(set func(flag string) bool, env []string) (wrong []error) {
	if len(o.urls) == 0 {
		if set("for") {
			wrong = append(wrong, errors.New("--for: expected only with --url"))
		}
		return wrong
	}
	for _, raw := range o.urls {
		if u, err := url.Parse(raw); err != nil || u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "" || u.User != nil {
			wrong = append(wrong, errors.New("--url: expected ws://host:port/v1/ws or wss://"))
		}
	}
	for _, flag := range []string{"nodes", "rollouts", "kill", "packed", "budget", "redis", "logs"} {
		if set(flag) {
			wrong = append(wrong, fmt.Errorf("--%s: expected nothing beside --url: nodes are started and ended by others", flag))
		}
	}
	if o.talk < 0 || set("for") && o.talk == 0 {
		wrong = append(wrong, errors.New("--for: expected more than 0"))
	}
	if !set("timeout") {
		o.timeout = soakVisit
		if o.talk > 0 {
			o.timeout = 5*time.Minute + o.talk
		}
	}
	vars := environment(env)
	if err := fromFile(vars, "GODWIT_AUTH_SECRET"); err != nil {
		wrong = append(wrong, err)
	}
	o.secret = vars["GODWIT_AUTH_SECRET"]
	return wrong
}

// visit lets the crowd talk to a fleet that others run, and prints the result.
func (s *soak) visit(ctx context.Context) error {
	life, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	bounded, stop := context.WithTimeoutCause(life, s.o.timeout, errSoakTime)
	defer stop()
	// A signal breaks the run off, but where it is what ends the talk.
	off := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	defer off()
	name := "soak-" + xid.New().String()
	began := time.Now()
	s.crowd = newCrowd(s.o, name, s.o.secret)
	s.say("%s, seed %d: %d clients in %d rooms, %g messages a second", name, s.o.seed, s.o.clients, s.o.rooms, s.o.rate)
	err := s.crowd.enter(bounded, s.addresses)
	if err == nil {
		err = s.crowd.call(bounded)
	}
	if err == nil {
		var enough <-chan struct{} // nil: the time of --for is
		if s.o.talk == 0 && off() {
			enough = ctx.Done()
		}
		s.say("all clients are in after %s", tenths(time.Since(began)))
		err = s.listen(bounded, enough)
	}
	if bounded.Err() != nil {
		err = context.Cause(bounded)
	}
	r := s.result(bounded, began, err)
	s.crowd.close()
	if err := r.print(s.out, s.o.json); err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	return r.verdict()
}

// addresses are those of the fleet for the nth client, each begins with another.
func (s *soak) addresses(nth int) []string {
	at := nth % len(s.o.urls)
	return slices.Concat(s.o.urls[at:], s.o.urls[:at])
}

// listen lets the crowd talk until it is enough, and says how it goes.
func (s *soak) listen(ctx context.Context, enough <-chan struct{}) error {
	c := s.crowd
	c.talk(mrand.New(mrand.NewPCG(s.o.seed, 0)))
	var over <-chan time.Time
	if s.o.talk > 0 {
		over = time.After(s.o.talk)
	}
	tell := time.NewTicker(soakTell)
	defer tell.Stop()
	spoken, began := c.spoken, time.Now()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-spoken:
			spoken = nil
			s.say("the first message is answered after %s", tenths(time.Since(began)))
			continue
		case <-tell.C:
			s.say("at %d nodes; %d handed over, %d resumed, %d sessions lost so far",
				c.nodes(), c.handed.Load(), c.resumed.Load(), c.lost.Load())
			continue
		case <-over:
		case <-enough:
		}
		s.say("the talk ends; waiting until everybody has seen everything")
		return nil
	}
}

// nodes is how many nodes the clients are attached to.
func (c *crowd) nodes() int {
	names := map[string]bool{}
	for _, p := range c.people {
		names[p.at()] = true
	}
	return len(names)
}
