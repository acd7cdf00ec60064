package redistest

import "syscall"

// tied ends the server with the test's process, even if that is killed.
func tied() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
