package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"sync"
	"syscall"
)

// profiler writes profiles of this process: one SIGUSR1 begins, the next ends.
// There is a CPU profile when it has ended, and what memory was allocated for
// up to the begin and up to the end.
type profiler struct {
	dir string
	log *slog.Logger
	nth int
}

// sampleNoMemory ends the runtime's own notes of who allocated what, which nobody
// is to see: they would grow with all that a node does for the first time. Who has
// set how often they are made (GODEBUG) knows better.
var sampleNoMemory = sync.OnceFunc(func() {
	if runtime.MemProfileRate == 512<<10 {
		runtime.MemProfileRate = 0
	}
})

// cpuProfile is where a process's nth CPU profile is once it is whole.
func cpuProfile(dir string, pid, nth int) string {
	return filepath.Join(dir, fmt.Sprintf("godwit-%d-%d.cpu.pprof", pid, nth))
}

func (p *profiler) path(kind string) string {
	return filepath.Join(p.dir, fmt.Sprintf("godwit-%d-%d.%s.pprof", os.Getpid(), p.nth, kind))
}

// listen is where signals come from here on.
func (p *profiler) listen() chan os.Signal {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	return signals
}

// run obeys signals until ctx ends.
func (p *profiler) run(ctx context.Context, signals chan os.Signal) {
	defer signal.Stop(signals)
	for {
		select {
		case <-signals:
		case <-ctx.Done():
			return
		}
		p.nth++
		if err := p.one(ctx, signals); err != nil {
			p.log.Warn("no profile", "error", err)
		}
	}
}

// one writes one profile, until the next signal.
func (p *profiler) one(ctx context.Context, signals <-chan os.Signal) (err error) {
	if err := p.allocs("before.allocs"); err != nil {
		return err
	}
	part := p.path("cpu") + ".part"
	f, err := os.Create(part)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Rename(part, p.path("cpu"))) }()
	if err := pprof.StartCPUProfile(f); err != nil {
		return err
	}
	p.log.Info("profile begun", "file", p.path("cpu"))
	select {
	case <-signals:
	case <-ctx.Done():
	}
	pprof.StopCPUProfile()
	return p.allocs("allocs")
}

func (p *profiler) allocs(kind string) (err error) {
	f, err := os.Create(p.path(kind))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return pprof.Lookup("allocs").WriteTo(f, 0)
}
