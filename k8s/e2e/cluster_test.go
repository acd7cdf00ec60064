package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/xid"
)

// nodes selects the pods of the fleet.
const nodes = "app.kubernetes.io/name=godwit"

// cluster is a namespace of the cluster, and the fleet there.
type cluster struct {
	t         *testing.T
	namespace string
}

// try runs kubectl within a time and is what it printed.
func (c *cluster) try(within time.Duration, in string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.t.Context()), within) // cleanups ask, too
	defer cancel()
	cmd := exec.CommandContext(ctx, "kubectl", args...)
	cmd.Stdin = strings.NewReader(in)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

func (c *cluster) kubectl(within time.Duration, args ...string) string {
	c.t.Helper()
	out, err := c.try(within, "", append([]string{"-n", c.namespace}, args...)...)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

// ownPort puts the dev overlay's Service on a node port of its own, and the
// images that were asked for into its pods.
const ownPort = `
images:
  - {name: registry.local/godwit, newName: %[1]s, newTag: %[2]s}
patches:
  - patch: |-
      apiVersion: v1
      kind: Service
      metadata: {name: godwit}
      spec: {ports: [{port: 80, nodePort: %[3]d}]}
  - patch: |-
      apiVersion: v1
      kind: ConfigMap
      metadata: {name: godwit}
      data:
        GODWIT_PUBLIC_URL: ws://%[4]s:%[3]d/v1/ws
        GODWIT_REDIRECT_ORIGINS: ws://%[4]s:%[3]d
`

// claim finds the cluster, and a name for a namespace there, which is removed
// with the test.
func claim(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, namespace: "godwit-e2e-" + xid.New().String()}
	if _, err := c.try(answers, "", "get", "--raw", "/readyz"); err != nil {
		t.Fatalf("the cluster of KUBECONFIG does not answer: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			c.show()
		}
		if _, err := c.try(starts+answers, "", "delete", "namespace", c.namespace, "--ignore-not-found", "--timeout", starts.String()); err != nil {
			t.Errorf("the namespace is left: %v", err)
		}
	})
	return c
}

// in is a directory with an overlay put into the namespace, and changed.
func (c *cluster) in(overlay, changes string) string {
	c.t.Helper()
	dir, err := filepath.EvalSymlinks(c.t.TempDir())
	if err != nil {
		c.t.Fatal(err)
	}
	from, err := filepath.Abs("../overlays/" + overlay)
	if err != nil {
		c.t.Fatal(err)
	}
	if from, err = filepath.Rel(dir, from); err != nil { // kustomize takes no other
		c.t.Fatal(err)
	}
	text := "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n" +
		"namespace: " + c.namespace + "\nresources: [" + from + "]\n" + changes
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return dir
}

// deploy applies the dev overlay and waits until all is ready.
func deploy(t *testing.T) *cluster {
	t.Helper()
	c := claim(t)
	at := strings.LastIndex(*image, ":")
	if at < 0 {
		t.Fatalf("-image %s: expected NAME:TAG", *image)
	}
	dir := c.in("dev", fmt.Sprintf(ownPort, (*image)[:at], (*image)[at+1:], *port, *host))
	if _, err := c.try(answers, "", "apply", "-k", dir); err != nil {
		t.Fatal(err)
	}
	c.rolled("redis", starts)
	c.rolled("godwit", starts)
	return c
}

// show tells what there is to see where something went wrong.
func (c *cluster) show() {
	for _, args := range [][]string{
		{"get", "pods", "-o", "wide"},
		{"get", "events", "--field-selector", "type=Warning", "--sort-by", ".lastTimestamp"},
		{"logs", "-l", nodes, "--tail", "20", "--prefix"},
	} {
		out, err := c.try(answers, "", append([]string{"-n", c.namespace}, args...)...)
		c.t.Logf("kubectl %s\n%s", strings.Join(args, " "), out)
		if err != nil {
			c.t.Log(err)
		}
	}
}

// rolled waits until a rollout is over.
func (c *cluster) rolled(deployment string, within time.Duration) {
	c.t.Helper()
	c.kubectl(within+answers, "rollout", "status", "deployment/"+deployment, "--timeout", within.String())
}

// pods are the names of the fleet's pods, the oldest first, those on their way
// out included.
func (c *cluster) pods() []string {
	c.t.Helper()
	return strings.Fields(c.kubectl(answers, "get", "pods", "-l", nodes, "--sort-by", ".metadata.creationTimestamp",
		"-o", "jsonpath={.items[*].metadata.name}"))
}

// settle waits until there are that many pods, all ready, and none on its way out.
func (c *cluster) settle(want int) {
	c.t.Helper()
	c.rolled("godwit", rolls)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	late := time.After(rolls)
	for {
		pods := c.pods()
		ready := strings.Count(c.kubectl(answers, "get", "pods", "-l", nodes,
			"-o", `jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}`), "True")
		if len(pods) == want && ready == want {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			c.t.Fatalf("%d pods, %d of them ready, after %s; want %d: %v", len(pods), ready, rolls, want, pods)
		}
	}
}

// evict asks for a pod's eviction, as a machine that is emptied does.
func (c *cluster) evict(pod string) error {
	_, err := c.try(answers, fmt.Sprintf(`{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":%q,"namespace":%q}}`, pod, c.namespace),
		"create", "--raw", "/api/v1/namespaces/"+c.namespace+"/pods/"+pod+"/eviction", "-f", "-")
	return err
}
