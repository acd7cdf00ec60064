//go:build !linux

package redisset

import (
	"os"
	"syscall"
)

func tied() *syscall.SysProcAttr { return nil }

func kill(p *os.Process) { _ = p.Kill() } // it may have ended

func left(*os.Process) bool { return false }
