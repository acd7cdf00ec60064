package fleet

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"godwit/internal/freeze"
)

// Patience bounds every wait for a process to do what it must do at once: far
// above what a healthy one needs on a busy machine.
const Patience = 30 * time.Second

// process is one child and what it has said.
type process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed once the child is gone

	mu sync.Mutex
	// guarded by mu
	out   bytes.Buffer
	lines chan struct{} // closed and replaced at each write
	err   error         // of Wait, once done is closed
}

// start runs a child that dies with the test.
func start(t testing.TB, name, path string, env []string, args ...string) *process {
	t.Helper()
	p := &process{name: name, done: make(chan struct{}), lines: make(chan struct{})}
	p.cmd = exec.Command(path, args...)
	p.cmd.Env = env
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() { // waited for by done; keeps the thread whose end would kill the child
		defer close(p.done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			err = p.cmd.Wait()
		}
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
	}()
	if err := <-started; err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	t.Cleanup(func() {
		p.kill()
		<-p.done
		p.show(t)
	})
	return p
}

// Write keeps what the child says.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.lines)
	p.lines = make(chan struct{})
	return p.out.Write(b)
}

// said is all that the child has said, and a channel that is closed when it
// says more.
func (p *process) said() (string, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String(), p.lines
}

// await waits for a line that find accepts.
func (p *process) await(what string, find func(line string) bool) error {
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	for {
		out, more := p.said()
		for line := range strings.Lines(out) {
			if strings.HasSuffix(line, "\n") && find(line) {
				return nil
			}
		}
		select {
		case <-more:
		case <-p.done:
			if out, _ := p.said(); strings.Count(out, "\n") > 0 {
				return fmt.Errorf("%s ended before %s: %v\n%s", p.name, what, p.exit(), tail(out, 20))
			}
			return fmt.Errorf("%s ended before %s: %v", p.name, what, p.exit())
		case <-deadline.C:
			return fmt.Errorf("%s: no %s within %s", p.name, what, Patience)
		}
	}
}

// signal sends a signal, by pid, unless the child is gone.
func (p *process) signal(s syscall.Signal) error {
	select {
	case <-p.done:
		return fmt.Errorf("signal %s: %w", p.name, os.ErrProcessDone)
	default:
		return p.cmd.Process.Signal(s)
	}
}

// freeze returns when the child has stopped.
func (p *process) freeze() error {
	select {
	case <-p.done:
		return fmt.Errorf("freeze %s: %w", p.name, os.ErrProcessDone)
	default:
		return freeze.Stop(p.cmd.Process)
	}
}

func (p *process) kill() {
	if err := p.signal(syscall.SIGKILL); err == nil {
		<-p.done
	}
}

// exit is the child's end; nil is exit code 0.
func (p *process) exit() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// code is the exit code, -1 for a signal.
func (p *process) code() int {
	var e *exec.ExitError
	switch err := p.exit(); {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.ExitCode()
	}
	return -1
}

// show fails the test for a data race, and tells the log of a failed one.
func (p *process) show(t testing.TB) {
	out, _ := p.said()
	if strings.Contains(out, "WARNING: DATA RACE") || strings.Contains(out, "\npanic: ") {
		t.Errorf("%s: data race or panic, see its log", p.name)
	}
	if !t.Failed() {
		return
	}
	t.Logf("log of %s, its end:\n%s", p.name, tail(out, 120))
	if dir := os.Getenv("GODWIT_E2E_LOGS"); dir != "" {
		name := strings.ReplaceAll(t.Name(), "/", "_") + "-" + p.name + ".log"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(out), 0o644); err != nil {
			t.Log(err)
		}
	}
}

// tail is the last n lines.
func tail(s string, n int) string {
	lines := strings.SplitAfter(s, "\n")
	return strings.Join(lines[max(0, len(lines)-n-1):], "")
}

// Eventually waits until check answers nil, and says what it last answered
// when it does not within limit. It asks often: check looks at a state that
// nothing announces, such as an answer of a probe.
func Eventually(t testing.TB, limit time.Duration, what string, check func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s, not within %s: %v", what, limit, err)
		}
		<-tick.C
	}
}
