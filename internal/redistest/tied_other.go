//go:build !linux

package redistest

import "syscall"

func tied() *syscall.SysProcAttr { return nil }
