package store

import (
	"context"
	_ "embed"
	"fmt"
	"strings"
	"time"
)

//go:embed chain.lua
var chainLua string

// Steps of which each needs the one before it, and whose keys are in several
// slots. A single server runs them as one script: one round trip, and nobody
// comes in between. In a Cluster each is a call of its own.
var (
	beginDevice     = link(reserveScript, handleScript, ownScript, createScript, deviceScript)
	beginPlain      = link(reserveScript, handleScript, ownScript, createScript, noteScript)
	ownClaim        = link(ownScript, claimScript)
	ownHandover     = link(ownScript, handoverScript)
	elsewhereDisown = link(elsewhereScript, disownScript)
	enterJoin       = link(enterScript, noteScript, indexScript, joinScript)
)

// link makes one script of several. It has no name among the scripts: its steps
// have.
func link(steps ...*script) *script {
	var text strings.Builder
	names := make([]string, len(steps))
	text.WriteString("local steps = {\n")
	for i, s := range steps {
		names[i] = s.name
		fmt.Fprintf(&text, "function(KEYS, ARGV)\n%s\nend,\n", s.text)
	}
	text.WriteString("}\n")
	text.WriteString(chainLua)
	s := newScript(strings.Join(names, "+"), text.String())
	s.steps = steps
	return s
}

// linked is the one call of a chain, on a single server.
func linked(sc *script, calls []call) call {
	one := call{script: sc}
	for _, c := range calls {
		one.keys = append(one.keys, c.keys...)
		one.args = append(one.args, len(c.keys), len(c.args))
	}
	for _, c := range calls {
		one.args = append(one.args, c.args...)
	}
	return one
}

// links are the answers of a chain's steps, in their order.
func links(a answer) []answer {
	out := make([]answer, len(a))
	for i, v := range a {
		step, _ := v.([]any)
		out[i] = step
	}
	return out
}

// chain runs the steps of a chain, one call for each, until one refuses: that
// is the last whose answer it returns. May be repeated where each step may. On an
// error the answers are of those that are known to have run.
func (s *Store) chain(ctx context.Context, sc *script, calls ...call) ([]answer, error) {
	if s.cluster == nil {
		one := linked(sc, calls)
		a, err := s.run(ctx, one.script, one.keys, one.args...)
		return links(a), err
	}
	var out []answer
	for _, c := range calls {
		a, err := s.run(ctx, c.script, c.keys, c.args...)
		if err != nil {
			return out, err
		}
		if out = append(out, a); a.status() != "ok" {
			break
		}
	}
	return out, nil
}

// last is the answer of the last step that ran.
func last(steps []answer) answer {
	if len(steps) == 0 {
		return nil
	}
	return steps[len(steps)-1]
}

// answered counts a call that came in at a moment; of a chain, each step.
func (s *Store) answered(sc *script, came time.Time, err error) {
	if len(sc.steps) > 0 {
		for _, step := range sc.steps {
			s.answered(step, came, err)
		}
		return
	}
	stats := s.stats[sc]
	if err != nil {
		stats.Failed.Add(1)
		return
	}
	stats.Took.Observe(time.Since(came))
}
