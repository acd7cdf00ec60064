package call

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"godwit/internal/golden"
)

const timeout = 15 * time.Second

func at(s int) time.Time { return time.Unix(int64(s), 0) }

// TestTranscript plays testdata/call.txt: a line is a second and what happens in
// it, `user:client` a beat ("@" says when it came, "left" that it is the last),
// "gone" a member that left the room, and "look" only that time has passed. The
// indented line after it is how the call stands then.
func TestTranscript(t *testing.T) {
	const file = "testdata/call.txt"
	script, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	golden.Is(t, file, play(t, string(script)))
}

func play(t *testing.T, text string) []byte {
	var out bytes.Buffer
	var c Call
	num := func(s string) int {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, " ") {
			continue
		}
		out.WriteString(line)
		second, what, _ := strings.Cut(strings.TrimSpace(line), " ")
		if second == "" || second == "#" {
			continue
		}
		now := at(num(second))
		var beats []Beat
		changed := false
		for one := range strings.SplitSeq(what, ", ") {
			f := strings.Fields(one)
			if f[0] == "look" {
				break
			}
			user, client, _ := strings.Cut(f[0], ":")
			b := Beat{Client: uint32(num(client)), User: user, In: true, At: now}
			for _, more := range f[1:] {
				switch {
				case more == "left":
					b.In = false
				case more[0] == '@':
					b.At = at(num(more[1:]))
				case more == "gone":
					changed = c.Leave(now, b.Client)
				}
			}
			if f[len(f)-1] != "gone" {
				beats = append(beats, b)
			}
		}
		changed = c.Take(now, timeout, beats...) || changed
		fmt.Fprintf(&out, "  %v", c.Clients())
		if !c.Next().IsZero() {
			fmt.Fprintf(&out, " until %d", c.Next().Unix())
		}
		if changed {
			fmt.Fprintf(&out, ", in_call:%t", c.On())
		}
		out.WriteByte('\n')
	}
	return out.Bytes()
}

// Whatever comes in whatever order: the flag is true exactly while clients of
// two users have beaten within the timeout and have not left since, it never
// changes without a word, and Next misses nobody.
func TestCall_IsWhatTheBeatsOfTheLastTimeoutSay(t *testing.T) {
	users := []string{"ann", "ann", "bob", "bob", "cy"}
	rapid.Check(t, func(t *rapid.T) {
		var c Call
		now := 0
		last := map[uint32]int{} // when each client's last beat came
		told := false
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			before := c.Next()
			step := rapid.SampledFrom([]int{0, 0, 1, 3, 7, 16}).Draw(t, "seconds")
			now += step
			client := uint32(rapid.IntRange(0, len(users)-1).Draw(t, "client"))
			b := Beat{Client: client, User: users[client], In: true, At: at(now)}
			var changed bool
			switch rapid.SampledFrom([]string{"beat", "beat", "late beat", "left", "gone", "look"}).Draw(t, "what") {
			case "beat":
				changed = c.Take(at(now), timeout, b)
				last[client] = now
			case "late beat":
				came := now - rapid.IntRange(0, 20).Draw(t, "age")
				b.At = at(came)
				changed = c.Take(at(now), timeout, b)
				if was, ok := last[client]; !ok || came > was {
					last[client] = came
				}
			case "left":
				b.In = false
				changed = c.Take(at(now), timeout, b)
				delete(last, client)
			case "gone":
				changed = c.Leave(at(now), client)
				delete(last, client)
			case "look":
				changed = c.Expire(at(now))
				if gone := !before.IsZero() && !at(now).Before(before); !gone && changed {
					t.Fatalf("changed at %d, and the first was late at %d", now, before.Unix())
				}
			}
			in := map[string]bool{}
			var clients []uint32
			for client, came := range last {
				if now-came < int(timeout/time.Second) {
					in[users[client]] = true
					clients = append(clients, client)
				} else {
					delete(last, client)
				}
			}
			slices.Sort(clients)
			if c.On() != (len(in) > 1) || !slices.Equal(c.Clients(), clients) {
				t.Fatalf("at %d: %v in call %t, want %v", now, c.Clients(), c.On(), clients)
			}
			if changed {
				told = !told
			}
			if told != c.On() {
				t.Fatalf("the flag is %t, and %t was told", c.On(), told)
			}
			if (len(clients) == 0) != c.Next().IsZero() || len(clients) > 0 && !c.Next().After(at(now)) {
				t.Fatalf("at %d the next is late at %d, of %v", now, c.Next().Unix(), clients)
			}
		}
	})
}
