package k8s

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
)

func TestComponents_TheAutoscalerGoesBySessionsToo(t *testing.T) {
	m := with(t, "prod", "hpa-sessions")
	var types []string
	for _, metric := range m.one(t, "HorizontalPodAutoscaler", "godwit").list("spec", "metrics") {
		types = append(types, metric.text("type"))
		if metric.text("type") != "Pods" {
			continue
		}
		name := metric.text("pods", "metric", "name")
		if wrong := nodeTells(t).check(name); len(wrong) > 0 {
			t.Errorf("it goes by what no node tells: %q", wrong)
		}
		most, err := strconv.Atoi(m.one(t, "ConfigMap", "godwit").text("data", "GODWIT_MAX_SESSIONS"))
		if err != nil {
			t.Fatal(err)
		}
		each, err := strconv.Atoi(metric.text("pods", "target", "averageValue"))
		if err != nil || each < 1 || each > most*3/4 {
			t.Errorf("%d sessions a node (%v), want at most three quarters of GODWIT_MAX_SESSIONS (%d)", each, err, most)
		}
	}
	if !slices.Equal(types, []string{"Resource", "Pods"}) {
		t.Errorf("it goes by %q, want CPU and sessions", types)
	}
}

func TestComponents_TracesLeaveTheNodes(t *testing.T) {
	ports := func(m manifest) (out []string) {
		for _, r := range m.one(t, "NetworkPolicy", "godwit").list("spec", "egress") {
			for _, p := range r.list("ports") {
				out = append(out, fmt.Sprint(p["port"]))
			}
		}
		return out
	}
	if got, want := ports(with(t, "prod", "traces")), append(ports(render(t, "prod")), "4318"); !slices.Equal(got, want) {
		t.Errorf("out to %q, want %q", got, want)
	}
}
