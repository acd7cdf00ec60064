package redisset

import "syscall"

// tied ends a server with this process, even if that is killed, and keeps the
// terminal's Ctrl-C from it: it is ended in order.
func tied() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
