package redirect

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"godwit/internal/golden"
)

// TestTranscripts walks the three machines through each way that a move can
// go. A line is the time, who is told, what, and after "=" what follows: the
// state, and before it what the machine says, where it says anything; "no" is
// that a step was none. What the store has said stands in the comments.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 15 {
		t.Fatalf("%d transcripts, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			script, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, err := play(string(script))
			if err != nil {
				t.Fatal(err)
			}
			golden.Is(t, file, []byte(got))
		})
	}
}

// play runs a transcript again and returns it with what the machines say.
func play(text string) (string, error) {
	var p parties
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		said, _, _ := strings.Cut(line, "=")
		said = strings.TrimRight(said, " ")
		if said == "" || strings.HasPrefix(said, "#") {
			continue
		}
		out, err := p.step(strings.Fields(said))
		if err != nil {
			return "", fmt.Errorf("line %d, %q: %w", i+1, line, err)
		}
		lines[i] = fmt.Sprintf("%-36s= %s", said, out)
	}
	return strings.Join(lines, "\n"), nil
}

// parties are those of one session's moves: the nodes a and b, and the client.
type parties struct {
	source Source
	target Target
	client Client
}

func (p *parties) step(words []string) (string, error) {
	if len(words) < 3 {
		return "", fmt.Errorf("want a time, who, and what")
	}
	at, err := time.ParseDuration(words[0])
	if err != nil {
		return "", err
	}
	now, who, what, id := time.UnixMilli(0).Add(at), words[1], words[2], ""
	if len(words) > 3 {
		id = words[3]
	}
	until := now
	if len(words) > 4 {
		life, err := time.ParseDuration(words[4])
		if err != nil {
			return "", err
		}
		until = now.Add(life)
	}
	switch who {
	case "source":
		step, ok := map[string]func(string) bool{
			"offer": p.source.Offer, "ended": p.source.Ended, "claimed": p.source.Claimed, "done": p.source.Done,
		}[what]
		if !ok {
			break
		}
		return says(!step(id), "no") + [...]string{"active", "offered", "fenced", "closed"}[p.source.State()], nil
	case "target":
		step, ok := map[string]func() bool{
			"prepare": func() bool { return p.target.Prepare(id, until) },
			"waits":   func() bool { return p.target.Holds(now) },
			"ended":   func() bool { return p.target.Cancelled(id) },
			"claimed": func() bool { return p.target.Claimed(id) },
			"done":    func() bool { return p.target.Done(id) },
			"forgets": func() bool { p.target = Target{}; return true },
		}[what]
		if !ok {
			break
		}
		return says(!step(), "no") + [...]string{"free", "pending", "committed", "live", "expired", "cancelled"}[p.target.State()], nil
	case "client":
		states := []string{"connected", "considers", "dialing", "handshake", "dual", "switched", "resuming"}
		step, ok := map[string]func() string{
			"offer":      func() string { return [...]string{"ignores, ", "takes, ", "busy, "}[p.client.Offer(id, until)] },
			"begins":     func() string { return says(!p.client.Begin(id), "no") },
			"asks":       func() string { return says(!p.client.Ask(id, now), "no") },
			"answered":   func() string { return says(!p.client.Answered(id), "no") },
			"unanswered": func() string { return says(p.client.Unanswered(id), "may dial again") },
			"fails":      func() string { return says(p.client.Failed(id, now), "refuses") },
			"withdrawn":  func() string { return says(!p.client.Withdrawn(id), "no") },
			"fenced":     func() string { p.client.Fenced(); return "" },
			"lost":       func() string { p.client.Lost(false); return "" },
			"ended":      func() string { p.client.Lost(true); return "" },
			"old-lost":   func() string { p.client.OldLost(); return "" },
			"resumed":    func() string { p.client.Resumed(); return "" },
			"closes":     func() string { p.client.Close(); return "" },
		}[what]
		if !ok {
			break
		}
		said := step()
		return said + states[p.client.State()], nil
	}
	return "", fmt.Errorf("nobody knows how to do that")
}

func says(when bool, what string) string {
	if when {
		return what + ", "
	}
	return ""
}

// TestTranscripts_TellOfEachStateAndEachStep sees to it that no way was left out.
func TestTranscripts_TellOfEachStateAndEachStep(t *testing.T) {
	var all []string
	files, _ := filepath.Glob("testdata/*.txt")
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			all = append(all, strings.Fields(line)...)
		}
	}
	for _, word := range strings.Fields(`active offered fenced closed
		free pending committed live expired cancelled
		connected considers dialing handshake dual switched resuming
		offer ended claimed done prepare waits begins asks answered unanswered fails withdrawn lost old-lost resumed closes
		ignores, takes, busy, refuses, no,`) {
		if !slices.Contains(all, word) {
			t.Errorf("no transcript has %q", word)
		}
	}
}
