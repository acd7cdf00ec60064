package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Node is one godwit process.
type Node struct {
	// Name is GODWIT_NODE_ID.
	Name string
	// URL is where clients dial; Admin is host and port of the probes, another
	// one in each life.
	URL, Admin string

	t    testing.TB
	env  map[string]string
	life int
	proc *process
}

// StartNode starts a node on free ports and waits until it is ready. env adds
// settings to, or replaces, those of the fleet.
func StartNode(t testing.TB, name string, env map[string]string) *Node {
	t.Helper()
	n := &Node{Name: name, t: t, env: map[string]string{
		"GODWIT_LISTEN":       "127.0.0.1:0",
		"GODWIT_ADMIN_LISTEN": "127.0.0.1:0",
		"GODWIT_NODE_ID":      name,
		"GODWIT_LOG_FORMAT":   "json",
	}}
	maps.Copy(n.env, env)
	n.Start()
	return n
}

// Start runs the node, again after it ended, and waits until it is ready.
func (n *Node) Start() {
	n.t.Helper()
	n.Launch()
	n.Ready()
}

// Set changes a setting of the node's next life.
func (n *Node) Set(name, value string) { n.env[name] = value }

// Says waits until this life of the node has logged some text.
func (n *Node) Says(text string) {
	n.t.Helper()
	n.must(n.proc.await("word of "+strconv.Quote(text), func(line string) bool { return strings.Contains(line, text) }))
}

// Launch runs the node and waits until it listens, ready or not. A later life
// has the address of the first, unless another process took the port meanwhile.
func (n *Node) Launch() {
	n.t.Helper()
	err := n.launch()
	if err != nil && n.life > 1 {
		n.env["GODWIT_LISTEN"] = "127.0.0.1:0"
		err = n.launch()
	}
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *Node) launch() error {
	n.t.Helper()
	n.life++
	env := slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "GODWIT_") })
	for _, k := range slices.Sorted(maps.Keys(n.env)) {
		env = append(env, k+"="+n.env[k])
	}
	n.proc = start(n.t, n.Name+"-"+strconv.Itoa(n.life), godwit(n.t), env, "serve")
	return n.proc.await("word of where it listens", func(line string) bool {
		var l struct{ Msg, Addr, Admin string }
		if json.Unmarshal([]byte(line), &l) != nil || l.Msg != "listening" {
			return false
		}
		n.URL, n.Admin, n.env["GODWIT_LISTEN"] = "ws://"+l.Addr+"/v1/ws", l.Admin, l.Addr
		return true
	})
}

// Ready waits until the node says that it is ready.
func (n *Node) Ready() {
	n.t.Helper()
	Eventually(n.t, Patience, n.Name+" is ready", func() error {
		return n.Probe("/readyz", http.StatusOK)
	})
}

// Probe is nil when the node answers path with the status.
func (n *Node) Probe(path string, status int) error {
	got, body, err := n.get(path)
	if err == nil && got != status {
		err = fmt.Errorf("%s answers %d (%s), want %d", path, got, strings.TrimSpace(body), status)
	}
	return err
}

// Metric is the value of a metric without labels, as the node exports it.
func (n *Node) Metric(name string) (float64, error) {
	_, body, err := n.get("/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("%s exports no %s", n.Name, name)
}

// get asks the node's admin port.
func (n *Node) get(path string) (status int, body string, err error) {
	c := http.Client{Timeout: 2 * time.Second}
	resp, err := c.Get("http://" + n.Admin + path)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	defer c.CloseIdleConnections()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, string(text), err
}

// Kill ends the node at once (SIGKILL).
func (n *Node) Kill() { n.proc.kill() }

// Stop freezes the node (SIGSTOP).
func (n *Node) Stop() { n.must(n.proc.freeze()) }

// Cont lets a frozen node go on.
func (n *Node) Cont() { n.must(n.proc.signal(syscall.SIGCONT)) }

// Term asks the node to drain and exit (SIGTERM). One that has exited by then
// is no error.
func (n *Node) Term() {
	if err := n.proc.signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		n.must(err)
	}
}

// Exit waits for the node's end and is its exit code, -1 for a signal.
func (n *Node) Exit(limit time.Duration) (code int, err error) {
	select {
	case <-n.proc.done:
		return n.proc.code(), nil
	case <-time.After(limit):
		return 0, errors.New(n.Name + " is still there after " + limit.String())
	}
}

// Alive says whether the process is there.
func (n *Node) Alive() bool {
	select {
	case <-n.proc.done:
		return false
	default:
		return true
	}
}

func (n *Node) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatalf("%s: %v", n.Name, err)
	}
}
