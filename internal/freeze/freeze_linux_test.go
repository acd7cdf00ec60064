package freeze

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

func TestStop_ReturnsWhenTheProcessHasStopped(t *testing.T) {
	for range 20 {
		cmd := exec.Command("cat", "/dev/zero")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if err := Stop(cmd.Process); err != nil {
			t.Error(err)
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		if _, state, ok := bytes.Cut(stat, []byte(") ")); err != nil || !ok || state[0] != 'T' {
			t.Errorf("its state is %.20q, %v, want T", state, err)
		}
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	}
}
