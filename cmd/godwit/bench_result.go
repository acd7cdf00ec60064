package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"godwit/bench/load"
)

// benchResult is a whole bench.
type benchResult struct {
	Revision string       `json:"revision"`
	Machine  machine      `json:"machine"`
	Works    []workResult `json:"works"`
}

// workResult is one work.
type workResult struct {
	Work  string   `json:"work"`
	Shape shape    `json:"shape"`
	Fleet figures  `json:"fleet"`
	Floor figures  `json:"floor,omitempty"`
	Ratio figures  `json:"ratio,omitempty"` // of the fleet to the floor
	Count tallied  `json:"count"`           // on the fleet
	Under tallied  `json:"floor_count,omitzero"`
	Then  figures  `json:"against,omitempty"` // ratio to an earlier fleet
	Wrong []string `json:"wrong"`
	// Evicted are the clients that the nodes have put out as too slow, where some
	// were stalled.
	Evicted int `json:"evicted,omitzero"`
}

// shape is what was done: only what has the same is compared.
type shape struct {
	Nodes    int     `json:"nodes"` // 0: somebody else's
	Rooms    int     `json:"rooms"`
	Members  int     `json:"members"`
	Stalled  int     `json:"stalled"`
	Rate     float64 `json:"rate"`
	InFlight int     `json:"inflight"`
	Parallel int     `json:"parallel"`
	Payload  int     `json:"payload"`
	Presence bool    `json:"presence"`
	Seconds  float64 `json:"seconds"`
}

// tallied is what was counted by both ends.
type tallied struct {
	Clients   int     `json:"clients"`
	Seconds   float64 `json:"seconds"`
	Accepted  int64   `json:"accepted"`
	Expected  int64   `json:"expected"`
	Delivered int64   `json:"delivered"`
}

func tallyOf(r *load.Result) tallied {
	return tallied{Clients: r.Clients, Seconds: r.Seconds, Accepted: r.Accepted, Expected: r.Expected, Delivered: r.Delivered}
}

// verdict is nil when every count is right.
func (r *benchResult) verdict() error {
	var wrong []error
	for _, w := range r.Works {
		for _, why := range w.Wrong {
			wrong = append(wrong, fmt.Errorf("%s: %s", w.Work, why))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("bench: the counts are wrong, so the figures mean nothing:\n%w", errors.Join(wrong...))
}

// readBench reads the JSON of an earlier bench.
func readBench(path string) (*benchResult, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r benchResult
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("%s is no result of godwit bench --json: %w", path, err)
	}
	return &r, nil
}

// against lays an earlier bench beside this one, and is what of this one was not
// in it. Stalled readers may differ: what they cost the others is a question.
func (r *benchResult) against(old *benchResult) (alone []string) {
	for i := range r.Works {
		w := &r.Works[i]
		for _, o := range old.Works {
			if then := o.Shape; w.Work == o.Work {
				then.Stalled = w.Shape.Stalled
				if then == w.Shape {
					w.Then = w.Fleet.ratio(o.Fleet)
				}
			}
		}
		if w.Then == nil {
			alone = append(alone, w.Work)
		}
	}
	return alone
}

func (r *benchResult) print(w io.Writer, asJSON bool) error {
	if asJSON {
		b, err := json.Marshal(r, jsontext.WithIndent("  "), json.Deterministic(true))
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s\n", b)
		return err
	}
	for i := range r.Works {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := r.Works[i].table(w); err != nil {
			return err
		}
	}
	return nil
}

// table is a work as people read it.
func (w *workResult) table(out io.Writer) error {
	fmt.Fprintf(out, "%s: %s\n", w.Work, w.Shape.describe(w.Work))
	tw := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	row := func(name, fleet, floor, ratio, then string) {
		cells := fmt.Sprintf("%10s  %10s  %10s  %10s", fleet, floor, ratio, then)
		fmt.Fprintf(tw, "%s\t%s\n", name, strings.TrimRight(cells, " "))
	}
	row("", "fleet", told(w.Floor != nil, "floor"), told(w.Floor != nil, "ratio"), told(w.Then != nil, "to earlier"))
	for _, m := range metrics {
		v, ok := w.Fleet[m.name]
		if !ok {
			continue
		}
		name := m.says
		if m.unit != "" {
			name += ", " + m.unit
		}
		cell := func(f figures, shown bool) string {
			v, ok := f[m.name]
			return told(ok && shown, strconv.FormatFloat(v, 'f', 2, 64))
		}
		row(name, plainNumber(v), number(w.Floor, m.name), cell(w.Ratio, m.ratio), cell(w.Then, true))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if w.Count.Expected > 0 && !loses(w.Work) {
		fmt.Fprintf(out, "%d accepted in %.1fs; %d deliveries follow, the clients counted %d\n",
			w.Count.Accepted, w.Count.Seconds, w.Count.Expected, w.Count.Delivered)
	}
	if w.Evicted > 0 {
		fmt.Fprintf(out, "%d clients were put out as too slow\n", w.Evicted)
	}
	for _, why := range w.Wrong {
		fmt.Fprintln(out, "WRONG:", why)
	}
	return nil
}

func told(known bool, s string) string {
	if known {
		return s
	}
	return ""
}

func number(f figures, name string) string {
	v, ok := f[name]
	return told(ok, plainNumber(v))
}

// plainNumber has about three digits that matter.
func plainNumber(v float64) string {
	switch {
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

func (s shape) describe(work string) string {
	parts := []string{fmt.Sprintf("%d rooms of %d", s.Rooms, s.Members)}
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if work == "fanout" {
		add("%d bytes", s.Payload)
		if s.Rate > 0 {
			add("%g publishes a second", s.Rate)
		} else {
			add("as fast as acknowledged, %d in flight a room", s.InFlight)
		}
		if s.Stalled > 0 {
			add("%d readers stalled", s.Stalled)
		}
	}
	if work == "presence" {
		add("%g changes a second", s.Rate)
	}
	if work == "calls" {
		add("each in a call, a beat of each member every %s", benchBeat)
	}
	if s.Presence {
		add("presence on")
	}
	if s.Nodes > 0 {
		add("%d nodes", s.Nodes)
	}
	return strings.Join(parts, ", ")
}
