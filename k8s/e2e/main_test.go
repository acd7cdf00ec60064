// Package e2e proves the manifests on a real cluster: it applies the dev overlay
// in a namespace of its own, lets a crowd with ledgers talk (godwit soak), and
// does to the pods what operators do meanwhile.
//
// It decides nothing of what must hold: the ledgers do, and the manifests. Which
// cluster it is says KUBECONFIG, and the images have to be there:
// docs/kubernetes.md. Without the flag -k8s it proves nothing, and says so.
package e2e

import (
	"flag"
	"os"
	"os/exec"
	"testing"
	"time"
)

var (
	really  = flag.Bool("k8s", false, "run on the cluster of KUBECONFIG")
	image   = flag.String("image", "registry.local/godwit:dev", "image of the nodes, which the cluster has")
	next    = flag.String("next", "registry.local/godwit:next", "image of another revision, likewise")
	host    = flag.String("host", "127.0.0.1", "address of a machine of the cluster, where node ports answer")
	port    = flag.Int("port", 30081, "node port to take")
	clients = flag.Int("clients", 1000, "how many clients talk")
	rate    = flag.Float64("rate", 50, "messages a second, of all clients together")
)

const (
	// answers bounds what a cluster answers at once, builds what go build takes.
	answers = 30 * time.Second
	builds  = 5 * time.Minute
	// starts bounds the start of everything, with images that are there.
	starts = 3 * time.Minute
	// rolls bounds a step: a rollout of five nodes, each of which takes its drain.
	rolls = 10 * time.Minute
	// ends bounds the end of the talk: every message answered, everybody caught up.
	ends = 3 * time.Minute
)

// needCluster skips without -k8s, and fails where it is asked for what it cannot do.
func needCluster(t *testing.T) {
	t.Helper()
	if !*really {
		t.Skip("proves nothing without a cluster: KUBECONFIG=... make k8s-test")
	}
	if os.Getenv("KUBECONFIG") == "" {
		t.Fatal("which cluster? Set KUBECONFIG to the file that names it, as in\n" +
			"  kind get kubeconfig >kubeconfig; KUBECONFIG=$PWD/kubeconfig make k8s-test\n" +
			"docs/kubernetes.md says which images it needs, and how they get there")
	}
	if _, err := exec.LookPath("kubectl"); err != nil {
		t.Fatal("kubectl is not installed, or not in PATH")
	}
}
