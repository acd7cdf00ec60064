package k8s

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"godwit/handlers/metrics"
	"godwit/internal/trial"
)

// exported is what a node tells: the values of each label, by name of sample.
type exported map[string]map[string][]string

// byPrometheus are the labels that every sample gets when it is fetched.
var byPrometheus = []string{"job", "instance"}

func nodeTells(t *testing.T) exported {
	t.Helper()
	f := trial.Start(trial.Options{})
	defer f.Close()
	n := f.Nodes[0]
	page := metrics.New(metrics.Config{Node: n.Core, Sockets: n.Sockets, Store: n.Store, Revision: "r", Version: "v", Log: slog.New(slog.DiscardHandler)})
	w := httptest.NewRecorder()
	page.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	all := exported{}
	pair := regexp.MustCompile(`([a-z_]+)="([^"]*)"`)
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		name := line[:strings.IndexAny(line, "{ ")]
		if all[name] == nil {
			all[name] = map[string][]string{}
		}
		for _, m := range pair.FindAllStringSubmatch(line, -1) {
			all[name][m[1]] = append(all[name][m[1]], m[2])
		}
	}
	if len(all) < 80 {
		t.Fatalf("a node tells %d samples: %s", len(all), w.Body)
	}
	return all
}

// check says what is wrong with a query: of each metric that it names a node
// tells, and each label and value is one that there is.
func (e exported) check(text string) (wrong []string) {
	q, err := parseQuery(text)
	if err != nil {
		return []string{err.Error()}
	}
	known := slices.Clone(byPrometheus)
	for _, s := range q.series {
		labels, ok := e[s.name]
		if !ok {
			wrong = append(wrong, s.name+" is told by no node")
		}
		for l := range labels {
			known = append(known, l)
		}
		for _, m := range s.matchers {
			values, ok := labels[m.label]
			switch {
			case slices.Contains(byPrometheus, m.label):
				continue
			case !ok:
				wrong = append(wrong, s.name+" has no label "+m.label)
			}
			for _, v := range strings.Split(m.value, "|") {
				if !slices.Contains(values, v) {
					wrong = append(wrong, s.name+": "+m.label+" is never "+v)
				}
			}
		}
	}
	for _, l := range q.labels {
		if !slices.Contains(known, l) {
			wrong = append(wrong, text+": no metric of it has a label "+l)
		}
	}
	return wrong
}

// alerts are the rules of k8s/monitoring.
func alerts(t *testing.T) []object {
	t.Helper()
	var all []object
	for _, g := range render(t, "../monitoring").one(t, "PrometheusRule", "godwit").list("spec", "groups") {
		all = append(all, g.list("rules")...)
	}
	if len(all) < 10 {
		t.Fatalf("%d alerts", len(all))
	}
	return all
}

func TestAlerts_AskForWhatANodeTells(t *testing.T) {
	node := nodeTells(t)
	for _, a := range alerts(t) {
		name := a.text("alert")
		for _, wrong := range node.check(a.text("expr")) {
			t.Errorf("%s: %s", name, wrong)
		}
		if severity := a.text("labels", "severity"); severity != "page" && severity != "ticket" {
			t.Errorf("%s: severity %q", name, severity)
		}
		q, _ := parseQuery(a.text("expr")) // checked above
		for _, m := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(a.text("annotations", "summary"), -1) {
			grouped := strings.Contains(a.text("expr"), " by (") && !slices.Contains(q.labels, m[1])
			if grouped || a.text("annotations", "summary") == "" {
				t.Errorf("%s: its summary tells a label %s that is not left", name, m[1])
			}
		}
	}
}

func TestCheck_FindsWhatIsWrong(t *testing.T) {
	node := nodeTells(t)
	for _, good := range []string{
		`godwit_ready{job="a"} == 0`, `sum by (instance, outcome) (rate(godwit_resumes_total[1m]))`, `rate(godwit_delivery_seconds_bucket{le="0.1"}[5m])`,
	} {
		if wrong := node.check(good); wrong != nil {
			t.Errorf("%s: %v", good, wrong)
		}
	}
	for _, bad := range []string{
		"godwit_redy", "go_goroutines", `godwit_resumes_total{result="ok"}`, `godwit_resumes_total{outcome="fine"}`, `godwit_evictions_total{reason=~"slow|lame"}`,
		"sum by (outcome) (godwit_ready)", "godwit_delivery_seconds", "sum(godwit_ready",
	} {
		if wrong := node.check(bad); wrong == nil {
			t.Errorf("%s: nothing is wrong with it", bad)
		}
	}
}

// anchors are the headings of a page, as links name them.
func anchors(t *testing.T, file string) []string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(string(b), -1) {
		name := regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(m[1]), "")
		all = append(all, strings.ReplaceAll(name, " ", "-"))
	}
	return all
}

func TestAlerts_EachHasItsPlaceInTheRunbook(t *testing.T) {
	there := anchors(t, "../docs/runbook.md")
	b, err := os.ReadFile("../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	all := alerts(t)
	for _, a := range all {
		file, anchor, ok := strings.Cut(a.text("annotations", "runbook_url"), "#")
		if !ok || file != "docs/runbook.md" || !slices.Contains(there, anchor) {
			t.Errorf("%s leads to %s, there is %v", a.text("alert"), a.text("annotations", "runbook_url"), there)
		}
		if !strings.Contains(string(b), "`"+a.text("alert")+"`") {
			t.Errorf("the runbook does not name %s", a.text("alert"))
		}
	}
	for _, name := range regexp.MustCompile("`(Godwit[A-Z]\\w+)`").FindAllStringSubmatch(string(b), -1) {
		if !slices.ContainsFunc(all, func(a object) bool { return a.text("alert") == name[1] }) {
			t.Errorf("the runbook names %s, which is no alert", name[1])
		}
	}
	node := nodeTells(t)
	for _, name := range regexp.MustCompile("`(godwit_[a-z_]+)").FindAllStringSubmatch(string(b), -1) {
		if node[name[1]] == nil && node[name[1]+"_count"] == nil {
			t.Errorf("the runbook names %s, which no node tells", name[1])
		}
	}
}

// dashboard is what of one we look at.
type dashboard struct {
	Annotations struct {
		List []struct{ Expr string }
	}
	Panels []struct {
		ID      int
		Type    string
		Title   string
		GridPos struct{ X, Y, W, H int }
		Targets []struct{ Expr, LegendFormat string }
	}
}

func TestDashboard_AsksForWhatANodeTells(t *testing.T) {
	node := nodeTells(t)
	m := render(t, "../monitoring")
	c := m.one(t, "ConfigMap", "godwit-dashboard")
	if c.text("metadata", "labels", "grafana_dashboard") != "1" {
		t.Errorf("no sidecar finds it: %v", c.labels("metadata", "labels"))
	}
	var d dashboard
	if err := json.Unmarshal([]byte(c.text("data", "dashboard.json")), &d); err != nil {
		t.Fatal(err)
	}
	replace := strings.NewReplacer("$__rate_interval", "1m", "$job", "godwit", "$instance", "n1")
	asked := map[string]bool{}
	check := func(where, expr string) {
		t.Helper()
		for _, wrong := range node.check(replace.Replace(expr)) {
			t.Errorf("%s: %s", where, wrong)
		}
	}
	seen := map[int]bool{}
	for _, p := range d.Panels {
		if seen[p.ID] || p.GridPos.X+p.GridPos.W > 24 || p.Title == "" {
			t.Errorf("panel %d %q at %+v", p.ID, p.Title, p.GridPos)
		}
		seen[p.ID] = true
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%s shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			check(p.Title, target.Expr)
			q, _ := parseQuery(replace.Replace(target.Expr)) // checked
			for _, s := range q.series {
				asked[s.name] = true
			}
			for _, l := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				if strings.Contains(target.Expr, " by (") && !slices.Contains(q.labels, l[1]) {
					t.Errorf("%s: its legend tells a label %s that is not left", p.Title, l[1])
				}
			}
		}
	}
	for _, a := range d.Annotations.List {
		check("annotation", a.Expr)
	}
	if len(asked) < 25 {
		t.Errorf("asks for %d metrics", len(asked))
	}
}

func TestMonitor_FindsTheNodes(t *testing.T) {
	nodes := render(t, "prod")
	pod := nodes.one(t, "Deployment", "godwit").labels("spec", "template", "metadata", "labels")
	monitors := render(t, "../monitoring").kind("PodMonitor")
	if len(monitors) != 1 {
		t.Fatalf("%d monitors, want one", len(monitors))
	}
	m := monitors[0]
	wants := m.labels("spec", "selector", "matchLabels")
	if len(wants) == 0 {
		t.Error("it wants everything")
	}
	for k, v := range wants {
		if pod[k] != v {
			t.Errorf("it wants %s=%s, a node has %q", k, v, pod[k])
		}
	}
	if m.text("metadata", "namespace") != nodes.one(t, "Deployment", "godwit").text("metadata", "namespace") {
		t.Error("it looks in another namespace")
	}
	ends := m.list("spec", "podMetricsEndpoints")
	if len(ends) != 1 || ends[0].text("port") != "admin" || ends[0].text("path") != "/metrics" {
		t.Errorf("it asks %v, want admin and /metrics", ends)
	}
}

// The runbook cuts the rules out for a Prometheus that knows no Kubernetes.
func TestAlerts_AreAPlainRuleFileUnderSpec(t *testing.T) {
	b, err := os.ReadFile("monitoring/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, rules, _ := strings.Cut(string(b), "\nspec:\n")
	var file map[string]any
	if err := yaml.Unmarshal([]byte(strings.ReplaceAll("\n"+rules, "\n  ", "\n")), &file); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, g := range object(file).list("groups") {
		for _, a := range g.list("rules") {
			all = append(all, a.text("alert")+": "+a.text("expr"))
		}
	}
	for _, a := range alerts(t) {
		if !slices.Contains(all, a.text("alert")+": "+a.text("expr")) {
			t.Errorf("%s is not the same in the plain file", a.text("alert"))
		}
	}
}
