package redisset

import (
	"os"
	"syscall"
)

// tied ends a server with this process, even if that is killed, and keeps the
// terminal's Ctrl-C from it: it is ended in order.
func tied() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// kill ends a server at once, and the child that it may have forked to write a file.
func kill(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) } // they may have ended

// left says whether a child of a server that has ended is still there.
func left(p *os.Process) bool { return syscall.Kill(-p.Pid, 0) == nil }
