package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// ticks is how many a second of CPU has in /proc: Linux shows user space no other.
const ticks = 100

// cost is what was spent up to a moment.
type cost struct {
	at                  time.Time
	server, redis, load time.Duration // CPU
	rss                 int64         // bytes of the servers
	reads, scripts      int64         // of Redis: reads from sockets, scripts run
	kept                int64         // bytes of Redis's data, and what it needs to serve it
}

func (c cost) since(b cost) cost {
	c.server -= b.server
	c.redis -= b.redis
	c.load -= b.load
	c.rss -= b.rss
	c.reads -= b.reads
	c.scripts -= b.scripts
	c.kept -= b.kept
	return c
}

// cpu is the time that a process has spent, as its stat file tells it.
func cpu(stat []byte) (time.Duration, error) {
	// The name, in brackets, may hold anything; behind it utime and stime are the
	// 12th and 13th field.
	i := bytes.LastIndexByte(stat, ')')
	if i < 0 {
		return 0, errors.New("no name in brackets")
	}
	fields := bytes.Fields(stat[i+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("only %d fields", len(fields))
	}
	var sum int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return time.Duration(sum) * (time.Second / ticks), nil
}

// resident is the memory of a process in bytes, as its statm file tells it.
func resident(statm []byte) (int64, error) {
	fields := bytes.Fields(statm)
	if len(fields) < 2 {
		return 0, fmt.Errorf("only %d fields", len(fields))
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// spent is a process's CPU and memory up to now.
func spent(pid int) (busy time.Duration, rss int64, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	if busy, err = cpu(stat); err != nil {
		return 0, 0, fmt.Errorf("stat of process %d: %w", pid, err)
	}
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, 0, err
	}
	if rss, err = resident(statm); err != nil {
		return 0, 0, fmt.Errorf("statm of process %d: %w", pid, err)
	}
	return busy, rss, nil
}

// askRedis adds what a Redis says of itself: how often it read from a socket,
// which is once for what came together, how many scripts it ran, and its memory.
func (c *cost) askRedis(ctx context.Context, rdb *redis.Client) error {
	said := make(map[string]string)
	for _, section := range []string{"stats", "commandstats", "memory"} {
		text, err := rdb.Info(ctx, section).Result()
		if err != nil {
			return fmt.Errorf("ask redis: %w", err)
		}
		said[section] = text
	}
	c.reads = infoCount(said["stats"], "total_reads_processed:")
	c.scripts = infoCount(said["commandstats"], "cmdstat_evalsha:calls=") + infoCount(said["commandstats"], "cmdstat_eval:calls=")
	c.kept = infoCount(said["memory"], "used_memory:")
	return nil
}

// infoCount is the number behind a word that begins a line, 0 if there is none.
func infoCount(info, word string) int64 {
	for line := range strings.Lines(info) {
		if rest, ok := strings.CutPrefix(line, word); ok {
			end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
			if end < 0 {
				end = len(rest)
			}
			n, _ := strconv.ParseInt(rest[:end], 10, 64) // digits alone
			return n
		}
	}
	return 0
}

// evictions is how many clients the nodes have put out for being too slow, at least.
func (s *side) evictions(ctx context.Context) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, adminWithin)
	defer cancel()
	for _, admin := range s.admins {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/metrics", nil)
		if err != nil {
			return 0, fmt.Errorf("ask a node for its metrics: %w", err)
		}
		req.Close = true // nobody asks twice
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, fmt.Errorf("ask a node for its metrics: %w", err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		switch {
		case err != nil:
			return 0, fmt.Errorf("ask a node for its metrics: %w", err)
		case resp.StatusCode != http.StatusOK:
			return 0, fmt.Errorf("ask a node for its metrics: %s", resp.Status)
		}
		// One that is told to go for the one, and does not take that, counts for both.
		n += int(max(
			infoCount(string(text), `godwit_evictions_total{reason="slow"} `),
			infoCount(string(text), `godwit_evictions_total{reason="stuck"} `),
		))
	}
	return n, nil
}

// machine is what the figures were measured on.
type machine struct {
	CPU   string `json:"cpu"`
	Cores int    `json:"cores"`
	OS    string `json:"os"`
	Go    string `json:"go"`
}

func thisMachine() machine {
	m := machine{Cores: runtime.NumCPU(), OS: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version()}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, model, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(model)
				break
			}
		}
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.OS += " " + strings.TrimSpace(string(b))
	}
	return m
}
