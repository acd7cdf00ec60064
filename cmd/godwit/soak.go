package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/rs/xid"
	"github.com/spf13/cobra"

	"godwit/store"
)

const (
	soakMostNodes   = 16
	soakMostClients = 20_000
	soakMostRate    = 50 // messages a second of one client: half of what a node allows it
	// soakQuiet and twice that bound the talk between two faults.
	soakQuiet = time.Second
	// soakBack is how long after its node is back the last client may be.
	soakBack = time.Minute
)

// soakOptions are the flags.
type soakOptions struct {
	nodes, clients, rooms, rollouts int
	rate                            float64
	kill, stay, packed, json        bool
	budget, timeout                 time.Duration
	redis, logs                     string
	seed                            uint64
	urls                            []string      // of a fleet that runs elsewhere; empty: of our own
	talk                            time.Duration // there; 0: until a signal
	secret                          string        // of its tokens; empty: dev tokens
}

func soakCommand(env []string) *cobra.Command {
	var o soakOptions
	c := &cobra.Command{
		Use:   "soak",
		Short: "Prove it here: a fleet whose nodes are ended and started again while clients talk",
		Long: "Runs nodes and a redis-server as processes, lets clients talk in rooms, two of each in a call, and\n" +
			"ends every node in turn and starts it again, as a deploy does. Each client keeps a ledger of what it\n" +
			"sent, was answered and saw; the ledgers are laid beside each other all the time.\n\n" +
			"With --url the clients talk to a fleet that runs elsewhere, whatever is done to it meanwhile: a rollout, a\n" +
			"node that is killed. They talk for the time of --for, or until Ctrl-C, which then is the proper end.\n\n" +
			"Exits 0 when nothing was lost, doubled, reordered or seen that should not be, else 1; a run that\n" +
			"was ended early, by Ctrl-C or --timeout, is 1. Progress goes to stderr, the result to stdout.",
		Example: "  godwit soak\n  godwit soak --kill --clients 1000 --rollouts 3 --json\n" +
			"  GODWIT_AUTH_SECRET=... godwit soak --url wss://chat.example.org/v1/ws --clients 100",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.fill(c.Flags().Changed, env); err != nil {
				return usage{err}
			}
			ctx, stop := untilSignal(c.Context())
			defer stop()
			s := &soak{o: o, env: env, out: c.OutOrStdout(), errs: c.ErrOrStderr()}
			if len(o.urls) > 0 {
				return s.visit(ctx)
			}
			return s.run(ctx)
		},
	}
	f := c.Flags()
	f.IntVar(&o.nodes, "nodes", 3, "how many nodes")
	f.IntVar(&o.clients, "clients", 200, "how many clients")
	f.IntVar(&o.rooms, "rooms", 0, "how many rooms (default: a room for 20 clients)")
	f.Float64Var(&o.rate, "rate", 0, "messages a second, of all clients together (default: a tenth of the clients)")
	f.IntVar(&o.rollouts, "rollouts", 1, "how often every node in turn is ended and started again")
	f.BoolVar(&o.kill, "kill", false, "end nodes by SIGKILL; otherwise by SIGTERM, which drains them")
	f.BoolVar(&o.packed, "packed", false, "all clients begin at the first node (GODWIT_REBALANCE=false leaves them there)")
	f.BoolVar(&o.stay, "no-redirect", false, "clients follow no redirect: they are told bye, and resume elsewhere")
	f.DurationVar(&o.budget, "budget", 10*time.Second, "GODWIT_DRAIN_BUDGET of the nodes")
	f.StringVar(&o.redis, "redis", "", "URL of the Redis to use, which is not flushed (default: a redis-server of its own)")
	f.StringSliceVar(&o.urls, "url", nil, "talk to a fleet that runs elsewhere, at these addresses;\n"+
		"tokens are signed with GODWIT_AUTH_SECRET, or are dev tokens")
	f.DurationVar(&o.talk, "for", 0, "how long, with --url (default: until Ctrl-C)")
	f.Uint64Var(&o.seed, "seed", 0, "repeat the choices of a run, though not the machine's timing (default: new ones)")
	f.DurationVar(&o.timeout, "timeout", 0, "end the run after this (default: as long as the rollouts may take)")
	f.BoolVar(&o.json, "json", false, "print the result as one JSON object")
	f.StringVar(&o.logs, "logs", "", "file for what the processes say (default: its end is shown when one fails)")
	return c
}

// fill checks the flags and fills what was left to us. Every wrong one is named.
func (o *soakOptions) fill(set func(flag string) bool, env []string) error {
	if !set("rooms") {
		o.rooms = max(o.clients/20, 1)
	}
	if !set("rate") {
		o.rate = float64(o.clients) / 10
	}
	if !set("timeout") {
		o.timeout = 5*time.Minute + time.Duration(max(o.nodes, 0)*max(o.rollouts, 0))*(o.budget+soakLate+devReady+soakBack)
	}
	if !set("seed") {
		o.seed = mrand.Uint64()
	}
	wrong := o.elsewhere(set, env)
	for _, c := range []struct {
		bad      bool
		flag     string
		expected string
		args     []any
	}{
		{o.nodes < 2 || o.nodes > soakMostNodes, "nodes", "2 to %d: clients go on at another one", []any{soakMostNodes}},
		{o.clients < 2 || o.clients > soakMostClients, "clients", "2 to %d", []any{soakMostClients}},
		{o.rooms < 1 || o.rooms > max(o.clients, 1), "rooms", "1 to the number of clients", nil},
		{!(o.rate > 0 && o.rate <= soakMostRate*float64(max(o.clients, 1))), "rate", "more than 0, and at most %d for each client", []any{soakMostRate}},
		{o.rollouts < 1, "rollouts", "at least 1", nil},
		{o.budget < time.Millisecond, "budget", "at least 1ms", nil},
		{o.timeout <= 0, "timeout", "more than 0", nil},
	} {
		if c.bad {
			wrong = append(wrong, fmt.Errorf("--%s: expected %s", c.flag, fmt.Sprintf(c.expected, c.args...)))
		}
	}
	if o.redis != "" {
		if _, err := store.Where(o.redis); err != nil {
			wrong = append(wrong, fmt.Errorf("--redis: %w", err))
		}
	}
	return errors.Join(wrong...)
}

// soak is one run.
type soak struct {
	o         soakOptions
	env       []string
	out, errs io.Writer

	fleet *soakFleet
	crowd *crowd
	done  int // nodes that were ended and are back
}

var errSoakTime = errors.New("the time is over (--timeout)")

// run does it all, prints the result, and leaves nothing behind.
func (s *soak) run(ctx context.Context) error {
	logs := io.Writer(nil)
	if s.o.logs != "" {
		f, err := os.Create(s.o.logs)
		if err != nil {
			return usage{fmt.Errorf("--logs: %w", err)}
		}
		defer f.Close()
		logs = f
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	bounded, stop := context.WithTimeoutCause(ctx, s.o.timeout, errSoakTime)
	defer stop()
	name, secret := "soak-"+xid.New().String(), rand.Text()+rand.Text()
	began := time.Now()
	s.fleet = newSoakFleet(s.env, logs)
	s.crowd = newCrowd(s.o, name, secret)

	s.say("%s, seed %d: %d nodes, %d clients in %d rooms, %g messages a second",
		name, s.o.seed, s.o.nodes, s.o.clients, s.o.rooms, s.o.rate)
	err := s.fleet.up(bounded, s.o, name, secret)
	var watch sync.WaitGroup
	if s.fleet.redis != nil {
		watch.Go(func() {
			select {
			case <-s.fleet.redis.done:
				cancel(errors.New("redis-server has ended"))
			case <-bounded.Done():
			}
		})
	}
	if err == nil {
		err = s.talk(bounded)
	}
	cut := bounded.Err() != nil
	if cut {
		err = context.Cause(bounded)
	}
	r := s.result(bounded, began, err)
	s.crowd.close()
	cancel(nil) // before redis ends
	watch.Wait()
	if down := s.fleet.down(); down != nil {
		s.say("left behind: %v", down)
	}
	switch u := (usage{}); {
	case errors.As(err, &u):
		return err // nothing has begun
	case err != nil && !cut:
		s.say("the processes said at the end:\n%s", s.fleet.said)
	}
	if err := r.print(s.out, s.o.json); err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	return r.verdict()
}

func (s *soak) say(format string, args ...any) {
	fmt.Fprintf(s.errs, "soak: "+format+"\n", args...)
}

// talk lets the crowd talk, and ends and starts every node meanwhile.
func (s *soak) talk(ctx context.Context) error {
	began := time.Now()
	if err := s.crowd.enter(ctx, s.fleet.urls); err != nil {
		return err
	}
	s.say("all clients are in after %s", tenths(time.Since(began)))
	if err := s.crowd.call(ctx); err != nil {
		return err
	}
	rng := mrand.New(mrand.NewPCG(s.o.seed, 0))
	s.crowd.talk(rng)
	for i := range s.o.rollouts {
		for _, n := range s.fleet.nodes {
			select {
			case <-time.After(soakQuiet + time.Duration(rng.Int64N(int64(soakQuiet)))):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if err := s.roll(ctx, n, i+1); err != nil {
				return err
			}
		}
	}
	select {
	case <-time.After(soakQuiet): // what follows the last move is measured, too
	case <-ctx.Done():
	}
	for _, n := range s.fleet.nodes {
		if err := s.fleet.alive(n); err != nil {
			s.crowd.flaw("%v", err)
		}
	}
	s.say("the talk ends; waiting until everybody has seen everything")
	return nil
}

// roll ends one node, starts it again, and waits until its clients are back.
func (s *soak) roll(ctx context.Context, n *soakNode, rollout int) error {
	c := s.crowd
	by, within := syscall.SIGTERM, s.o.budget+soakLate
	if s.o.kill {
		by = syscall.SIGKILL
	}
	handed, resumed, lost := c.handed.Load(), c.resumed.Load(), c.lost.Load()
	m, sockets := c.leaving(n.id)
	began := time.Now()
	flaw := s.fleet.end(ctx, n, by, within)
	ended := time.Since(began)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := s.fleet.launch(ctx, n); err != nil {
		return err
	}
	ready := time.Since(began)
	if flaw == nil {
		flaw = c.settled(ctx, m, soakBack)
	}
	if flaw != nil {
		c.flaw("%v", flaw)
		s.say("%v", flaw)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.done++
	s.say("rollout %d/%d, %s: %d sockets, %d handed over, %d resumed, %d sessions lost; ended after %s, ready again after %s, all back after %s",
		rollout, s.o.rollouts, n.name, sockets, c.handed.Load()-handed, c.resumed.Load()-resumed, c.lost.Load()-lost,
		tenths(ended), tenths(ready), tenths(time.Since(began)))
	return nil
}

func tenths(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }
