// Package k8s holds the manifests, and tests that they fit together and fit the
// binary.
package k8s

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// object is one rendered object.
type object map[string]any

// at is what stands at a path; nil where there is nothing.
func (o object) at(path ...string) any {
	var v any = map[string]any(o)
	for _, name := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}

func (o object) text(path ...string) string {
	s, _ := o.at(path...).(string)
	return s
}

func (o object) list(path ...string) []object {
	raw, _ := o.at(path...).([]any)
	var out []object
	for _, v := range raw {
		m, _ := v.(map[string]any)
		out = append(out, m)
	}
	return out
}

func (o object) labels(path ...string) map[string]string {
	out := map[string]string{}
	m, _ := o.at(path...).(map[string]any)
	for k, v := range m {
		out[k], _ = v.(string)
	}
	return out
}

// manifest is an overlay as it is applied.
type manifest []object

func (m manifest) kind(kind string) (out []object) {
	for _, o := range m {
		if o.text("kind") == kind {
			out = append(out, o)
		}
	}
	return out
}

func (m manifest) one(t *testing.T, kind, name string) object {
	t.Helper()
	for _, o := range m.kind(kind) {
		if o.text("metadata", "name") == name || strings.HasPrefix(o.text("metadata", "name"), name+"-") && (kind == "ConfigMap" || kind == "Secret") {
			return o
		}
	}
	t.Fatalf("no %s %s", kind, name)
	return nil
}

// render builds an overlay with the kustomize of tools/go.mod.
func render(t *testing.T, overlay string) manifest {
	t.Helper()
	// Read here, too, so that a cached result does not outlive a change.
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		_, err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return build(t, "overlays/"+overlay)
}

// with is an overlay and a component of those that one may add.
func with(t *testing.T, overlay, component string) manifest {
	t.Helper()
	dir := t.TempDir()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	up, err := filepath.Rel(dir, here)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("resources: [%s/overlays/%s]\ncomponents: [%s/components/%s]\n", up, overlay, up, component)
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	render(t, overlay) // for what it reads
	return build(t, dir)
}

// build is what kustomize makes of a directory.
func build(t *testing.T, dir string) manifest {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "tool", "-modfile=../tools/go.mod", "kustomize", "build", dir)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("render %s: %v\n%s", dir, err, &errs)
	}
	var m manifest
	for d := yaml.NewDecoder(bytes.NewReader(out)); ; {
		var o map[string]any
		err := d.Decode(&o)
		if errors.Is(err, io.EOF) {
			return m
		}
		if err != nil {
			t.Fatalf("render %s: %v", dir, err)
		}
		m = append(m, o)
	}
}

func overlays(t *testing.T, test func(t *testing.T, m manifest)) {
	for _, name := range []string{"dev", "prod"} {
		t.Run(name, func(t *testing.T) { test(t, render(t, name)) })
	}
}

// settings are the names of the README's table, which a test holds equal to the
// binary's.
func settings(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range regexp.MustCompile("(?m)^\\| `((?:GODWIT|OTEL)_[A-Z_]+)` ").FindAllStringSubmatch(string(b), -1) {
		names = append(names, m[1])
	}
	if len(names) < 30 {
		t.Fatalf("the README's table has %d settings", len(names))
	}
	return names
}

func TestOverlays_EverySettingIsOneOfTheBinarys(t *testing.T) {
	known := settings(t)
	overlays(t, func(t *testing.T, m manifest) {
		set := slices.Collect(maps.Keys(m.one(t, "ConfigMap", "godwit").labels("data")))
		for _, e := range node(m, t).list("env") {
			set = append(set, e.text("name"))
		}
		for _, name := range set {
			if !slices.Contains(known, name) && name != "GOMEMLIMIT" { // which is Go's
				t.Errorf("%s is no setting", name)
			}
		}
	})
}

// node is the container of a node.
func node(m manifest, t *testing.T) object {
	t.Helper()
	all := m.one(t, "Deployment", "godwit").list("spec", "template", "spec", "containers")
	if len(all) != 1 {
		t.Fatalf("%d containers", len(all))
	}
	return all[0]
}

func TestOverlays_APodOutlivesItsDrains(t *testing.T) {
	overlays(t, func(t *testing.T, m manifest) {
		budget, err := time.ParseDuration(m.one(t, "ConfigMap", "godwit").text("data", "GODWIT_DRAIN_BUDGET"))
		if err != nil {
			t.Fatal(err)
		}
		var before time.Duration
		command, _ := node(m, t).at("lifecycle", "preStop", "exec", "command").([]any)
		for i, arg := range command {
			if arg == "--budget" {
				if before, err = time.ParseDuration(command[i+1].(string)); err != nil {
					t.Fatal(err)
				}
			}
		}
		seconds, _ := m.one(t, "Deployment", "godwit").at("spec", "template", "spec", "terminationGracePeriodSeconds").(int)
		if grace := time.Duration(seconds) * time.Second; before <= 0 || grace <= before+budget {
			t.Errorf("a pod has %s; its preStop takes %s and the drain of SIGTERM %s", grace, before, budget)
		}
	})
}

func TestOverlays_MemoryIsCollectedBeforeTheContainerIsEnded(t *testing.T) {
	overlays(t, func(t *testing.T, m manifest) {
		mebibytes := func(what, text, unit string) (n int) {
			t.Helper()
			if _, err := fmt.Sscanf(text, "%d"+unit, &n); err != nil || n <= 0 {
				t.Fatalf("%s is %q, want a number of %s", what, text, unit)
			}
			return n
		}
		var soft int
		for _, e := range node(m, t).list("env") {
			if e.text("name") == "GOMEMLIMIT" {
				soft = mebibytes("GOMEMLIMIT", e.text("value"), "MiB")
			}
		}
		hard := 1024 * mebibytes("the limit", node(m, t).text("resources", "limits", "memory"), "Gi")
		if soft == 0 || soft > hard*9/10 {
			t.Errorf("GOMEMLIMIT is %d MiB, want at most nine tenths of %d", soft, hard)
		}
	})
}

func TestOverlays_WhatSelectsFindsTheNodes(t *testing.T) {
	overlays(t, func(t *testing.T, m manifest) {
		pods := m.one(t, "Deployment", "godwit").labels("spec", "template", "metadata", "labels")
		finds := func(what string, selector map[string]string) {
			t.Helper()
			if len(selector) == 0 {
				t.Errorf("%s selects everything", what)
			}
			for k, v := range selector {
				if pods[k] != v {
					t.Errorf("%s wants %s=%s, a node has %q", what, k, v, pods[k])
				}
			}
		}
		finds("the Deployment", m.one(t, "Deployment", "godwit").labels("spec", "selector", "matchLabels"))
		finds("the Service", m.one(t, "Service", "godwit").labels("spec", "selector"))
		finds("the admin Service", m.one(t, "Service", "godwit-admin").labels("spec", "selector"))
		finds("the PodDisruptionBudget", m.one(t, "PodDisruptionBudget", "godwit").labels("spec", "selector", "matchLabels"))
		finds("the NetworkPolicy", m.one(t, "NetworkPolicy", "godwit").labels("spec", "podSelector", "matchLabels"))
		for _, c := range m.one(t, "Deployment", "godwit").list("spec", "template", "spec", "topologySpreadConstraints") {
			finds("a spread", c.labels("labelSelector", "matchLabels"))
		}
		for _, h := range m.kind("HorizontalPodAutoscaler") {
			m.one(t, h.text("spec", "scaleTargetRef", "kind"), h.text("spec", "scaleTargetRef", "name"))
		}
		for _, i := range m.kind("Ingress") {
			for _, r := range i.list("spec", "rules") {
				for _, p := range r.list("http", "paths") {
					if name := p.text("backend", "service", "name"); name != "godwit" {
						t.Errorf("the Ingress leads to %s", name)
					}
				}
			}
		}
	})
}

func TestOverlays_PortsAreThoseOfTheSettings(t *testing.T) {
	overlays(t, func(t *testing.T, m manifest) {
		data := m.one(t, "ConfigMap", "godwit").labels("data")
		ports := map[string]int{}
		for _, p := range node(m, t).list("ports") {
			ports[p.text("name")], _ = p["containerPort"].(int)
		}
		for name, setting := range map[string]string{"ws": "GODWIT_LISTEN", "admin": "GODWIT_ADMIN_LISTEN"} {
			if want := ":" + itoa(ports[name]); data[setting] != want {
				t.Errorf("%s is %s, port %s is %s", setting, data[setting], name, want)
			}
		}
		for _, s := range m.kind("Service") {
			for _, p := range s.list("spec", "ports") {
				if target := p.text("targetPort"); ports[target] == 0 && s.text("metadata", "name") != "redis" {
					t.Errorf("Service %s leads to port %q", s.text("metadata", "name"), target)
				}
				if s.text("metadata", "name") == "godwit" && p.text("targetPort") != "ws" {
					t.Error("the public Service shows more than the websocket port")
				}
			}
		}
		for probe, path := range map[string]string{"startupProbe": "/startupz", "readinessProbe": "/readyz", "livenessProbe": "/livez"} {
			if got := node(m, t).text(probe, "httpGet", "path"); got != path || node(m, t).text(probe, "httpGet", "port") != "admin" {
				t.Errorf("%s asks %s", probe, got)
			}
		}
	})
}

func itoa(n int) string {
	b, _ := yaml.Marshal(n) // a number is YAML
	return strings.TrimSpace(string(b))
}

// pods are the templates of all that runs, by kind and name.
func (m manifest) pods() map[string]object {
	out := map[string]object{}
	for _, o := range m {
		paths := [][]string{{"spec", "template", "spec"}, {"spec", "jobTemplate", "spec", "template", "spec"}}
		if o.text("kind") == "Pod" {
			paths = append(paths, []string{"spec"})
		}
		for _, path := range paths {
			if pod, ok := o.at(path...).(map[string]any); ok {
				out[o.text("kind")+" "+o.text("metadata", "name")] = pod
			}
		}
	}
	return out
}

// pinned says whether an image is one and the same each time.
func pinned(image string) bool {
	if _, digest, found := strings.Cut(image, "@sha256:"); found {
		return len(digest) == 64
	}
	_, tag, found := strings.Cut(image[strings.LastIndex(image, "/")+1:], ":")
	return found && tag != "latest" && tag != ""
}

func TestPinned_KnowsAVersion(t *testing.T) {
	for image, want := range map[string]bool{
		"godwit:1.2": true, "host.example:5000/godwit:1.2": true, "godwit@sha256:" + strings.Repeat("a", 64): true,
		"godwit": false, "godwit:latest": false, "godwit:": false, "host.example:5000/godwit": false, "godwit@sha256:1": false,
	} {
		if pinned(image) != want {
			t.Errorf("%s: pinned %t, want %t", image, !want, want)
		}
	}
}

func TestOverlays_ImagesArePinnedAndNobodyIsRoot(t *testing.T) {
	overlays(t, func(t *testing.T, m manifest) {
		pods := m.pods()
		if pods["Deployment godwit"] == nil {
			t.Fatalf("no node among %v", slices.Collect(maps.Keys(pods)))
		}
		for name, pod := range pods {
			if pod.at("securityContext", "runAsNonRoot") != true || pod.text("securityContext", "seccompProfile", "type") != "RuntimeDefault" ||
				pod.at("automountServiceAccountToken") != false {
				t.Errorf("%s: the pod may be root, or do any call, or ask Kubernetes", name)
			}
			for _, c := range slices.Concat(pod.list("initContainers"), pod.list("containers")) {
				if !pinned(c.text("image")) {
					t.Errorf("%s: image %q has no version", name, c.text("image"))
				}
				drop, _ := c.at("securityContext", "capabilities", "drop").([]any)
				if c.at("securityContext", "allowPrivilegeEscalation") != false || len(drop) != 1 || drop[0] != "ALL" {
					t.Errorf("%s: the container may become more than it is", name)
				}
				if name == "Deployment godwit" && c.at("securityContext", "readOnlyRootFilesystem") != true {
					t.Error("a node can write to its image")
				}
			}
		}
	})
}

// overlaid runs a test on an overlay with its node's container.
func overlaid(t *testing.T, test func(t *testing.T, m manifest, ports map[string]int)) {
	overlays(t, func(t *testing.T, m manifest) {
		ports := map[string]int{}
		for _, p := range node(m, t).list("ports") {
			ports[p.text("name")], _ = p["containerPort"].(int)
		}
		test(t, m, ports)
	})
}

func TestOverlays_TheDrainAndPrometheusAskTheAdminPort(t *testing.T) {
	overlaid(t, func(t *testing.T, m manifest, ports map[string]int) {
		command, _ := node(m, t).at("lifecycle", "preStop", "exec", "command").([]any)
		at := ""
		for i, arg := range command {
			if arg == "--admin" && i+1 < len(command) {
				at, _ = command[i+1].(string)
			}
		}
		if want := "http://127.0.0.1:" + itoa(ports["admin"]); at != want {
			t.Errorf("preStop asks %q, want %s", at, want)
		}
		notes := m.one(t, "Deployment", "godwit").labels("spec", "template", "metadata", "annotations")
		want := map[string]string{"prometheus.io/scrape": "true", "prometheus.io/port": itoa(ports["admin"]), "prometheus.io/path": "/metrics"}
		for name, v := range want {
			if notes[name] != v {
				t.Errorf("%s is %q, want %q", name, notes[name], v)
			}
		}
	})
}

func TestOverlays_TheNetworkLetsInAndOutWhatANodeNeedsAlone(t *testing.T) {
	overlays(t, func(t *testing.T, m manifest) {
		rules := func(way string) (out []string) {
			for _, r := range m.one(t, "NetworkPolicy", "godwit").list("spec", way) {
				whom := "anybody"
				if from := r.list("from"); len(from) > 0 {
					whom = "some"
					for _, f := range from {
						if len(f.labels("namespaceSelector", "matchLabels")) == 0 && f.at("podSelector") == nil {
							whom = "anybody"
						}
					}
				}
				for _, p := range r.list("ports") {
					out = append(out, fmt.Sprintf("%s %v", whom, p["port"]))
				}
				if len(r.list("ports")) == 0 {
					out = append(out, whom+" everywhere")
				}
			}
			slices.Sort(out)
			return slices.Compact(out)
		}
		if got, want := rules("ingress"), []string{"anybody ws", "some admin"}; !slices.Equal(got, want) {
			t.Errorf("in: %q, want %q", got, want)
		}
		// Names, keys over https, Redis with and without TLS, and Sentinels.
		if got, want := rules("egress"), []string{"anybody 26379", "anybody 443", "anybody 53", "anybody 6379", "anybody 6380"}; !slices.Equal(got, want) {
			t.Errorf("out: %q, want %q", got, want)
		}
		for _, s := range m.kind("Service") {
			if s.text("metadata", "name") != "redis" {
				continue
			}
			for _, p := range s.list("spec", "ports") {
				if p["port"] != 6379 {
					t.Errorf("Redis is at %v, which no node reaches", p["port"])
				}
			}
		}
	})
}

// setting is the default of the README's table.
func setting(t *testing.T, name string) time.Duration {
	t.Helper()
	b, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?m)^\\| `" + name + "` \\| `([^`]+)`").FindSubmatch(b)
	if found == nil {
		t.Fatalf("the README has no %s", name)
	}
	d, err := time.ParseDuration(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestIngress_WaitsLongerThanASilentSocketIsPinged(t *testing.T) {
	m := render(t, "prod")
	ping := setting(t, "GODWIT_PING")
	if own := m.one(t, "ConfigMap", "godwit").text("data", "GODWIT_PING"); own != "" {
		var err error
		if ping, err = time.ParseDuration(own); err != nil {
			t.Fatal(err)
		}
	}
	all := m.kind("Ingress")
	if len(all) == 0 {
		t.Fatal("no Ingress")
	}
	for _, i := range all {
		for _, way := range []string{"read", "send"} {
			name := "nginx.ingress.kubernetes.io/proxy-" + way + "-timeout"
			got, err := time.ParseDuration(i.labels("metadata", "annotations")[name] + "s")
			// Two pings unanswered: the node closes, not the balancer.
			if err != nil || got <= 3*ping {
				t.Errorf("%s is %s (%v), want more than three times GODWIT_PING (%s)", name, got, err, ping)
			}
		}
	}
}

func TestOverlays_ARolloutTakesNoNodeBeforeAnotherIsThere(t *testing.T) {
	overlays(t, func(t *testing.T, m manifest) {
		d := m.one(t, "Deployment", "godwit")
		if d.at("spec", "strategy", "rollingUpdate", "maxUnavailable") != 0 || d.at("spec", "strategy", "rollingUpdate", "maxSurge") != 1 {
			t.Errorf("strategy: %v", d.at("spec", "strategy"))
		}
		if stays, _ := d.at("spec", "minReadySeconds").(int); stays < 1 {
			t.Errorf("a node that is ready for %d s takes the next one's place", stays)
		}
		if b := m.one(t, "PodDisruptionBudget", "godwit"); b.at("spec", "maxUnavailable") != 1 || b.at("spec", "minAvailable") != nil {
			t.Errorf("the disruption budget is %v, want one node at a time", b.at("spec"))
		}
	})
}

func TestOverlays_OneAloneSaysHowManyNodesThereAre(t *testing.T) {
	overlays(t, func(t *testing.T, m manifest) {
		replicas, set := m.one(t, "Deployment", "godwit").at("spec", "replicas").(int)
		scalers := m.kind("HorizontalPodAutoscaler")
		if set == (len(scalers) > 0) {
			t.Errorf("%d replicas (said: %t) beside %d autoscalers: each apply undoes what the autoscaler did, or nobody says", replicas, set, len(scalers))
		}
		for _, h := range scalers {
			replicas, _ = h.at("spec", "minReplicas").(int)
			for _, metric := range h.list("spec", "metrics") {
				if metric.text("type") != "Resource" {
					t.Errorf("a metric of type %s: where nothing serves it no pod is ever taken away", metric.text("type"))
				}
			}
		}
		if replicas < 3 {
			t.Errorf("%d nodes at least, want 3", replicas)
		}
	})
}

func TestSecrets_AreThoseThatTheNodesAskFor(t *testing.T) {
	m := render(t, "dev")
	secret := m.one(t, "Secret", "godwit")
	for _, e := range node(m, t).list("env") {
		ref := e.at("valueFrom", "secretKeyRef")
		if ref == nil {
			continue
		}
		key := object(ref.(map[string]any))
		if key.text("name") != secret.text("metadata", "name") {
			t.Errorf("%s is in Secret %s, there is %s", e.text("name"), key.text("name"), secret.text("metadata", "name"))
		}
		if secret.text("data", key.text("key")) == "" && key["optional"] != true {
			t.Errorf("%s: no %s", e.text("name"), key.text("key"))
		}
	}
	for _, s := range render(t, "prod").kind("Secret") {
		t.Errorf("a secret stands in the repository: %s", s.text("metadata", "name"))
	}
}

func TestCompose_IsPinnedAndFitsTheBinary(t *testing.T) {
	b, err := os.ReadFile("../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file map[string]any
	if err := yaml.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	c := object(file)
	known := settings(t)
	nodes := 0
	for name, v := range c.at("services").(map[string]any) {
		s := object(v.(map[string]any))
		if _, tag, found := strings.Cut(s.text("image"), ":"); !found || tag == "latest" {
			t.Errorf("%s: image %q has no version", name, s.text("image"))
		}
		env, _ := s.at("environment").(map[string]any)
		for setting := range env {
			if !slices.Contains(known, setting) {
				t.Errorf("%s: %s is no setting", name, setting)
			}
		}
		if env["GODWIT_NODE_ID"] == nil {
			continue
		}
		nodes++
		if env["GODWIT_NODE_ID"] != name {
			t.Errorf("%s calls itself %v", name, env["GODWIT_NODE_ID"])
		}
		if grace, err := time.ParseDuration(s.text("stop_grace_period")); err != nil || grace <= time.Minute {
			t.Errorf("%s: %s to end, the drain budget is 60s", name, s.text("stop_grace_period"))
		}
	}
	if nodes != 3 {
		t.Errorf("%d nodes", nodes)
	}
}
