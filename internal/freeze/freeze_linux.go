// Package freeze stops child processes with SIGSTOP, to see what others do meanwhile. It owns the wait until one
// has stopped; SIGCONT needs none.
package freeze

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"
)

const (
	byPID   = 1 // idtype P_PID of waitid(2)
	stopped = 2 // option WSTOPPED: of a child that stops, and not of one that ends
)

// Stop freezes a child of this process, and returns when all of its threads have
// stopped. The signal alone says nothing of when.
func Stop(p *os.Process) error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("freeze process %d: %w", p.Pid, err)
	}
	var info [128]byte // a siginfo_t, which nobody reads
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, byPID, uintptr(p.Pid), uintptr(unsafe.Pointer(&info)), stopped, 0, 0)
		switch errno {
		case 0:
			return nil
		case syscall.EINTR:
		default:
			return fmt.Errorf("wait until process %d is frozen: %w", p.Pid, errno)
		}
	}
}
