package migrations

import (
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"godwit/internal/redistest"
)

func TestUp_ACursorOfAnotherServerIsNotGoneOnWith(t *testing.T) {
	rdb, st, rooms := before(t)
	_, middle, err := st.ScanRooms(t.Context(), 0, 1000)
	if err != nil || middle == 0 {
		t.Fatalf("a walk of one part: %d, %v", middle, err)
	}
	life, err := st.Life(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cursor uint64
		life   any // nil: as one who knew of no lives left it
		whole  bool
	}{
		"of a server that is no more":        {middle, "another", true},
		"of nobody knows which":              {middle, nil, true},
		"of this one":                        {middle, life, false},
		"of this one, at the end of the way": {0, life, true},
	} {
		t.Run(name, func(t *testing.T) {
			if err := rdb.FlushDB(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			fill(t, rdb)
			fields := []any{"step", 1, "cursor", c.cursor}
			if c.life != nil {
				fields = append(fields, "life", c.life)
			}
			if err := rdb.HSet(t.Context(), "gw:schema", fields...).Err(); err != nil {
				t.Fatal(err)
			}
			if err := Up(t.Context(), st, func(Progress) {}); err != nil {
				t.Fatal(err)
			}
			if got := listed(t, st); slices.Equal(got, rooms) != c.whole {
				t.Errorf("%d of %d rooms are listed; all of them: want %t", len(got), len(rooms), c.whole)
			}
		})
	}
}

// bridge is an address behind which one server stands, and later another.
type bridge struct {
	ln net.Listener
	wg sync.WaitGroup

	mu    sync.Mutex
	to    string     // guarded by mu
	conns []net.Conn // guarded by mu
}

func newBridge(t *testing.T, to string) *bridge {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &bridge{ln: ln, to: to}
	b.wg.Go(func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			far, err := net.Dial("tcp", b.to)
			if err != nil {
				near.Close()
				b.mu.Unlock()
				continue
			}
			b.conns = append(b.conns, near, far)
			b.mu.Unlock()
			for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
				b.wg.Go(func() {
					_, _ = io.Copy(way[0], way[1]) // until one of them is gone
					near.Close()
					far.Close()
				})
			}
		}
	})
	t.Cleanup(func() {
		ln.Close()
		b.turn("")
		b.wg.Wait()
	})
	return b
}

// turn has another server stand there.
func (b *bridge) turn(to string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.to = to
	for _, c := range b.conns {
		c.Close()
	}
	b.conns = nil
}

func TestUp_GoesOnWithAReplicaThatTookTheServersPart(t *testing.T) {
	primary, replica := redistest.Start(t), redistest.Start(t)
	fill(t, primary.Client())
	rooms := fill(t, replica.Client()) // and nothing yet of what the step does
	b := newBridge(t, primary.Addr)
	st := open(t, "redis://"+b.ln.Addr().String())
	parts, tries := 0, 0
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(time.Minute); ; {
		tries++
		err := Up(t.Context(), st, func(Progress) {
			if parts++; parts == 3 {
				b.turn(replica.Addr)
			}
		})
		if err == nil {
			break
		}
		select {
		case <-tick.C: // the connections of before are found to be gone
		case <-late:
			t.Fatalf("after a minute: %v", err)
		}
	}
	if got := listed(t, open(t, replica.URL())); !slices.Equal(got, rooms) {
		t.Errorf("after %d tries %d rooms are listed, want %d", tries, len(got), len(rooms))
	}
	if parts < 6 {
		t.Errorf("%d parts: it did not begin anew", parts)
	}
}
