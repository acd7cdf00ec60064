//go:build !linux

package freeze

import (
	"fmt"
	"os"
	"syscall"
)

// Stop freezes a child of this process, maybe a moment later.
func Stop(p *os.Process) error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("freeze process %d: %w", p.Pid, err)
	}
	return nil
}
