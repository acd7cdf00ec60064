package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"godwit/bench/floor"
	"godwit/bench/load"
)

// The load and the floor are processes of their own, so that their CPU is not
// counted as the nodes'. Nobody types these commands.
const (
	loadName  = "bench-load"
	floorName = "bench-floor"
)

// loadOrder is the one line that a load is given.
type loadOrder struct {
	load.Config
	Secret string `json:"secret,omitzero"` // key of tokens; empty: dev tokens
}

// loadWord is one line that a load says. After a mark it waits for a line.
type loadWord struct {
	Mark   string       `json:"mark,omitzero"`
	Part   string       `json:"part,omitzero"`
	Done   int          `json:"done,omitzero"`
	Of     int          `json:"of,omitzero"`
	Result *load.Result `json:"result,omitzero"`
	Error  string       `json:"error,omitzero"`
}

func loadCommand() *cobra.Command {
	return &cobra.Command{
		Use: loadName, Short: "The clients of a bench", Hidden: true, Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			l := &loader{in: bufio.NewScanner(c.InOrStdin()), out: c.OutOrStdout()}
			l.in.Buffer(nil, devLogLine)
			return l.run(c.Context())
		},
	}
}

// loader is a load that speaks with its measurer by lines.
type loader struct {
	in  *bufio.Scanner
	mu  sync.Mutex
	out io.Writer // guarded by mu
}

func (l *loader) run(ctx context.Context) error {
	if !l.in.Scan() {
		return errors.New("nothing was ordered")
	}
	var o loadOrder
	if err := json.Unmarshal(l.in.Bytes(), &o); err != nil {
		return fmt.Errorf("read what was ordered: %w", err)
	}
	o.Token = func(user string) (string, error) {
		mint, err := minter(user, "", o.Secret)
		if err != nil {
			return "", err
		}
		return mint(ctx)
	}
	r, err := load.Run(ctx, o.Config, l)
	if err != nil {
		return l.say(loadWord{Error: err.Error()})
	}
	return l.say(loadWord{Result: r})
}

func (l *loader) say(w loadWord) error {
	b, err := json.Marshal(w)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err = l.out.Write(append(b, '\n'))
	return err
}

// Mark tells the measurer, and waits until it has looked.
func (l *loader) Mark(_ context.Context, name string) error {
	if err := l.say(loadWord{Mark: name}); err != nil {
		return err
	}
	if !l.in.Scan() {
		return errors.New("the measurer has gone")
	}
	return nil
}

// Progress tells the measurer.
func (l *loader) Progress(part string, done, of int) {
	_ = l.say(loadWord{Part: part, Done: done, Of: of}) // who has gone misses nothing
}

func floorCommand() *cobra.Command {
	return &cobra.Command{
		Use: floorName, Short: "The least that a hub can be", Hidden: true, Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ln, err := net.Listen("tcp", net.JoinHostPort(soakHost, "0"))
			if err != nil {
				return err
			}
			slog.New(slog.NewTextHandler(c.OutOrStdout(), nil)).Info("listening", "addr", ln.Addr().String())
			s := &http.Server{Handler: floor.New(), ReadHeaderTimeout: 10 * time.Second}
			return s.Serve(ln)
		},
	}
}
