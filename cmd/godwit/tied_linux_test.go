package main

import (
	"errors"
	"syscall"
	"testing"
)

func TestDev_IsItselfKilledAndLeavesNobody(t *testing.T) {
	p := launch(t, nil, "dev", "--nodes", "1")
	pids := children(p, 1)
	p.signal(syscall.SIGKILL)
	p.exit()
	// They are somebody else's children now: nobody tells us of their end.
	eventually(t, func() error {
		for _, pid := range pids {
			if !gone(t, pid) {
				return errors.New("process " + pid + " is left")
			}
		}
		return nil
	})
}
