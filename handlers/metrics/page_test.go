package metrics

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"godwit/internal/golden"
	"godwit/internal/trial"
)

// No test of this package leaves a goroutine.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// of is the page of a node.
func of(n *trial.Node) *Metrics {
	return New(Config{
		Node: n.Core, Sockets: n.Sockets, Store: n.Store, Revision: "r1", Version: "v1", Log: slog.New(slog.DiscardHandler),
	})
}

// page is the text that a scrape gets.
func page(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// documented are all metrics that are ours, in the order of the page about them.
func documented() []*family { return append(slices.Clone(families), &adminRequests) }

func TestDocs_AreTheTable(t *testing.T) {
	const file = "../../docs/metrics.md"
	var b strings.Builder
	b.WriteString(docsHead)
	b.WriteString("| name | kind | labels | what it tells |\n|---|---|---|---|\n")
	for _, f := range documented() {
		labels := "-"
		if len(f.labels) > 0 {
			labels = "`" + strings.Join(f.labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.name, f.kind, labels, f.help)
	}
	b.WriteString(docsTail)
	golden.Is(t, file, []byte(b.String()))
}

// docsHead and docsTail are docs/metrics.md around its table.
const (
	docsHead = `# Metrics

` + "`GET /metrics`" + ` on the admin listener, as Prometheus reads it, without a token: keep that listener inside. Each node
tells of itself; add nodes up for the fleet. No label holds a room, a user or a session. [runbook.md](runbook.md) says
what to do about what they show; ` + "`k8s/monitoring`" + ` has alerts and a dashboard.

`
	docsTail = `
Besides, with the prefix ` + "`godwit_`" + ` like all others: what the Go runtime tells (` + "`godwit_go_goroutines`" + `,
` + "`godwit_go_gc_duration_seconds`" + `, ` + "`godwit_go_memstats_...`" + `) and, on Linux, the process (` + "`godwit_process_cpu_seconds_total`" + `,
` + "`godwit_process_resident_memory_bytes`" + `, ` + "`godwit_process_open_fds`" + `, ` + "`godwit_process_max_fds`" + `,
` + "`godwit_process_start_time_seconds`" + `).

Histograms have buckets from 0.1 ms to 5 s. An outcome or a reason that has never been is told as 0; what is none of
the words there are is ` + "`other`" + `. This page is written by ` + "`make docs`" + `.
`
)

func TestPage_TellsEveryFamilyAndNothingThatIsNotDocumented(t *testing.T) {
	f := trial.Start(trial.Options{})
	defer f.Close()
	m := of(f.Nodes[0])
	m.Served("/livez", http.MethodGet, http.StatusOK)
	kinds := map[string]string{}
	for line := range strings.Lines(page(t, m)) {
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(strings.TrimSpace(rest), " ")
			kinds[name] = kind
		}
	}
	for _, f := range documented() {
		if kinds[f.name] != f.kind {
			t.Errorf("%s is told as %q, documented as %s", f.name, kinds[f.name], f.kind)
		}
		delete(kinds, f.name)
	}
	for name := range kinds {
		if !strings.HasPrefix(name, "godwit_go_") && !strings.HasPrefix(name, "godwit_process_") {
			t.Errorf("%s is not documented", name)
		}
	}
	if len(kinds) < 20 {
		t.Errorf("the runtime and the process tell %d metrics", len(kinds))
	}
}

func TestNames_AreAsPrometheusHasThem(t *testing.T) {
	for _, f := range documented() {
		total, seconds := strings.HasSuffix(f.name, "_total"), strings.HasSuffix(f.name, "_seconds")
		switch {
		case !strings.HasPrefix(f.name, prefix), strings.ToLower(f.name) != f.name,
			total != (f.kind == counter), f.kind == histogram && !seconds, strings.Contains(f.name, "_ms"):
			t.Errorf("%s is a %s", f.name, f.kind)
		case !strings.HasSuffix(f.help, "."), strings.Contains(f.help, "|"):
			t.Errorf("%s: %q is no sentence", f.name, f.help)
		}
		for _, l := range f.labels {
			if slices.Contains([]string{"room", "user", "session", "client", "node", "path"}, l) {
				t.Errorf("%s has a label %s, of which there may be ever more", f.name, l)
			}
		}
	}
}
