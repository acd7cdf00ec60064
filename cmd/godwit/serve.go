package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/rs/xid"
	"github.com/spf13/cobra"

	"godwit/handlers/admin"
	"godwit/handlers/binary"
	nodemetrics "godwit/handlers/metrics"
	"godwit/handlers/socket"
	"godwit/handlers/traces"
	"godwit/server"
	"godwit/server/auth"
	"godwit/server/session"
	"godwit/store"
	"godwit/wire/chatd"
)

// exitWithin is what the end of a process may take, when nothing is waited for.
const exitWithin = 100 * time.Millisecond

func serveCommand(env []string) *cobra.Command {
	c := &cobra.Command{
		Use: "serve", Short: "Run one node (the default)", Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return serve(c.Context(), env, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	c.SetHelpFunc(func(c *cobra.Command, _ []string) {
		fmt.Fprint(c.OutOrStdout(), "Run one node of the fleet. SIGTERM drains it and exits 0; a second one ends it at once.\n\nSettings, read from the environment:\n\n")
		printSettings(c.OutOrStdout())
	})
	return c
}

// serve runs a node until a signal or the end of ctx, then drains it.
func serve(ctx context.Context, env []string, out, errs io.Writer) error {
	s, unknown, err := readSettings(env)
	if err != nil {
		return usage{fmt.Errorf("the settings are wrong:\n%w\ngodwit serve -h lists them", err)}
	}
	log, audit := newLoggers(s, errs)
	sort.Strings(unknown)
	for _, name := range unknown {
		log.Warn("unknown setting; godwit serve -h lists those there are", "name", name)
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	return within(ctx, s.DrainBudget, func() error { return newMain(s, log, audit, out).run(ctx) })
}

// errOverdue is a stop that did not end in time.
var errOverdue = errors.New("the stop took longer than GODWIT_DRAIN_BUDGET: ended without it; " +
	"sessions that were left go on elsewhere, as after a crash")

// within runs a node, and returns at the latest when the budget is over that
// began with the end of ctx. What still works then ends with the process.
func within(ctx context.Context, budget time.Duration, run func() error) error {
	ended := make(chan error, 1)
	go func() { ended <- run() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	late := time.NewTimer(budget - min(budget/10, exitWithin))
	defer late.Stop()
	select {
	case err := <-ended:
		return err
	case <-late.C:
		return errOverdue
	}
}

// untilSignal is a context that a first signal ends. From then on a signal ends
// the process at once, as if nobody had asked for it.
func untilSignal(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	var watch sync.WaitGroup
	watch.Go(func() {
		defer signal.Stop(signals)
		select {
		case <-signals:
		case <-ctx.Done():
			return
		}
		signal.Stop(signals)
		cancel()
		select {
		case second := <-signals: // came before the first was seen
			if self, err := os.FindProcess(os.Getpid()); err == nil {
				_ = self.Signal(second) // to ourselves: it arrives
			}
		default:
		}
	})
	return ctx, func() {
		cancel()
		watch.Wait()
	}
}

// node is one node's process: its parts, and how they start and stop.
type node struct {
	s          Settings
	log, audit *slog.Logger
	out        io.Writer
}

func newMain(s Settings, log, audit *slog.Logger, out io.Writer) *node {
	if s.NodeID == "" {
		s.NodeID = xid.New().String()
	}
	if s.Revision == "" {
		s.Revision = revision()
	}
	return &node{s: s, log: log.With("node", s.NodeID), audit: audit.With("node", s.NodeID), out: out}
}

// headerLimit is how large a request's headers may be, in bytes: a handshake
// needs few.
const headerLimit = 16 << 10

// run serves until ctx ends, then drains and stops everything it started.
func (m *node) run(ctx context.Context) error {
	s := m.s
	if s.ProfileDir == "" && !s.Pprof {
		sampleNoMemory()
	}
	st, err := store.Open(store.Config{
		URL: s.RedisURL, LogMax: s.LogMax, LogAge: s.LogAge, LogTTL: s.LogTTL, Grace: s.Grace,
		Lease: s.Lease, OfferTTL: s.RedirectTTL, Wait: s.RedisWait, Sharded: store.Sharded(s.RedisSharded),
		MaxMembers: s.MaxMembers, MaxContacts: s.MaxContacts, Logger: m.log,
	})
	if err != nil {
		return usage{fmt.Errorf("GODWIT_REDIS_URL: %w", err)}
	}
	defer st.Close()
	dev := s.devTokens()
	verifier, err := auth.New(auth.Config{
		Secret: []byte(s.AuthSecret), JWKS: s.AuthJWKS, Audience: s.AuthAudience,
		Issuer: s.AuthIssuer, Dev: dev, Logger: m.log,
	})
	if err != nil {
		return usage{fmt.Errorf("GODWIT_AUTH_SECRET, GODWIT_AUTH_JWKS: %w", err)}
	}
	if st.Embedded() {
		m.log.Warn("embedded store: one process, and nothing is kept after it ends (GODWIT_REDIS_URL)")
	}
	// Sockets are pinged: probes of the kernel's beside that would only cost.
	public, err := (&net.ListenConfig{KeepAlive: -1}).Listen(context.WithoutCancel(ctx), "tcp", s.Listen)
	if err != nil {
		return fmt.Errorf("GODWIT_LISTEN: %w", err)
	}
	defer public.Close()
	private, err := net.Listen("tcp", s.AdminListen)
	if err != nil {
		return fmt.Errorf("GODWIT_ADMIN_LISTEN: %w", err)
	}
	defer private.Close()
	switch {
	case dev && here(public.Addr().String()):
		m.log.Warn("dev tokens are accepted: anybody on this machine can be anybody (dev:<user>)")
	case dev:
		m.log.Warn("dev tokens are accepted from other machines: anybody who reaches this address can be anybody (dev:<user>); "+
			"set GODWIT_AUTH_SECRET or GODWIT_AUTH_JWKS, or listen on 127.0.0.1", "addr", public.Addr().String())
	}
	if s.CallTimeout <= s.CallBeat {
		m.log.Warn("who beats as it is told is out of its call between two beats: GODWIT_CALL_TIMEOUT should be more than GODWIT_CALL_BEAT",
			"timeout", s.CallTimeout.String(), "beat", s.CallBeat.String())
	}
	away := m.layout(ctx, st)
	if unfit(away) {
		return away
	}

	cfg := m.config()
	cannot := make(chan error, 1)
	cfg.Allowed = m.allowed(st, away == nil, cannot)
	tracer, exporter := m.traces()
	cfg.Trace = tracer
	var spans *traces.Stats
	if exporter != nil {
		spans = exporter.Stats
	}
	n := server.New(cfg, st, verifier, m.log)
	ws := socket.New(socket.Config{
		Origins: s.AllowedOrigins, HelloTimeout: s.HelloTimeout, Ping: s.Ping,
		MaxFrame: s.MaxFrame, Outbox: s.Outbox, Compress: s.Compress,
	}, n, m.log)
	router := chi.NewRouter()
	router.Get("/v1/ws", ws.ServeHTTP)
	router.Method(http.MethodGet, "/v1/chatd/{room}", binary.Chatd(binary.Config{MessageBytes: messageBytes(s)}, n, ws))
	router.Method(http.MethodGet, "/v1/statusd", binary.Statusd(n, ws))
	web := m.server(router)
	ops := m.server(admin.New(admin.Config{
		Token: s.AdminToken, State: n.State, Fleet: n.Fleet(), MessageBytes: messageBytes(s), MaxContacts: s.MaxContacts,
		Metrics:  nodemetrics.New(nodemetrics.Config{Node: n, Sockets: ws, Store: st, Revision: s.Revision, Version: revision(), Traces: spans, Log: m.log}),
		Profiles: s.Pprof, Log: m.log, Audit: m.audit,
	}))

	// The order of the stop: sockets, then the node that served them, then
	// what shows how it stands.
	life, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	sockets, stopSockets := context.WithCancel(life)
	fleet, stopFleet := context.WithCancel(life)
	var handlers, duties, http sync.WaitGroup
	handlers.Go(func() { m.ended("sockets", ws.Run(sockets)) })
	duties.Go(func() { m.ended("node", n.Run(fleet)) })
	duties.Go(func() { m.ended("keys", verifier.Run(fleet)) })
	if os.Getenv("GOGC") == "" { // who sets it knows better
		duties.Go(func() { newGCPacer().run(fleet) })
	}
	if exporter != nil {
		duties.Go(func() { m.ended("traces", exporter.Run(fleet)) })
	}
	if s.ProfileDir != "" {
		p := &profiler{dir: s.ProfileDir, log: m.log}
		signals := p.listen()
		duties.Go(func() { p.run(fleet, signals) })
	}
	failed := make(chan error, 2)
	if away != nil && ctx.Err() == nil {
		duties.Go(func() {
			at, _ := store.Where(s.RedisURL) // checked with the settings
			m.log.Warn("cannot reach Redis at "+at+"; trying again", "error", store.Explain(fleet, s.RedisURL, away))
			select {
			case <-n.Joined():
				m.log.Info("Redis reached")
			case <-fleet.Done():
			}
		})
	}
	http.Go(func() { failed <- web.Serve(public) })
	http.Go(func() { failed <- ops.Serve(private) })
	m.log.Info("listening", "addr", public.Addr().String(), "admin", private.Addr().String(), "revision", s.Revision)
	if st.Embedded() {
		m.welcome(public.Addr().String(), dev)
	}

	select {
	case <-ctx.Done():
		err = nil
		if drained := n.Drain(life); drained != nil {
			m.log.Warn("drain incomplete", "error", drained)
		}
	case err = <-failed:
	case err = <-cannot: // it has not joined: nobody is to be told
	}
	stopSockets()
	handlers.Wait()
	stopFleet()
	duties.Wait()
	web.Close()
	ops.Close()
	http.Wait()
	m.log.Info("stopped")
	return err
}

func (m *node) ended(what string, err error) {
	if err != nil {
		m.log.Error("ended", "part", what, "error", err)
	}
}

func (m *node) server(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: m.s.HelloTimeout, IdleTimeout: time.Minute, MaxHeaderBytes: headerLimit,
		ErrorLog: slog.NewLogLogger(m.log.Handler(), slog.LevelDebug),
	}
}

func (m *node) config() server.Config {
	s := m.s
	return server.Config{
		Config: session.Config{
			Node: store.Ref{Node: s.NodeID}, Origins: origins(s),
			FrameBytes: s.MaxFrame, MessageBytes: messageBytes(s), Rooms: s.MaxRooms,
			Rate: s.Rate, Burst: s.RateBurst, Ping: s.Ping, CallBeat: s.CallBeat,
			CallTimeout: s.CallTimeout, Grace: s.Grace, History: s.History,
		},
		URL: s.NodeURL, PublicURL: s.PublicURL, OfferTTL: s.RedirectTTL, Rebalance: s.Rebalance, Revision: s.Revision, Lease: s.Lease,
		DrainBudget: s.DrainBudget, MaxSessions: s.MaxSessions,
	}
}

// messageBytes is how long a message may be: what a frame holds, and what every
// dialect can tell.
func messageBytes(s Settings) int { return min(s.MaxMessage, s.MaxFrame, chatd.MaxMsg) }

// origins is where clients may be sent: the setting, or the origins of the
// node's and the fleet's own URLs.
func origins(s Settings) []string {
	if len(s.RedirectOrigins) > 0 {
		return s.RedirectOrigins
	}
	var out []string
	for _, raw := range []string{s.NodeURL, s.PublicURL} {
		if u, err := url.Parse(raw); err == nil && u.Host != "" {
			out = append(out, u.Scheme+"://"+u.Host)
		}
	}
	return out
}

// here says whether only this machine can reach an address that is listened on.
func here(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return err == nil && ip != nil && ip.IsLoopback()
}

// welcome tells whoever started a node by hand what to type next.
func (m *node) welcome(addr string, dev bool) {
	fmt.Fprint(m.out, "\n", typeNext([]string{addr}, dev), "\nCtrl-C ends it.\n\n")
}

// typeNext is what to type to talk, with nodes that listen at the addresses.
func typeNext(addrs []string, dev bool) string {
	who, token := []string{"--user ann", "--user bob"}, "dev:ann"
	if !dev {
		who, token = []string{"--token <JWT of ann>", "--token <JWT of bob>"}, "<JWT>"
	}
	var urls []string
	also := ""
	for _, addr := range addrs {
		if host, port, err := net.SplitHostPort(addr); err == nil && net.ParseIP(host).IsUnspecified() {
			addr, also = net.JoinHostPort("127.0.0.1", port), "and on every other address of this machine\n"
		}
		urls = append(urls, "ws://"+addr+"/v1/ws")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Listening on %s\n%s\n", strings.Join(urls, " "), also)
	fmt.Fprintf(&b, "Log in from any websocket client with this first frame:\n")
	fmt.Fprintf(&b, `  {"jsonrpc":"2.0","id":1,"method":"hello","params":{"token":%q}}`+"\n\n", token)
	fmt.Fprintf(&b, "Or let two terminals talk:\n")
	for i, w := range who {
		at := i % len(urls) // the others are for when that one is gone
		fmt.Fprintf(&b, "  %s chat --url %s %s --room lobby\n", thisProgram(), strings.Join(slices.Concat(urls[at:], urls[:at]), ","), w)
	}
	return b.String()
}

// thisProgram is how to call this program again.
func thisProgram() string {
	if strings.Contains(os.Args[0], "go-build") { // go run has thrown it away by then
		return "godwit"
	}
	return os.Args[0]
}
