package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rs/xid"
	"github.com/spf13/cobra"

	"godwit/bench/load"
)

const (
	benchMostRate     = 1_000_000 // sends a second
	benchMostInFlight = 10_000
	benchLeastPayload = 32
	benchMostPayload  = 32 << 10 // what a node takes by default
)

// benchOptions are the flags.
type benchOptions struct {
	works                          []string
	nodes, rooms, members, stalled int
	inFlight, parallel, payload    int
	rate                           float64
	duration, warm                 time.Duration
	json, noFloor                  bool
	urls                           []string
	against, logs, profile         string
	secret                         string // of --url
	set                            func(flag string) bool
	earlier                        *benchResult
}

// benchShapes are what each work is unless the flags say otherwise.
var benchShapes = map[string]shape{
	"fanout": {Rooms: 10, Members: 100},
	"idle":   {Rooms: 1000, Members: 10, Presence: true},
	"login":  {Rooms: 200, Members: 10, Presence: true},

	"presence": {Rooms: 100, Members: 10, Presence: true, Rate: 200, InFlight: 8},
	"calls":    {Rooms: 1000, Members: 2},
	"resume":   {Rooms: 500, Members: 10, Presence: true},
	"drain":    {Rooms: 100, Members: 10, Presence: true},
}

// benchBeat is how often who is in a call says so.
const benchBeat = 4 * time.Second

func benchCommand(env []string) *cobra.Command {
	o := benchOptions{}
	c := &cobra.Command{
		Use:   "bench [WORK...]",
		Short: "Measure what a delivery, a login and an idle session cost, against a floor",
		Long: "Starts a redis-server, nodes and a load as processes, does each work (default: all), and then the same on a\n" +
			"floor: a bare hub without Redis that writes each message to each member by itself. Works:\n\n" +
			"  fanout   clients talk in rooms, as fast as they are answered, or at a pace (--rate)\n" +
			"  login    clients log in and join\n" +
			"  idle     sessions that do nothing: their memory, and the CPU of all\n" +
			"  presence users go away and come back, and room-mates are told\n" +
			"  calls    rooms are in a call, and members say so every 4s\n" +
			"  resume   the first node is killed, and all of its sessions resume at the others at once\n" +
			"  drain    the first node is told to go, in --duration, and its sessions move to the others\n\n" +
			"Exits 0 when the clients counted what had to be delivered, else 1. Progress goes to stderr, the result to\n" +
			"stdout. docs/bench/path.md says what each figure means.",
		Example: "  godwit bench\n  godwit bench fanout --rooms 200 --members 2 --duration 10s\n" +
			"  godwit bench fanout --rate 200 --json >before.json; godwit bench fanout --rate 200 --against before.json",
		Args: func(_ *cobra.Command, args []string) error {
			for _, a := range args {
				if !slices.Contains(load.Works, a) {
					return usage{fmt.Errorf("no such work: %q; there are %s", a, strings.Join(load.Works, ", "))}
				}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			o.works, o.set = args, c.Flags().Changed
			if len(args) == 0 {
				o.works = load.Works
				if len(o.urls) > 0 {
					o.works = slices.DeleteFunc(slices.Clone(load.Works), loses)
				}
			}
			if err := o.fill(env); err != nil {
				return usage{err}
			}
			ctx, stop := untilSignal(c.Context())
			defer stop()
			b := &bench{o: &o, env: env, show: &progress{out: c.ErrOrStderr()}}
			return b.run(ctx, c.OutOrStdout())
		},
	}
	f := c.Flags()
	f.IntVar(&o.nodes, "nodes", 2, "how many nodes")
	f.IntVar(&o.rooms, "rooms", 0, "how many rooms (default: fanout 10, login 200, idle and calls 1000, presence and drain 100, resume 500)")
	f.IntVar(&o.members, "members", 0, "members of each room (default: fanout 100, calls 2, others 10)")
	f.Float64Var(&o.rate, "rate", 0, "fanout, presence: messages or changes a second, of all rooms together (default: fanout as fast as acknowledged, presence 200)")
	f.IntVar(&o.inFlight, "inflight", 8, "fanout: messages of a room that may wait for their answers")
	f.IntVar(&o.stalled, "stalled", 0, "fanout: clients that read nothing, and are to be put out for it; give --payload and --duration\n"+
		"enough for GODWIT_OUTBOX to fill, as --payload 4096 --rate 200. There is no floor: it waits for them for ever")
	f.IntVar(&o.payload, "payload", 128, "fanout: bytes of data of a message")
	f.IntVar(&o.parallel, "parallel", 32, "logins at once")
	f.DurationVar(&o.duration, "duration", 10*time.Second, "how long each side is measured")
	f.DurationVar(&o.warm, "warm", 2*time.Second, "how long before that it is at work")
	f.BoolVar(&o.noFloor, "no-floor", false, "measure no floor")
	f.StringSliceVar(&o.urls, "url", nil, "load a fleet that runs elsewhere, at these addresses: no floor, nothing of processes;\n"+
		"tokens are signed with GODWIT_AUTH_SECRET, or are dev tokens")
	f.StringVar(&o.against, "against", "", "file with an earlier --json: show the ratio to it")
	f.BoolVar(&o.json, "json", false, "print the result as one JSON object")
	f.StringVar(&o.profile, "profile", "", "directory for profiles of the nodes, of the measured part")
	f.StringVar(&o.logs, "logs", "", "file for what the processes say (default: its end is shown when one fails)")
	return c
}

// shape is what a work is with these flags.
func (o *benchOptions) shape(work string) shape {
	s := benchShapes[work]
	s.Nodes, s.Parallel, s.Seconds = o.nodes, o.parallel, o.duration.Seconds()
	if len(o.urls) > 0 {
		s.Nodes = 0
	}
	s.Rooms, s.Members = cmp.Or(o.rooms, s.Rooms), cmp.Or(o.members, s.Members)
	switch work {
	case "fanout":
		s.Rate, s.InFlight, s.Stalled, s.Payload = o.rate, o.inFlight, o.stalled, o.payload
	case "presence":
		s.Rate = cmp.Or(o.rate, s.Rate)
	case "calls":
		s.Rate = float64(s.Rooms*s.Members) / benchBeat.Seconds()
	case "login", "resume":
		s.Seconds = 0 // as long as it takes
	}
	return s
}

// loses says whether a work is about a node that ends.
func loses(work string) bool { return work == "resume" || work == "drain" }

// fill checks the flags. Every wrong one is named.
func (o *benchOptions) fill(env []string) error {
	var wrong []error
	bad := func(is bool, flag, expected string, args ...any) {
		if is {
			wrong = append(wrong, fmt.Errorf("--%s: expected %s", flag, fmt.Sprintf(expected, args...)))
		}
	}
	bad(o.nodes < 1 || o.nodes > soakMostNodes, "nodes", "1 to %d", soakMostNodes)
	bad(o.set("rooms") && o.rooms < 1, "rooms", "at least 1")
	bad(o.set("members") && o.members < 2, "members", "at least 2: who sends is not told")
	for _, work := range o.works {
		s := o.shape(work)
		n := s.Rooms * s.Members
		bad(s.Rooms > soakMostClients || s.Members > soakMostClients || n > soakMostClients,
			"rooms", "with --members, at most %d clients together, %s has %d", soakMostClients, work, n)
		bad(loses(work) && s.Nodes < 2 && len(o.urls) == 0, "nodes", "at least 2, or nobody is left to go on at")
		bad(loses(work) && len(o.urls) > 0, "url", "another work than %s: a node is ended", work)
		bad(s.Stalled < 0 || s.Stalled > 0 && (s.Stalled%max(s.Rooms, 1) != 0 || s.Stalled/max(s.Rooms, 1) > s.Members-2),
			"stalled", "as many in every room, and two of each left to talk")
	}
	for _, f := range []struct {
		name string
		of   []string
	}{
		{"rate", []string{"fanout", "presence"}},
		{"inflight", []string{"fanout"}},
		{"stalled", []string{"fanout"}},
		{"payload", []string{"fanout"}},
	} {
		asked := func(work string) bool { return slices.Contains(o.works, work) }
		bad(o.set(f.name) && !slices.ContainsFunc(f.of, asked), f.name, "nothing without %s", strings.Join(f.of, " or "))
	}
	bad(o.set("rate") && !(o.rate > 0 && o.rate <= benchMostRate), "rate", "more than 0 and at most %d", benchMostRate)
	bad(o.inFlight < 1 || o.inFlight > benchMostInFlight, "inflight", "1 to %d", benchMostInFlight)
	bad(o.payload < benchLeastPayload || o.payload > benchMostPayload, "payload", "%d to %d", benchLeastPayload, benchMostPayload)
	bad(o.parallel < 1 || o.parallel > 1000, "parallel", "1 to 1000")
	bad(o.duration < 100*time.Millisecond || o.duration > time.Hour, "duration", "100ms to 1h")
	bad(o.warm < 0 || o.warm > time.Hour, "warm", "0s to 1h")
	for _, raw := range o.urls {
		u, err := url.Parse(raw)
		bad(err != nil || u.Scheme != "ws" && u.Scheme != "wss" || u.Hostname() == "" || u.User != nil, "url", "ws://host:port/v1/ws or wss://")
	}
	for _, flag := range []string{"nodes", "no-floor", "profile"} {
		bad(len(o.urls) > 0 && o.set(flag), flag, "nothing beside --url")
	}
	if o.profile != "" {
		info, err := os.Stat(o.profile)
		bad(err != nil || !info.IsDir(), "profile", "a directory that is there")
	}
	if o.against != "" {
		earlier, err := readBench(o.against)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("--against: %w", err))
		}
		o.earlier = earlier
	}
	if len(o.urls) > 0 {
		vars := environment(env)
		if err := fromFile(vars, "GODWIT_AUTH_SECRET"); err != nil {
			wrong = append(wrong, err)
		}
		o.secret = vars["GODWIT_AUTH_SECRET"]
	}
	return errors.Join(wrong...)
}

// bench is one run.
type bench struct {
	o    *benchOptions
	env  []string
	show *progress
}

// run does every work on every side, prints the result, and leaves nothing.
func (b *bench) run(ctx context.Context, out io.Writer) error {
	logs := io.Writer(nil)
	if b.o.logs != "" {
		f, err := os.Create(b.o.logs)
		if err != nil {
			return usage{fmt.Errorf("--logs: %w", err)}
		}
		defer f.Close()
		logs = f
	}
	defer b.show.end()
	r := &benchResult{Revision: revision(), Machine: thisMachine()}
	var failed error
	for _, work := range b.o.works {
		w, err := b.work(ctx, work, logs)
		if ctx.Err() != nil {
			err = errors.New("bench: interrupted")
		}
		if err != nil {
			failed = err
			break // what was measured before is told
		}
		r.Works = append(r.Works, *w)
	}
	if len(r.Works) == 0 {
		return failed
	}
	b.show.end()
	if b.o.earlier != nil {
		for _, work := range r.against(b.o.earlier) {
			b.show.say("%s has no like in %s", work, b.o.against)
		}
	}
	if err := r.print(out, b.o.json); err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	if failed != nil {
		return failed
	}
	return r.verdict()
}

// work does one work on the fleet and on the floor.
func (b *bench) work(ctx context.Context, work string, logs io.Writer) (*workResult, error) {
	w := &workResult{Work: work, Shape: b.o.shape(work), Wrong: []string{}}
	fleet, err := b.on(ctx, w.Shape, work, "fleet", logs)
	if err != nil {
		return nil, err
	}
	w.Fleet, w.Count = fleet.figure(work), tallyOf(fleet.result)
	if err := fleet.result.Check(); err != nil {
		w.Wrong = append(w.Wrong, "fleet: "+err.Error())
	}
	if fleet.flaw != nil {
		w.Wrong = append(w.Wrong, "fleet: "+fleet.flaw.Error())
	}
	if stalled := w.Shape.Stalled; stalled > 0 && len(b.o.urls) == 0 {
		if w.Evicted = fleet.evicted; w.Evicted < stalled {
			w.Wrong = append(w.Wrong, fmt.Sprintf("fleet: %d clients read nothing, and the nodes have put out %d: too little was sent to stall anybody", stalled, w.Evicted))
		}
	}
	if b.o.noFloor || len(b.o.urls) > 0 || loses(work) || w.Shape.Stalled > 0 { // a floor keeps no session, and puts nobody out
		return w, nil
	}
	floor, err := b.on(ctx, w.Shape, work, "floor", logs)
	if err != nil {
		return nil, err
	}
	w.Floor, w.Under = floor.figure(work), tallyOf(floor.result)
	if err := floor.result.Check(); err != nil {
		w.Wrong = append(w.Wrong, "floor: "+err.Error())
	}
	w.Ratio = w.Fleet.ratio(w.Floor)
	return w, nil
}

// on puts the load of a work on one side.
func (b *bench) on(ctx context.Context, sh shape, work, name string, logs io.Writer) (m *measured, err error) {
	run := "bench-" + xid.New().String()
	var s *side
	b.show.begin(work+", "+name, run)
	switch {
	case name == "floor":
		s, err = ownFloor(ctx, b.env, logs)
	case len(b.o.urls) > 0:
		s = elsewhere(b.o.urls, b.o.secret, b.env, logs)
	default:
		s, err = ownFleet(ctx, b.o, b.o.duration, b.env, run, logs)
	}
	defer func() {
		if down := s.down(); err == nil && down != nil {
			err = fmt.Errorf("left behind: %w", down)
		}
		if u := (usage{}); err != nil && ctx.Err() == nil && !errors.As(err, &u) {
			b.show.end()
			err = fmt.Errorf("bench: %s on the %s: %w; the processes said at the end:\n%s", work, name, err, s.said)
		}
	}()
	if err != nil {
		return nil, err
	}
	return s.measure(ctx, load.Config{
		Work: work, Run: run, Rooms: sh.Rooms, Members: sh.Members, Stalled: sh.Stalled, Rate: sh.Rate, InFlight: sh.InFlight,
		Parallel: sh.Parallel, Payload: sh.Payload, Presence: sh.Presence, Bye: len(b.o.urls) > 0,
		Warm: b.o.warm.Seconds(), Measure: sh.Seconds,
	}, b.show.part)
}
