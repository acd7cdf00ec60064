package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const (
	// probeWithin bounds a probe: a node that takes longer does not serve.
	probeWithin = 2 * time.Second
	probeMost   = 4 << 10
)

var probes = []string{"ready", "live", "startup"}

func probeCommand(env []string) *cobra.Command {
	var admin string
	c := &cobra.Command{
		Use:   "probe [ready|live|startup]",
		Short: "Ask the node of this machine or container how it stands",
		Long: "Asks the probe (default: ready) of the node whose admin listener GODWIT_ADMIN_LISTEN names, for places\n" +
			"that have no shell and no curl. Exit code: 0 when it is well, else 1, and the reasons.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 1 && !slices.Contains(probes, args[0]) {
				return usage{errors.New("expected one of ready, live and startup")}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			addr := cmp.Or(admin, environment(env)["GODWIT_ADMIN_LISTEN"], ":8081")
			if _, port, err := net.SplitHostPort(addr); err != nil || port == "0" {
				return usage{errors.New("--admin: expected host:port of the admin listener")}
			}
			return askProbe(c.Context(), reachable(addr), cmp.Or(strings.Join(args, ""), probes[0]), c.OutOrStdout())
		},
	}
	c.Flags().StringVar(&admin, "admin", "", "host:port of the admin listener (default: GODWIT_ADMIN_LISTEN)")
	return c
}

// reachable is where a listener of this machine is reached that listens at addr,
// which may be every address.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("localhost", port)
	}
	return addr
}

func askProbe(ctx context.Context, addr, which string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/"+which+"z", nil)
	if err != nil {
		return usage{fmt.Errorf("--admin: %w", err)}
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("the node does not answer: %w", err)
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(io.LimitReader(resp.Body, probeMost))
	if err != nil {
		return fmt.Errorf("the node does not answer: %w", err)
	}
	why := strings.ReplaceAll(strings.TrimSpace(string(said)), "\n", ", ")
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("not %s: %s (%d)", map[string]string{"ready": "ready", "live": "alive", "startup": "started"}[which], why, resp.StatusCode)
	}
	fmt.Fprintln(out, why)
	return nil
}
