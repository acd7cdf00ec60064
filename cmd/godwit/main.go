// Command godwit is the whole of Godwit in one binary: a node (the default), a
// small fleet for development, and the tools to try it with.
//
// It owns settings, wiring and signals; what a node does is package server's.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the build; without it the module's revision is used.
var version string

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

// usage is an error of whoever typed the command or set the environment.
type usage struct{ err error }

func (u usage) Error() string { return u.err.Error() }

func noArgs(c *cobra.Command, args []string) error {
	if err := cobra.NoArgs(c, args); err != nil {
		return usage{fmt.Errorf("%w\n%s -h says what there is", err, c.CommandPath())}
	}
	return nil
}

// run is the program: it returns the exit code. 0 is done, 1 failed, 2 asked
// for something that makes no sense.
func run(ctx context.Context, args, env []string, in io.Reader, out, errs io.Writer) int {
	root := &cobra.Command{
		Use:           "godwit",
		Short:         "A fleet of thin websocket nodes on Redis whose sessions outlive any node",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return serve(c.Context(), env, out, errs) },
	}
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage{fmt.Errorf("%w\n%s -h says what there is", err, c.CommandPath())}
	})
	root.AddCommand(serveCommand(env), devCommand(env), tokenCommand(env), versionCommand(), chatCommand(), nodesCommand(env), drainCommand(env),
		roomsCommand(env), roomCommand(env), userCommand(env), sessionCommand(env), probeCommand(env), migrateCommand(env),
		soakCommand(env), benchCommand(env), loadCommand(), floorCommand())
	err := root.ExecuteContext(ctx)
	var u usage
	switch {
	case err == nil:
		return 0
	case errors.As(err, &u):
		fmt.Fprintln(errs, "godwit:", err)
		return 2
	}
	fmt.Fprintln(errs, "godwit:", err)
	return 1
}

// revision is what this binary calls itself.
func revision() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				return s.Value[:12]
			}
		}
	}
	return "dev"
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the revision of this binary", Args: noArgs,
		Run: func(c *cobra.Command, _ []string) { fmt.Fprintln(c.OutOrStdout(), revision()) },
	}
}
