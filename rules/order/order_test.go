package order

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"godwit/internal/golden"
)

// TestTranscripts plays testdata/*.txt: a line is an event, the indented lines
// after it are what followed.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			script, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			golden.Is(t, file, play(t, string(script)))
		})
	}
}

func play(t *testing.T, text string) []byte {
	var out bytes.Buffer
	var track Track[uint64]
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, " ") {
			continue
		}
		out.WriteString(line)
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		num := func(i int) (n uint64) {
			if _, err := fmt.Sscan(f[i], &n); err != nil {
				t.Fatalf("line %q: %v", line, err)
			}
			return n
		}
		var s Step[uint64]
		switch f[0] {
		case "start":
			s = track.Start(f[1], num(2))
		case "heard":
			s = track.Heard(f[1], num(2), num(2))
		case "announced":
			s = track.Announced(f[1], num(2))
		case "filled":
			var seqs []uint64
			for i := range f[1:] {
				seqs = append(seqs, num(i+1))
			}
			s = track.Filled(seqs, seqs)
		case "stop":
			track.Stop()
		default:
			t.Fatalf("line %q: unknown event", line)
		}
		if len(s.Deliver) > 0 {
			fmt.Fprintf(&out, "  deliver %v\n", s.Deliver)
		}
		if s.Fill {
			fmt.Fprintf(&out, "  fill %d..%d\n", s.From, s.To)
		}
		if s.Reset {
			fmt.Fprintf(&out, "  reset\n")
		}
	}
	return out.Bytes()
}

// TestTrack_DeliversTheLogWhateverHappensOnTheWay lets a random way lose,
// double and swap entries, and reads the holes from the log late: what is
// delivered is the log, each entry once, in order, and in the end all of it.
func TestTrack_DeliversTheLogWhateverHappensOnTheWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		total := uint64(rapid.IntRange(1, 60).Draw(t, "entries"))
		start := uint64(rapid.IntRange(0, 5).Draw(t, "start"))
		start = min(start, total)
		var track Track[uint64]
		next := start + 1
		var hole *[2]uint64
		apply := func(s Step[uint64]) {
			for _, v := range s.Deliver {
				if v != next {
					t.Fatalf("delivered %d, want %d", v, next)
				}
				next++
			}
			if s.Reset {
				t.Fatal("reset, though the log has everything")
			}
			if s.Fill {
				if hole != nil {
					t.Fatal("a second hole asked for before the first was filled")
				}
				hole = &[2]uint64{s.From, s.To}
			}
		}
		fill := func() {
			if hole == nil {
				return
			}
			page := uint64(rapid.IntRange(1, 10).Draw(t, "page"))
			var seqs []uint64
			for seq := hole[0]; seq <= hole[1] && uint64(len(seqs)) < page; seq++ {
				seqs = append(seqs, seq)
			}
			hole = nil
			apply(track.Filled(seqs, seqs))
		}
		var way []uint64
		for seq := uint64(1); seq <= total; seq++ {
			switch rapid.IntRange(0, 5).Draw(t, "fate") {
			case 0: // lost
			case 1:
				way = append(way, seq, seq)
			case 2:
				way = append(way, seq)
				if n := len(way); n > 1 {
					way[n-1], way[n-2] = way[n-2], way[n-1]
				}
			default:
				way = append(way, seq)
			}
		}
		startAt := rapid.IntRange(0, len(way)).Draw(t, "startAt")
		for i, seq := range way {
			if i == startAt {
				apply(track.Start("e", start))
			}
			apply(track.Heard("e", seq, seq))
			if rapid.Bool().Draw(t, "fill") {
				fill()
			}
		}
		if track.State() == Starting {
			apply(track.Start("e", start))
		}
		apply(track.Announced("e", total))
		for hole != nil {
			fill()
		}
		if next != total+1 {
			t.Fatalf("delivered up to %d of %d", next-1, total)
		}
	})
}

// A failover may lose an entry that waits behind a hole, and another comes in its place.
func TestTrack_WhatIsHeardLaterStandsInThePlaceOfWhatWaits(t *testing.T) {
	var track Track[string]
	track.Start("e", 1)
	track.Heard("e", 3, "lost")
	track.Heard("e", 3, "in its place")
	if got := track.Filled([]uint64{2}, []string{"read"}).Deliver; !slices.Equal(got, []string{"read", "in its place"}) {
		t.Errorf("delivered %q", got)
	}
}

func TestTrack_PendingIsBoundedAndNothingIsLost(t *testing.T) {
	var track Track[uint64]
	track.Start("e", 0)
	const total = 3 * MaxPending
	for seq := uint64(2); seq <= total; seq++ {
		track.Heard("e", seq, seq)
	}
	if len(track.pending) > MaxPending {
		t.Fatalf("%d entries pending, at most %d allowed", len(track.pending), MaxPending)
	}
	next := uint64(1)
	s := Step[uint64]{Fill: true, From: 1, To: 1}
	for s.Fill {
		var seqs []uint64
		for seq := s.From; seq <= s.To; seq++ {
			seqs = append(seqs, seq)
		}
		s = track.Filled(seqs, seqs)
		for _, v := range s.Deliver {
			if v != next {
				t.Fatalf("delivered %d, want %d", v, next)
			}
			next++
		}
	}
	if next != total+1 {
		t.Fatalf("delivered up to %d of %d", next-1, total)
	}
}

func BenchmarkHeard(b *testing.B) {
	b.ReportAllocs()
	var track Track[uint64]
	track.Start("e", 0)
	for seq := uint64(1); b.Loop(); seq++ {
		track.Heard("e", seq, seq)
	}
}
