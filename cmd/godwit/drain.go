package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	api "godwit/handlers/admin"
)

const (
	// watchEvery is how often a drain is looked at: the node tells once a second.
	watchEvery = 500 * time.Millisecond
	// watchBlind is for how long who watches goes on asking a fleet that does
	// not answer.
	watchBlind = 30 * time.Second
)

func drainCommand(env []string) *cobra.Command {
	a := &operator{env: env}
	var budget time.Duration
	var undo bool
	c := &cobra.Command{
		Use:   "drain [NODE]",
		Short: "Move a node's sessions to the others, and watch",
		Long: "Drain a node: it takes no more sockets, and its sessions move to other nodes. Its process goes on;\n" +
			"--undo makes it take sockets again. Any node of the fleet can be asked (--admin). Without a name it is\n" +
			"GODWIT_NODE_ID's, as in a node's own container.\n\n" +
			"Exit code: 0 when nobody is left and nobody had to resume; 1 when somebody had to, is left, or the\n" +
			"drain could not be watched to its end; 2 when the command makes no sense. Ctrl-C ends the watching,\n" +
			"not the drain.",
		Example: "  GODWIT_ADMIN_TOKEN=... godwit drain n1 --budget 2m\n  godwit drain n1 --undo",
		Args:    cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if own := environment(env)["GODWIT_NODE_ID"]; len(args) == 0 && own != "" {
				args = []string{own}
			}
			switch {
			case len(args) != 1 || args[0] == "":
				return usage{errors.New("expected the name of one node; godwit nodes lists them")}
			case c.Flags().Changed("budget") && budget < time.Millisecond:
				return usage{errors.New("--budget: expected at least 1ms")}
			case undo && c.Flags().Changed("budget"):
				return usage{errors.New("--budget and --undo: expected one of them")}
			}
			closed, err := a.open()
			if err != nil {
				return err
			}
			defer closed()
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			path := "/nodes/" + url.PathEscape(args[0]) + "/drain"
			if undo {
				return undrain(ctx, a, path, c.OutOrStdout())
			}
			w := &watcher{a: a, path: path, node: args[0], out: c.OutOrStdout()}
			return w.drain(ctx, budget)
		},
	}
	a.flags(c)
	c.Flags().DurationVar(&budget, "budget", 0, "time for the drain (default: the node's GODWIT_DRAIN_BUDGET)")
	c.Flags().BoolVar(&undo, "undo", false, "end the drain: the node takes sockets again")
	return c
}

func undrain(ctx context.Context, a *operator, path string, out io.Writer) error {
	var d api.Drain
	if err := a.call(ctx, http.MethodDelete, path, nil, &d); err != nil {
		return err
	}
	if d.State != "stopped" {
		return fmt.Errorf("node %s has not ended its drain yet: it is %s", d.Node, d.State)
	}
	fmt.Fprintf(out, "node %s takes sockets again; %s\n", plain(d.Node), counts(d))
	return nil
}

// watcher begins a drain and shows how it goes.
type watcher struct {
	a    *operator
	path string
	node string
	out  io.Writer
	last string // the line that was shown
}

func (w *watcher) drain(ctx context.Context, budget time.Duration) error {
	var d api.Drain
	order := api.DrainOrder{BudgetMS: budget.Milliseconds()}
	if err := w.a.call(ctx, http.MethodPost, w.path, order, &d); err != nil {
		return err
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for seen := time.Now(); ; {
		w.show(d)
		switch d.State {
		case "done":
			w.end()
			return finished(d)
		case "stopped":
			w.end()
			if d.NodeState == "lost" {
				return fmt.Errorf("node %s is lost; its clients resume elsewhere", d.Node)
			}
			return fmt.Errorf("somebody ended the drain of node %s", d.Node)
		}
		select {
		case <-ctx.Done():
			w.end()
			return fmt.Errorf("no longer watching; the drain goes on (godwit drain %s --undo ends it)", w.node)
		case <-tick.C:
		}
		next := d
		err := w.a.call(ctx, http.MethodGet, w.path, nil, &next)
		switch {
		case err == nil:
			d, seen = next, time.Now()
		case ctx.Err() != nil:
		case !passing(err):
			w.end()
			return fmt.Errorf("the drain is out of sight, last seen with %s: %w", counts(d), err)
		case time.Since(seen) > watchBlind:
			w.end()
			return err
		}
	}
}

// finished says whether all were moved.
func finished(d api.Drain) error {
	if d.Left > 0 || d.Resumed > 0 {
		return fmt.Errorf("not all were moved from node %s: %s", d.Node, counts(d))
	}
	return nil
}

func counts(d api.Drain) string {
	return fmt.Sprintf("%d moved, %d left, %d refused, %d resumed", d.Moved, d.Left, d.Refused, d.Resumed)
}

// show shows how a drain goes: on a terminal in one line that changes, else in
// a line for each change.
func (w *watcher) show(d api.Drain) {
	line := fmt.Sprintf("%s %s: %s, %.1f/s", plain(d.Node), plain(d.State), counts(d), d.Rate)
	if d.State == "running" {
		line += ", eta " + (time.Duration(d.ETAMS) * time.Millisecond).Round(time.Second).String()
	}
	switch {
	case line == w.last:
	case terminal(w.out):
		fmt.Fprintf(w.out, "\r%s%s", line, strings.Repeat(" ", max(0, len(w.last)-len(line))))
	default:
		fmt.Fprintln(w.out, line)
	}
	w.last = line
}

// end leaves the line that changes.
func (w *watcher) end() {
	if terminal(w.out) {
		fmt.Fprintln(w.out)
	}
}
