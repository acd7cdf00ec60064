package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"godwit/client"
)

// patience bounds a wait for what must come; a test that passes never waits it out.
const patience = 30 * time.Second

// said gathers what a program says, for those who wait for a word of it.
type said struct {
	t    *testing.T
	done chan struct{} // closed when the program has ended

	mu   sync.Mutex
	text bytes.Buffer  // guarded by mu
	more chan struct{} // guarded by mu: closed and replaced at each write
}

func newSaid(t *testing.T) *said {
	return &said{t: t, done: make(chan struct{}), more: make(chan struct{})}
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.more)
	s.more = make(chan struct{})
	return s.text.Write(b)
}

func (s *said) all() (string, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String(), s.more
}

func (s *said) String() string {
	text, _ := s.all()
	return text
}

// await waits for a line and is what the pattern's groups hold.
func (s *said) await(pattern string) []string {
	s.t.Helper()
	re := regexp.MustCompile(pattern)
	late := time.NewTimer(patience)
	defer late.Stop()
	for ended := false; ; {
		text, more := s.all()
		for line := range strings.Lines(text) {
			line, whole := strings.CutSuffix(line, "\n")
			if m := re.FindStringSubmatch(line); m != nil && whole {
				return m[1:]
			}
		}
		if ended {
			s.t.Fatalf("ended without a line like %s, said:\n%s", pattern, text)
		}
		select {
		case <-more:
		case <-s.done:
			ended = true // one more look
		case <-late.C:
			s.t.Fatalf("no line like %s within %s, said:\n%s", pattern, patience, text)
		}
	}
}

// node is where a node listens that said so.
func (s *said) node() (url, admin string) {
	s.t.Helper()
	m := s.await(`"msg":"listening".*"addr":"([^"]+)","admin":"([^"]+)"`)
	return "ws://" + m[0] + "/v1/ws", "http://" + m[1]
}

// program is godwit as a process of its own.
type program struct {
	*said
	in  io.WriteCloser
	cmd *exec.Cmd
}

// launch starts godwit with nothing else in its environment, so that no setting
// of the machine gets in. It is killed with the test, if it has not ended.
func launch(t *testing.T, env []string, args ...string) *program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{said: newSaid(t), cmd: exec.Command(self, args...)}
	p.cmd.Env = append([]string{
		asProgram + "=1", "PATH=" + os.Getenv("PATH"), "TMPDIR=" + t.TempDir(),
		"GORACE=atexit_sleep_ms=0", // or each end takes a second
	}, env...)
	p.cmd.SysProcAttr = tied()
	p.cmd.Stdout, p.cmd.Stderr = p.said, p.said
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ended by the cleanup
		defer close(p.done)
		_ = p.cmd.Wait() // the state says the same
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it may have ended
		<-p.done
		if t.Failed() {
			t.Logf("godwit %s said:\n%s", strings.Join(args, " "), p)
		}
	})
	return p
}

func (p *program) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("%s: %v", s, err)
	}
}

// exit waits for the end and is the exit code, -1 for a signal.
func (p *program) exit() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("still there after %s", patience)
	}
	return p.cmd.ProcessState.ExitCode()
}

// enter types a line.
func (p *program) enter(line string) {
	p.t.Helper()
	if _, err := io.WriteString(p.in, line+"\n"); err != nil {
		p.t.Fatal(err)
	}
}

// local are the settings of a node that is in nobody's way.
func local(env ...string) []string {
	return append([]string{"GODWIT_LISTEN=127.0.0.1:0", "GODWIT_ADMIN_LISTEN=127.0.0.1:0", "GODWIT_LOG_FORMAT=json"}, env...)
}

// inside is a node in this process.
type inside struct {
	*said      // its log
	out        *said
	stop       context.CancelFunc
	code       int // once done is closed
	url, admin string
}

// serveInside runs a node in this process until it is stopped, or the test
// ends, and returns once it is ready.
func serveInside(t *testing.T, env ...string) *inside {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	n := &inside{said: newSaid(t), out: newSaid(t), stop: cancel}
	go func() { // ended by the cleanup
		defer close(n.done)
		n.code = run(ctx, []string{"serve"}, local(env...), nil, n.out, n.said)
	}()
	t.Cleanup(func() { n.end() })
	n.url, n.admin = n.node()
	ready(t, n.admin)
	return n
}

// end stops the node and is its exit code.
func (n *inside) end() int {
	n.t.Helper()
	n.stop()
	<-n.done
	return n.code
}

// once runs godwit to its end, in this process.
func once(env []string, args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = run(context.Background(), args, env, nil, &o, &e)
	return code, o.String(), e.String()
}

// login dials with a token, and closes with the test.
func login(t *testing.T, url, token string, change ...func(*client.Options)) (*client.Client, error) {
	t.Helper()
	o := client.Options{
		URLs: []string{url}, MinBackoff: time.Millisecond,
		Token: func(context.Context) (string, error) { return token, nil },
	}
	for _, f := range change {
		f(&o)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := client.Dial(ctx, o)
	if err == nil {
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_ = c.Close(ctx) // its node may be gone
		})
	}
	return c, err
}

// mistake is why a command cannot run, how it exits then, and what it says.
type mistake struct {
	name string
	env  []string
	args []string
	code int
	want []string
}

func saysWhy(t *testing.T, command string, all []mistake) {
	t.Helper()
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			p := launch(t, c.env, append([]string{command}, c.args...)...)
			if code := p.exit(); code != c.code {
				t.Errorf("exit %d, want %d", code, c.code)
			}
			for _, want := range c.want {
				if !strings.Contains(p.String(), want) {
					t.Errorf("%q is not in:\n%s", want, p)
				}
			}
		})
	}
}
