//go:build !linux

package redisset

import "syscall"

func tied() *syscall.SysProcAttr { return nil }
