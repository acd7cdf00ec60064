//go:build !linux

package main

import "syscall"

// tied keeps the terminal's Ctrl-C from a process: we end it ourselves, in
// order. Only Linux can also tie its life to ours.
func tied() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
