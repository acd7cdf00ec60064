package main

import "syscall"

// tied makes a process end when we do, and keeps the terminal's Ctrl-C from
// it: we end it ourselves, in order.
func tied() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
}
