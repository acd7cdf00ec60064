package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// crowd is a godwit soak that talks to the fleet.
type crowd struct {
	t     *testing.T
	cmd   *exec.Cmd
	table bytes.Buffer  // what it printed; read after done
	lines chan string   // what it says meanwhile; closed with its end
	done  chan struct{} // closed when it has ended
	err   error         // how; only after done
	last  counts
}

// counts are what has become of the clients so far.
type counts struct{ nodes, handed, resumed, lost int }

func (c counts) since(b counts) string {
	return fmt.Sprintf("at %d nodes; %d handed over, %d resumed, %d sessions lost", c.nodes, c.handed-b.handed, c.resumed-b.resumed, c.lost-b.lost)
}

var saysCounts = regexp.MustCompile(`at (\d+) nodes; (\d+) handed over, (\d+) resumed, (\d+) sessions lost`)

// gather builds godwit, and lets its clients in. It is killed with the test, if
// it has not ended.
func gather(t *testing.T) *crowd {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "godwit")
	ctx, cancel := context.WithTimeout(t.Context(), builds)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", bin, "../../cmd/godwit").CombinedOutput(); err != nil {
		t.Fatalf("build godwit: %v\n%s", err, out)
	}
	c := &crowd{t: t, lines: make(chan string, 1024), done: make(chan struct{})}
	c.cmd = exec.Command(bin, "soak", "--url", fmt.Sprintf("ws://%s:%d/v1/ws", *host, *port),
		"--clients", strconv.Itoa(*clients), "--rate", fmt.Sprint(*rate))
	c.cmd.Stdout = &c.table
	said, err := c.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ended by the cleanup
		defer close(c.done)
		c.hear(said)
		c.err = c.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill() // it may have ended
		<-c.done
	})
	c.await(regexp.MustCompile(`all clients are in`), starts)
	return c
}

func (c *crowd) hear(said io.Reader) {
	defer close(c.lines)
	for s := bufio.NewScanner(said); s.Scan(); {
		select {
		case c.lines <- s.Text():
		default: // nobody has listened for hours
		}
	}
}

// await waits for a line and is what its groups hold.
func (c *crowd) await(line *regexp.Regexp, within time.Duration) []string {
	c.t.Helper()
	late := time.After(within)
	for {
		select {
		case text, ok := <-c.lines:
			if !ok {
				<-c.done
				c.t.Fatalf("the crowd has ended (%v) without saying %s; its table:\n%s", c.err, line, &c.table)
			}
			if m := line.FindStringSubmatch(text); m != nil {
				return m[1:]
			}
			c.t.Log(text)
		case <-late:
			c.t.Fatalf("the crowd does not say %s within %s", line, within)
		}
	}
}

// count is how it stands now, and what has changed since the last count.
func (c *crowd) count() (now, before counts) {
	c.t.Helper()
	for { // what was said before is old
		select {
		case text := <-c.lines:
			if saysCounts.MatchString(text) {
				continue
			}
			c.t.Log(text)
			continue
		default:
		}
		break
	}
	m := c.await(saysCounts, answers)
	before = c.last
	for i, n := range []*int{&c.last.nodes, &c.last.handed, &c.last.resumed, &c.last.lost} {
		*n, _ = strconv.Atoi(m[i]) // digits
	}
	return c.last, before
}

// end ends the talk and holds the crowd to what its ledgers found.
func (c *crowd) end() {
	c.t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGINT); err != nil {
		c.t.Fatal(err)
	}
	select {
	case <-c.done:
	case <-time.After(ends):
		c.t.Fatalf("the crowd has not ended %s after it was told to", ends)
	}
	for text := range c.lines {
		c.t.Log(text)
	}
	c.t.Logf("the table:\n%s", strings.TrimRight(c.table.String(), "\n"))
	if c.err != nil {
		c.t.Errorf("what must be zero is not, or not all was done: %v", c.err)
	}
}
