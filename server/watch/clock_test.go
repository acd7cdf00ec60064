package watch

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestLease_WarnsOnceOfAClockThatIsNotTheStores(t *testing.T) {
	var out bytes.Buffer
	l := &Lease{log: slog.New(slog.NewTextHandler(&out, nil))}
	warned := func() int { return strings.Count(out.String(), "level=WARN") }
	for i, c := range []struct {
		ahead time.Duration
		want  int
	}{{0, 0}, {time.Second, 0}, {2 * time.Second, 1}, {3 * time.Second, 1}, {0, 1}, {-2 * time.Second, 2}} {
		l.compare(c.ahead)
		if got := warned(); got != c.want {
			t.Errorf("%d: %s ahead: %d warnings, want %d: %s", i, c.ahead, got, c.want, out.String())
		}
	}
}
