package trace

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTracer_FollowsTheShareThatItWasTold(t *testing.T) {
	for _, c := range []struct {
		share       float64
		least, most int
	}{{0, 0, 0}, {1, 10_000, 10_000}, {0.5, 4_000, 6_000}} {
		followed := 0
		tracer := New(c.share, func(*Span) {})
		for range 10_000 {
			if tracer.Begin("room.send", Server) != nil {
				followed++
			}
		}
		if followed < c.least || followed > c.most {
			t.Errorf("share %v: %d of 10000 are followed, want %d to %d", c.share, followed, c.least, c.most)
		}
	}
}

func TestTracer_OfShareNoneFollowsWhatOthersDo(t *testing.T) {
	var got []*Span
	here, there := New(1, func(*Span) {}), New(0, func(s *Span) { got = append(got, s) })
	root := here.Begin("room.send", Server)
	began := time.Now().Add(-time.Second)
	there.Continue(root.Traceparent(), "room.deliver", Consumer, began).End()
	if len(got) != 1 || got[0].ID.Trace != root.ID.Trace || got[0].Parent != root.ID.Span || got[0].ID.Span == root.ID.Span ||
		!got[0].Began.Equal(began) || got[0].Ended.Before(began.Add(time.Second)) {
		t.Fatalf("got %+v below %+v", got, root)
	}
	there.Continue("", "room.deliver", Consumer, began).End()
	there.Continue("00-1-2-01", "room.deliver", Consumer, began).End()
	if len(got) != 1 {
		t.Errorf("followed what is no traceparent: %+v", got[1:])
	}
}

func TestSpan_TellsWhatWasSaidOfIt(t *testing.T) {
	var got []*Span
	root := New(1, func(s *Span) { got = append(got, s) }).Begin("room.send", Server)
	write := root.Below("store.send", Producer)
	write.Happened("pipelined")
	write.Text("a", "b")
	write.Number("n", 7)
	write.Truth("t", true)
	write.Fail()
	write.End()
	root.End()
	if len(got) != 2 || got[0] != write || got[1] != root {
		t.Fatalf("ended %+v", got)
	}
	if root.Parent != [8]byte{} || write.Parent != root.ID.Span || write.ID.Trace != root.ID.Trace || write.ID.Span == root.ID.Span {
		t.Errorf("%v is not below %v", write, root)
	}
	if want := []Attr{{"a", "b"}, {"n", int64(7)}, {"t", true}}; !slices.Equal(write.Attrs, want) {
		t.Errorf("attributes %v, want %v", write.Attrs, want)
	}
	if !write.Failed || root.Failed || len(write.Events) != 1 || write.Events[0].Name != "pipelined" ||
		write.Events[0].At.Before(write.Began) || write.Ended.Before(write.Events[0].At) {
		t.Errorf("write %+v", write)
	}
}

func TestOff_NothingIsDoneAndNothingKept(t *testing.T) {
	var off *Tracer
	asked := New(0, func(*Span) { t.Error("a span ended that nobody began") })
	const parent = "00-0102030405060708090a0b0c0d0e0f10-0102030405060708-01"
	if n := testing.AllocsPerRun(100, func() {
		for _, s := range []*Span{off.Begin("room.send", Server), off.Continue(parent, "room.deliver", Consumer, time.Time{}), asked.Begin("room.send", Server)} {
			below := s.Below("store.send", Producer)
			below.Happened("pipelined")
			below.Text("a", "b")
			below.Number("n", 1<<40)
			below.Truth("t", true)
			below.Fail()
			below.End()
			s.End()
			if s != nil || below != nil || below.Traceparent() != "" {
				t.Fatal("followed")
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"", "00-0102030405060708090a0b0c0d0e0f10-0102030405060708-01", "00-0102030405060708090a0b0c0d0e0f10-0102030405060708-00",
		"01-0102030405060708090a0b0c0d0e0f10-0102030405060708-01", "00-00000000000000000000000000000000-0102030405060708-01",
		"00-0102030405060708090a0b0c0d0e0f10-0000000000000000-01", "00-0102030405060708090a0b0c0d0e0fxx-0102030405060708-01",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if id, ok := Parse(s); ok && id.String() != strings.ToLower(s) {
			t.Fatalf("%q was read as %s", s, id)
		} else if again, same := Parse(id.String()); ok && (!same || again != id) {
			t.Fatalf("%q: %v, read again as %v", s, id, again)
		}
	})
}

func TestParse_TakesNothingButAFollowedSpan(t *testing.T) {
	const good = "00-0102030405060708090a0b0c0d0e0f10-0102030405060708-01"
	if id, ok := Parse(good); !ok || id.String() != good || id.Trace[15] != 0x10 || id.Span[0] != 1 {
		t.Errorf("%s: %v, %v", good, id, ok)
	}
	for _, bad := range []string{
		"", good + "-x", good[:54], "01" + good[2:], good[:53] + "00", strings.Replace(good, "-", "_", 1),
		"00-00000000000000000000000000000000-0102030405060708-01", "00-0102030405060708090a0b0c0d0e0f10-0000000000000000-01",
		"00-0102030405060708090a0b0c0d0e0fxx-0102030405060708-01",
	} {
		if id, ok := Parse(bad); ok {
			t.Errorf("%q was read as %v", bad, id)
		}
	}
}
