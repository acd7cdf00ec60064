package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"godwit/migrations"
	"godwit/store"
)

// migrateTimeout bounds one round trip of a migration: a busy Redis is no reason
// to stop in the middle.
const migrateTimeout = 10 * time.Second

func migrateCommand(env []string) *cobra.Command {
	c := &cobra.Command{
		Use: "migrate", Short: "Bring the keyspace to this version", Args: noArgs,
		Long: "Changes what is stored from one version to the next, in numbered steps, while nodes of both work on it.\n" +
			"A step that was ended in the middle goes on when it is run again. GODWIT_REDIS_URL says where the store is.",
		RunE: func(*cobra.Command, []string) error {
			return usage{errors.New("expected one of status, up and verify")}
		},
	}
	for _, sub := range []struct {
		use, short string
		run        func(ctx context.Context, st *store.Store, out io.Writer) error
	}{
		{"status", "Show which steps are done", migrateStatus},
		{"up", "Do the steps that are not", migrateUp},
		{"verify", "Look at what the steps have left; exit 1 when something is wrong", migrateVerify},
	} {
		c.AddCommand(&cobra.Command{
			Use: sub.use, Short: sub.short, Args: noArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				st, err := migrated(env, c.ErrOrStderr())
				if err != nil {
					return err
				}
				defer st.Close()
				ctx, stop := untilSignal(c.Context())
				defer stop()
				return sub.run(ctx, st, c.OutOrStdout())
			},
		})
	}
	return c
}

// migrated opens the store that is to be migrated.
func migrated(env []string, errs io.Writer) (*store.Store, error) {
	vars := environment(env)
	if err := fromFile(vars, "GODWIT_REDIS_URL"); err != nil {
		return nil, usage{err}
	}
	if vars["GODWIT_REDIS_URL"] == "" {
		return nil, usage{errors.New("GODWIT_REDIS_URL: expected the URL of the store")}
	}
	st, err := store.Open(store.Config{
		URL: vars["GODWIT_REDIS_URL"], Timeout: migrateTimeout, Logger: slog.New(slog.NewTextHandler(errs, nil)),
	})
	if err != nil {
		return nil, usage{fmt.Errorf("GODWIT_REDIS_URL: %w", err)}
	}
	return st, nil
}

func migrateStatus(ctx context.Context, st *store.Store, out io.Writer) error {
	l, err := st.Layout(ctx)
	if err != nil {
		return err
	}
	for i, s := range migrations.Steps {
		state := "to do"
		switch number := i + 1; {
		case number <= l.Version:
			state = "done"
		case number == l.Step:
			state = "begun, and not finished"
		}
		fmt.Fprintf(out, "%d  %s: %s\n", i+1, s.Name, state)
	}
	_, err = migrations.Check(ctx, st)
	return err
}

func migrateUp(ctx context.Context, st *store.Store, out io.Writer) error {
	did := false
	err := migrations.Up(ctx, st, func(p migrations.Progress) {
		did = true
		state := fmt.Sprintf("%d so far", p.Done)
		if p.Over {
			state = fmt.Sprintf("done, %d in this run", p.Done)
		}
		fmt.Fprintf(out, "%d  %s: %s\n", p.Step, p.Name, state)
	})
	switch {
	case err != nil && ctx.Err() != nil:
		return errors.New("ended in the middle; godwit migrate up goes on")
	case err != nil:
		return fmt.Errorf("%w; godwit migrate up goes on where it was", err)
	case !did:
		fmt.Fprintln(out, "nothing to do")
	}
	return nil
}

func migrateVerify(ctx context.Context, st *store.Store, out io.Writer) error {
	wrong, err := migrations.Verify(ctx, st)
	if err != nil {
		return err
	}
	for _, line := range wrong {
		fmt.Fprintln(out, line)
	}
	if len(wrong) > 0 {
		return errors.New("not all was migrated; what a node of an older version has written since is listed as it is used")
	}
	fmt.Fprintln(out, "all is well")
	return nil
}
