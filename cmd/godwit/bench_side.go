package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/redis/go-redis/v9"

	"godwit/bench/load"
)

// side is what a load is put on, and the load: the fleet, or the floor, of our
// own processes, or a fleet that runs elsewhere.
type side struct {
	*fleet
	name    string
	said    *tail
	servers []*proc
	admins  []string      // where nodes tell of themselves
	redis   *proc         // nil: has none
	asked   *redis.Client // the same one's; nil: has none
	urls    []string
	secret  string
	profile string // directory for profiles of the servers; empty: none
	budget  time.Duration
	drained *drained // the server that was told to go; nil: none was
	down    func() error
}

// drained is a server that was told to go, and when.
type drained struct {
	*proc
	at time.Time
}

// ownFleet starts a redis-server and nodes.
func ownFleet(ctx context.Context, o *benchOptions, budget time.Duration, env []string, run string, logs io.Writer) (*side, error) {
	// The clients of a bench say more than a person may, and stay where they are.
	env = append(slices.Clone(env), "GODWIT_RATE=1000000", "GODWIT_RATE_BURST=1000000", "GODWIT_REBALANCE=false")
	if o.profile != "" {
		env = append(env, "GODWIT_PROFILE_DIR="+o.profile)
	}
	f := newSoakFleet(env, logs)
	s := &side{fleet: f.fleet, name: "fleet", said: f.said, secret: rand.Text() + rand.Text(), profile: o.profile, budget: budget}
	s.down = func() error {
		if s.asked != nil {
			s.asked.Close()
		}
		f.kill()
		return f.down()
	}
	if err := f.up(ctx, soakOptions{nodes: o.nodes, budget: budget}, run, s.secret); err != nil {
		return s, err
	}
	for _, n := range f.nodes {
		s.servers, s.urls, s.admins = append(s.servers, n.proc), append(s.urls, n.url), append(s.admins, n.admin)
	}
	opt, err := redis.ParseURL(f.redisURL)
	if err != nil {
		return s, err
	}
	s.redis, s.asked = f.redis, redis.NewClient(opt)
	return s, nil
}

// ownFloor starts a bare hub.
func ownFloor(ctx context.Context, env []string, logs io.Writer) (*side, error) {
	said := &tail{all: logs}
	s := &side{fleet: &fleet{env: env, out: &lines{w: said}}, name: "floor", said: said}
	s.down = func() error { s.kill(); return nil }
	self, err := os.Executable()
	if err != nil {
		return s, fmt.Errorf("find this program: %w", err)
	}
	p, err := s.start(floorName, env, self, floorName)
	if err != nil {
		return s, err
	}
	late := time.NewTimer(devReady)
	defer late.Stop()
	select {
	case at := <-p.addrs:
		s.servers, s.urls = []*proc{p}, []string{"ws://" + at[0] + "/v1/ws"}
		return s, nil
	case <-p.done:
		return s, errors.New("the floor ended before it listened")
	case <-late.C:
		return s, fmt.Errorf("the floor did not listen within %s", devReady)
	case <-ctx.Done():
		return s, context.Cause(ctx)
	}
}

// elsewhere is a fleet of somebody else's.
func elsewhere(urls []string, secret string, env []string, logs io.Writer) *side {
	said := &tail{all: logs}
	s := &side{fleet: &fleet{env: env, out: &lines{w: said}}, name: "fleet", said: said, urls: urls, secret: secret}
	s.down = func() error { s.kill(); return nil }
	return s
}

// cost is what the processes have spent up to now; those of somebody else's are
// not known.
func (s *side) cost(ctx context.Context, loader *proc) (c cost, err error) {
	if len(s.servers) == 0 {
		return cost{}, nil
	}
	c.at = time.Now()
	for _, p := range s.servers {
		busy, rss, err := spent(p.cmd.Process.Pid)
		if err != nil {
			return c, fmt.Errorf("look what %s has spent: %w", p.mark, err)
		}
		c.server += busy
		c.rss += rss
	}
	if c.load, _, err = spent(loader.cmd.Process.Pid); err != nil {
		return c, fmt.Errorf("look what the load has spent: %w", err)
	}
	if s.redis == nil {
		return c, nil
	}
	if c.redis, _, err = spent(s.redis.cmd.Process.Pid); err != nil {
		return c, fmt.Errorf("look what redis has spent: %w", err)
	}
	return c, c.askRedis(ctx, s.asked)
}

// measured is what a load has counted, and the costs at its marks.
type measured struct {
	result *load.Result
	marks  map[string]cost
	known  bool // the marks, and with redis its part of them
	redis  bool
	// evicted is how many the nodes have put out as too slow, where some are.
	evicted int
	// flaw is how the server that was told to go did not keep its promise.
	flaw error
}

// measure starts a load and follows it to its end.
func (s *side) measure(ctx context.Context, cfg load.Config, show func(part string, done, of int)) (*measured, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	cfg.URLs = s.urls
	order, err := json.Marshal(loadOrder{Config: cfg, Secret: s.secret})
	if err != nil {
		return nil, fmt.Errorf("order a load: %w", err)
	}
	ctx, stop := context.WithCancel(ctx) // from then on nobody waits for the load's words
	defer stop()
	words := make(chan loadWord)
	p := newProc("load", s.env, self, loadName)
	p.hear = func(line []byte) {
		var w loadWord
		if err := json.Unmarshal(line, &w); err != nil {
			w = loadWord{Error: fmt.Sprintf("the load said %.200q", line)}
		}
		select {
		case words <- w:
		case <-ctx.Done():
		}
	}
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("order a load: %w", err)
	}
	if err := s.begin(p); err != nil {
		return nil, err
	}
	if _, err := in.Write(append(order, '\n')); err != nil {
		return nil, fmt.Errorf("order a load: %w", err)
	}
	m := &measured{marks: map[string]cost{}, known: len(s.servers) > 0, redis: s.redis != nil}
	for {
		var w loadWord
		select {
		case w = <-words:
		case <-p.done:
			return nil, fmt.Errorf("the load ended without a result: %s", p.cmd.ProcessState)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		switch {
		case w.Error != "":
			return nil, errors.New(w.Error)
		case w.Result != nil:
			m.result = w.Result
			return m, nil
		case w.Mark != "":
			switch w.Mark {
			case "kill":
				s.endFirst(syscall.SIGKILL)
			case "term":
				s.endFirst(syscall.SIGTERM)
			}
			if m.marks[w.Mark], err = s.cost(ctx, p); err != nil {
				return nil, err
			}
			if err := s.profiled(ctx, w.Mark); err != nil {
				return nil, err
			}
			if w.Mark == "end" {
				m.flaw = s.overrun(ctx)
			}
			if w.Mark == "end" && cfg.Stalled > 0 {
				if m.evicted, err = s.evictions(ctx); err != nil {
					return nil, err
				}
			}
			if _, err := in.Write([]byte("go\n")); err != nil {
				return nil, fmt.Errorf("let the load go on: %w", err)
			}
		default:
			show(w.Part, w.Done, w.Of)
		}
	}
}

// endFirst ends the server at the first address, as a crash or as a deploy does.
func (s *side) endFirst(by syscall.Signal) {
	first := s.servers[0]
	s.servers = s.servers[1:]
	at := time.Now()
	_ = first.cmd.Process.Signal(by) // it may have ended
	if by == syscall.SIGKILL {
		<-first.done
		return
	}
	s.drained = &drained{first, at}
}

// overrun waits for the end of the server that was told to go, if one was, and
// says what was wrong with it.
func (s *side) overrun(ctx context.Context) error {
	d := s.drained
	if d == nil {
		return nil
	}
	late := time.NewTimer(time.Until(d.at.Add(s.budget + soakLate)))
	defer late.Stop()
	select {
	case <-d.done:
	case <-late.C:
		return fmt.Errorf("%s was still there %s after it was told to go, in %s", d.mark, s.budget+soakLate, s.budget)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if code := d.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("%s drained and ended with %s", d.mark, d.cmd.ProcessState)
	}
	return nil
}

// profiled begins and ends the profiles of the servers, and waits until they are
// whole.
func (s *side) profiled(ctx context.Context, mark string) error {
	if s.profile == "" || !slices.Contains([]string{"begin", "kill", "term", "end"}, mark) {
		return nil
	}
	for _, p := range s.servers {
		if err := p.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
			return fmt.Errorf("profile %s: %w", p.mark, err)
		}
	}
	again := time.NewTicker(devLook)
	defer again.Stop()
	for _, p := range s.servers {
		path := cpuProfile(s.profile, p.cmd.Process.Pid, 1)
		for mark == "end" {
			if _, err := os.Stat(path); err == nil {
				break
			}
			select {
			case <-again.C: // nothing announces it
			case <-p.done:
				return fmt.Errorf("%s ended before its profile was written", p.mark)
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	return nil
}
