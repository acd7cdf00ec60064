package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	api "godwit/handlers/admin"
)

// inspector makes the commands that show something of a fleet: a table for
// people, or what the API answers for scripts.
type inspector struct {
	*operator
	json bool
}

// inspect makes one that takes args and prints with show.
func inspect(env []string, use, short string, args cobra.PositionalArgs, show func(ctx context.Context, i *inspector, args []string, out io.Writer) error) *cobra.Command {
	i := &inspector{operator: &operator{env: env}}
	c := &cobra.Command{
		Use: use, Short: short,
		Args: func(c *cobra.Command, given []string) error {
			if err := args(c, given); err != nil {
				return usage{fmt.Errorf("%w\nusage: godwit %s", err, use)}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			closed, err := i.open()
			if err != nil {
				return err
			}
			defer closed()
			return show(c.Context(), i, args, c.OutOrStdout())
		},
	}
	i.flags(c)
	c.Flags().BoolVar(&i.json, "json", false, "print JSON")
	return c
}

func nodesCommand(env []string) *cobra.Command {
	return inspect(env, "nodes", "List the nodes of the fleet", cobra.NoArgs,
		func(ctx context.Context, i *inspector, _ []string, out io.Writer) error {
			return printList(ctx, i, out, "/nodes", "NODE\tSTATE\tSESSIONS\tROOMS\tLOAD\tLEASE\tREVISION\tBOOT", func(n api.Node) []any {
				lease := (time.Duration(n.LeaseMS) * time.Millisecond).Round(100 * time.Millisecond)
				return []any{n.Node, n.State, n.Sessions, n.Rooms, n.Load, lease, n.Revision, n.Boot}
			})
		})
}

func roomsCommand(env []string) *cobra.Command {
	return inspect(env, "rooms [PREFIX]", "List the rooms of the fleet, or those whose names begin so", cobra.MaximumNArgs(1),
		func(ctx context.Context, i *inspector, args []string, out io.Writer) error {
			return printList(ctx, i, out, "/rooms?prefix="+url.QueryEscape(strings.Join(args, "")), "ROOM\tMEMBERS\tSEQ\tLOG\tIN CALL\tEPOCH",
				func(r api.RoomState) []any {
					return []any{r.Room, r.MemberCount, r.Seq, r.LogLength, r.InCall, r.Epoch}
				})
		})
}

func roomCommand(env []string) *cobra.Command {
	return inspect(env, "room NAME", "Show a room, and who is in it", cobra.ExactArgs(1),
		func(ctx context.Context, i *inspector, args []string, out io.Writer) error {
			return printOne(ctx, i, out, "/rooms/"+url.PathEscape(args[0]), func(r api.Room, tw io.Writer) {
				fields(tw, "room", r.Room, "epoch", r.Epoch, "seq", r.Seq, "in call", r.InCall, "entries kept", r.LogLength, "members", r.MemberCount)
				fmt.Fprintln(tw, "\nUSER\tCLIENT\tDEVICE\tNODE\tSTATE\tSESSION")
				for _, m := range r.Members {
					cells(tw, m.User, m.Client, m.Device, m.Node, m.State, m.Session)
				}
				if r.More {
					fmt.Fprintf(tw, "... and %d more\n", r.MemberCount-len(r.Members))
				}
				if len(r.Call) > 0 {
					fmt.Fprintln(tw, "\nIN THE CALL\tCLIENT")
				}
				for _, m := range r.Call {
					cells(tw, m.User, m.Client)
				}
			})
		})
}

func sessionCommand(env []string) *cobra.Command {
	return inspect(env, "session ID", "Show a session", cobra.ExactArgs(1),
		func(ctx context.Context, i *inspector, args []string, out io.Writer) error {
			return printOne(ctx, i, out, "/sessions/"+url.PathEscape(args[0]), func(s api.Session, tw io.Writer) {
				fields(tw, "session", s.Session, "user", s.User, "client", s.Client, "device", s.Device, "state", s.State,
					"node", s.Node+" ("+s.Boot+")", "gen", s.Gen, "can", strings.Join(s.Caps, " "), "handle", s.Handle,
					"expires", s.Expires.Format(time.RFC3339))
				for _, room := range s.Rooms {
					fields(tw, "in room", room)
				}
				for _, m := range s.Moves {
					fields(tw, "moved", m.At.Format(time.RFC3339)+" from "+m.From)
				}
			})
		})
}

func userCommand(env []string) *cobra.Command {
	return inspect(env, "user NAME", "Show a user: its presence, devices, sessions and rooms", cobra.ExactArgs(1),
		func(ctx context.Context, i *inspector, args []string, out io.Writer) error {
			return printOne(ctx, i, out, "/users/"+url.PathEscape(args[0]), func(u api.User, tw io.Writer) {
				fields(tw, "user", u.User, "presence", u.Presence, "handle", u.Handle)
				for _, room := range u.Rooms {
					fields(tw, "in room", room)
				}
				fmt.Fprintln(tw, "\nCLIENT\tDEVICE\tPRESENCE\tSET BY\tSINCE\tSESSION")
				for _, d := range u.Devices {
					by := "the user"
					if d.Auto {
						by = "a timer"
					}
					cells(tw, d.Client, d.Device, d.Presence, by, d.Since.Format(time.RFC3339), d.Session)
				}
				fmt.Fprintln(tw, "\nCLIENT\tDEVICE\tNODE\tSTATE\tROOMS\tSESSION")
				for _, s := range u.Sessions {
					cells(tw, s.Client, s.Device, s.Node, s.State, len(s.Rooms), s.Session)
				}
			})
		})
}

// fields prints names and values, a line each.
func fields(w io.Writer, pairs ...any) {
	for i := 0; i+1 < len(pairs); i += 2 {
		cells(w, pairs[i], pairs[i+1])
	}
}

// cells prints a line of a table. What users call themselves, and their rooms, is
// shown, and never obeyed by the terminal.
func cells(w io.Writer, row ...any) {
	words := make([]string, len(row))
	for i, cell := range row {
		words[i] = plain(fmt.Sprint(cell))
	}
	fmt.Fprintln(w, strings.Join(words, "\t"))
}

// printOne asks for one thing.
func printOne[T any](ctx context.Context, i *inspector, out io.Writer, path string, show func(T, io.Writer)) error {
	var one T
	if err := i.call(ctx, http.MethodGet, path, nil, &one); err != nil {
		return err
	}
	if i.json {
		return printJSON(out, one)
	}
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	show(one, tw)
	return tw.Flush()
}

// printList asks for a whole list, part by part.
func printList[T any](ctx context.Context, i *inspector, out io.Writer, path, heads string, row func(T) []any) error {
	all := []T{}
	sign := "?"
	if strings.Contains(path, "?") {
		sign = "&"
	}
	for cursor := ""; ; {
		var page struct {
			Items  []T    `json:"items"`
			Cursor string `json:"cursor"`
		}
		query := sign + "limit=" + strconv.Itoa(listPart) + "&cursor=" + url.QueryEscape(cursor)
		if err := i.call(ctx, http.MethodGet, path+query, nil, &page); err != nil {
			return err
		}
		all = append(all, page.Items...)
		if cursor = page.Cursor; cursor == "" {
			break
		}
	}
	if i.json {
		return printJSON(out, all)
	}
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, heads)
	for _, one := range all {
		cells(tw, row(one)...)
	}
	return tw.Flush()
}

// listPart is how many items of a list are asked for at once.
const listPart = 1000

func printJSON(out io.Writer, v any) error {
	if err := json.MarshalWrite(out, v, jsontext.WithIndent("  ")); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	_, err := fmt.Fprintln(out)
	return err
}
