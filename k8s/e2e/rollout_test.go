package e2e

import (
	"strings"
	"testing"
	"time"
)

func TestFleet_WhateverIsDoneToItsPodsNothingIsLost(t *testing.T) {
	needCluster(t)
	c := deploy(t)
	c.settle(4)
	people := gather(t)
	step := func(name string, pods int, do func()) {
		t.Helper()
		began := time.Now()
		do()
		c.settle(pods)
		took := time.Since(began).Round(time.Second)
		now, before := people.count()
		t.Logf("%s: %s, %s", name, took, now.since(before))
	}
	step("a quiet moment", 4, func() {})
	step("rollout restart", 4, func() { c.kubectl(answers, "rollout", "restart", "deployment/godwit") })
	step("rollout restart, again", 4, func() { c.kubectl(answers, "rollout", "restart", "deployment/godwit") })
	step("scale 4 to 2", 2, func() { c.kubectl(answers, "scale", "deployment/godwit", "--replicas", "2") })
	step("scale 2 to 5", 5, func() { c.kubectl(answers, "scale", "deployment/godwit", "--replicas", "5") })
	step("a pod evicted, and no second one meanwhile", 5, func() {
		pods := c.pods() // the first ones have clients
		if err := c.evict(pods[0]); err != nil {
			t.Error(err)
		}
		if err := c.evict(pods[1]); err == nil || !strings.Contains(err.Error(), "disruption budget") {
			t.Errorf("a second one at once: %v, want the disruption budget to refuse it", err)
		}
	})
	var cut string
	step("a pod deleted without grace", 5, func() {
		cut = c.pods()[0]
		c.kubectl(answers, "delete", "pod", cut, "--grace-period", "0", "--force")
	})
	step("a node image of a new revision", 5, func() { c.kubectl(answers, "set", "image", "deployment/godwit", "godwit="+*next) })
	people.end()

	restarts := c.kubectl(answers, "get", "pods", "-l", nodes, "-o", "jsonpath={.items[*].status.containerStatuses[*].restartCount}")
	if strings.Trim(restarts, "0 ") != "" {
		t.Errorf("containers were restarted: %s", restarts)
	}
	for _, reason := range []string{"FailedPreStopHook", "ExceededGracePeriod", "BackOff", "OOMKilling"} {
		events := c.kubectl(answers, "get", "events", "--field-selector", "reason="+reason+",involvedObject.name!="+cut,
			"-o", `jsonpath={range .items[*]}{.involvedObject.name}: {.message}{"\n"}{end}`)
		if events != "" {
			t.Errorf("%s:\n%s", reason, events)
		}
	}
}

func TestProd_IsTakenAndHasThreeNodesAskedFor(t *testing.T) {
	needCluster(t)
	c := claim(t)
	if _, err := c.try(answers, "", "create", "namespace", c.namespace); err != nil {
		t.Fatal(err)
	}
	// Pods are refused as they are made; whoever makes them is only warned.
	c.kubectl(answers, "label", "namespace", c.namespace, "pod-security.kubernetes.io/warn=restricted")
	dir := c.in("prod", "")
	if _, err := c.try(answers, "", "apply", "-k", dir, "--dry-run=server", "--warnings-as-errors"); err != nil {
		t.Error(err)
	}
	// The pods cannot run here: it has no image, no Secret and no Redis.
	if _, err := c.try(answers, "", "apply", "-k", dir); err != nil {
		t.Fatal(err)
	}
	c.kubectl(starts+answers, "wait", "deployment/godwit", "--for", "jsonpath={.spec.replicas}=3", "--timeout", starts.String())
}
