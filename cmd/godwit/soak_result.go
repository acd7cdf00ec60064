package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"godwit/e2e/ledger"
)

// soakResult is what a soak has found.
type soakResult struct {
	Clean    bool   `json:"clean"`    // all that must be zero is, and all was done
	Complete bool   `json:"complete"` // all was done that was asked for
	Error    string `json:"error,omitempty"`

	URLs     []string `json:"urls,omitempty"` // of a fleet that ran elsewhere: no nodes, rollouts and signal
	Nodes    int      `json:"nodes"`
	Clients  int      `json:"clients"`
	Rooms    int      `json:"rooms"`
	Rollouts int      `json:"rollouts"`
	Rolled   int      `json:"nodes_rolled"`
	Signal   string   `json:"signal"`
	Seed     uint64   `json:"seed"`
	Seconds  float64  `json:"seconds"`

	Sent      int   `json:"sent"`
	Answered  int   `json:"answered"`
	Delivered int   `json:"delivered"`
	Handed    int64 `json:"handed_over"`
	Resumed   int64 `json:"resumed"`
	Held      int64 `json:"held"` // messages not sent, for a room was too far behind

	SessionsLost int64 `json:"sessions_lost"`
	Lost         int   `json:"lost"`
	Doubled      int   `json:"doubled"`
	Reordered    int   `json:"reordered"`
	Extra        int   `json:"extra_events"`
	Stirs        int64 `json:"extra_presence"`
	Resets       int64 `json:"room_resets"`
	Unrecovered  int64 `json:"not_recovered"`
	Wrong        int   `json:"wrong"`
	Unanswered   int   `json:"unanswered"`

	Latency quantiles `json:"latency"`
	Around  quantiles `json:"latency_moved"`
	Usual   quantiles `json:"pause_any_moment"`
	Pause   quantiles `json:"pause_moved"`
	Resume  quantiles `json:"resume"`

	// Back counts who was elsewhere by which tenth of the budget; the last ones after it.
	Back []int `json:"back_by_tenth"`

	Flaws    []string `json:"flaws"`
	Findings []string `json:"findings"`
}

// result ends the talk and says how it went; err is why it was ended early.
func (s *soak) result(ctx context.Context, began time.Time, err error) *soakResult {
	t := s.crowd.end(ctx, err == nil)
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return s.report(t, began, err)
}

// report puts together what was counted.
func (s *soak) report(t ledger.Tally, began time.Time, err error) *soakResult {
	c, o := s.crowd, s.o
	r := &soakResult{
		URLs: o.urls, Nodes: o.nodes, Clients: o.clients, Rooms: o.rooms, Rollouts: o.rollouts, Rolled: s.done,
		Signal: "SIGTERM", Seed: o.seed, Seconds: time.Since(began).Round(time.Millisecond).Seconds(),
		Sent: t.Sent, Answered: t.Answered, Delivered: t.Seen,
		Handed: c.handed.Load(), Resumed: c.resumed.Load(), Held: c.held.Load(),
		SessionsLost: c.lost.Load(), Lost: t.Lost, Doubled: t.Doubled, Reordered: t.Swapped,
		Extra: t.Noise, Stirs: c.stirs.Load(), Resets: c.resets.Load(), Unrecovered: c.unrecovered.Load(), Wrong: t.Wrong,
		Latency: c.latency.quantiles(), Around: c.around.quantiles(),
		Usual: c.usual.quantiles(), Pause: c.pauses.quantiles(), Resume: c.resumes.quantiles(), Flaws: []string{}, Findings: []string{},
	}
	switch {
	case len(o.urls) > 0:
		r.Nodes, r.Rollouts, r.Signal = 0, 0, ""
	case o.kill:
		r.Signal = "SIGKILL"
	}
	c.mu.Lock()
	r.Flaws, r.Back = append(r.Flaws, c.flaws...), slices.Clone(c.back[:])
	r.Findings = append(r.Findings, c.odd...)
	c.mu.Unlock()
	for _, f := range t.Findings[:min(len(t.Findings), soakFlaws)] {
		r.Findings = append(r.Findings, f.String())
	}
	switch {
	case err == nil:
		r.Complete = t.Answered > 0
		r.Unanswered = t.Sent - t.Answered
		if !r.Complete {
			r.Error = "no message was answered, so nothing is proven"
		}
	case errors.Is(err, context.Canceled):
		r.Error = "interrupted"
	default:
		r.Error = err.Error()
	}
	r.Clean = r.Complete && len(r.broken()) == 0
	return r
}

// count is a number that must be zero.
type count struct {
	name string
	n    int64
}

func (r *soakResult) zeros() []count {
	return []count{
		{"sessions lost", r.SessionsLost},
		{"messages lost", int64(r.Lost)},
		{"messages doubled", int64(r.Doubled)},
		{"messages reordered", int64(r.Reordered)},
		{"extra joins, leaves and calls seen", int64(r.Extra)},
		{"extra changes of presence seen", r.Stirs},
		{"room resets", r.Resets},
		{"recovered:false", r.Unrecovered},
		{"wrong senders, texts, refusals", int64(r.Wrong)},
		{"messages without an answer", int64(r.Unanswered)},
		{"other flaws", int64(len(r.Flaws))},
	}
}

// broken lists what had to be zero and is not.
func (r *soakResult) broken() []string {
	var all []string
	for _, c := range r.zeros() {
		if c.n != 0 {
			all = append(all, fmt.Sprintf("%s: %d", c.name, c.n))
		}
	}
	return all
}

// verdict is nil when every promise was kept, and all was done.
func (r *soakResult) verdict() error {
	why := r.broken()
	if !r.Complete {
		why = append(why, "not all was done: "+r.Error)
	}
	if len(why) == 0 {
		return nil
	}
	return errors.New("soak: " + strings.Join(why, "; "))
}

func (r *soakResult) print(w io.Writer, asJSON bool) error {
	if asJSON {
		b, err := json.Marshal(r, jsontext.WithIndent("  "))
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s\n", b)
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(tw, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	if len(r.URLs) > 0 {
		row("fleet", "%s", strings.Join(r.URLs, ", "))
	} else {
		row("nodes", "%d, each to be ended by %s %d times; %d done", r.Nodes, r.Signal, r.Rollouts, r.Rolled)
	}
	row("clients", "%d, in %d rooms", r.Clients, r.Rooms)
	row("took", "%.1fs", r.Seconds)
	row("messages sent / answered", "%d / %d", r.Sent, r.Answered)
	row("events delivered", "%d", r.Delivered)
	row("sockets handed over", "%d", r.Handed)
	row("sessions resumed", "%d", r.Resumed)
	if r.Held > 0 {
		row("messages held back", "%d, for a member was too far behind", r.Held)
	}
	for _, c := range r.zeros() {
		mark := ""
		if c.n != 0 {
			mark = "   <-- must be 0"
		}
		row(c.name, "%d%s", c.n, mark)
	}
	if len(r.URLs) == 0 {
		row("elsewhere by tenths of the budget, and later", "%s", strings.Trim(fmt.Sprint(r.Back), "[]"))
	}
	fmt.Fprintf(tw, "\t\n\tp50\tp99\tmax\tcount\n")
	for _, q := range []struct {
		name string
		quantiles
	}{
		{"delivery, send to receive", r.Latency},
		{"delivery to a client that moves just then", r.Around},
		{"quiet around any moment, of any client", r.Usual},
		{"quiet around a move, of who moves", r.Pause},
		{"resume, from the loss of the socket", r.Resume},
	} {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%d\n", q.name, millis(q.P50), millis(q.P99), millis(q.Max), q.Count)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, list := range []struct {
		name  string
		lines []string
	}{{"flaws", r.Flaws}, {"the first findings", r.Findings}} {
		if len(list.lines) > 0 {
			fmt.Fprintf(w, "\n%s:\n  %s\n", list.name, strings.Join(list.lines, "\n  "))
		}
	}
	return nil
}

func millis(ms float64) string {
	if ms >= 100 {
		return fmt.Sprintf("%.0fms", ms)
	}
	return fmt.Sprintf("%.1fms", ms)
}
