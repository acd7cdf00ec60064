package store

import (
	"testing"

	"godwit/trace"
)

// told is what a span says by that name; nil: nothing.
func told(s *trace.Span, key string) any {
	for _, a := range s.Attrs {
		if a.Key == key {
			return a.Value
		}
	}
	return nil
}

func TestSend_ThatIsFollowedSaysSoInItsEntryAndNoOtherDoes(t *testing.T) {
	each(t, Config{}, func(t *testing.T, s *Store) {
		ended := make(chan *trace.Span, 10)
		tracer := trace.New(1, func(s *trace.Span) { ended <- s })
		ann := member(1, "ann")
		in := join(t, s, "r", ann)
		root := tracer.Begin("room.send", trace.Server)
		first := sent(t, s, "r", ann, Draft{CSeq: 1, Data: []byte("1"), Trace: root})
		sent(t, s, "r", ann, Draft{CSeq: 2, Data: []byte("2")})
		if again, err := send(s, "r", ann, Known{}, Draft{CSeq: 1, Data: []byte("1"), Trace: root}); err != nil || !again.Dup {
			t.Fatalf("again: %+v, %v", again, err)
		}
		write, repeat := <-ended, <-ended
		if write.Parent != root.ID.Span || write.ID.Trace != root.ID.Trace || write.Name != "store.send" || write.Failed ||
			told(write, "godwit.outcome") != "ok" || told(write, "godwit.epoch") != in.Epoch || told(write, "godwit.seq") != int64(first.Seq) ||
			told(write, "godwit.pipeline.calls") == nil {
			t.Errorf("the write %+v is not that of %+v", write, root)
		}
		if len(write.Events) != 1 || write.Events[0].Name != "pipelined" || write.Events[0].At.Before(write.Began) || write.Ended.Before(write.Events[0].At) {
			t.Errorf("the wait and the round trip are not told apart: %+v", write)
		}
		if told(repeat, "godwit.outcome") != "dup" || told(repeat, "godwit.seq") != nil || repeat.Parent != root.ID.Span || repeat.ID == write.ID {
			t.Errorf("the repeat %+v", repeat)
		}
		page, err := s.Read(t.Context(), "r", first.Seq, 100, 100)
		if err != nil || len(page.Entries) != 2 {
			t.Fatalf("%d entries, %v", len(page.Entries), err)
		}
		if got := page.Entries[0].Trace; got != write.ID.String() {
			t.Errorf("the entry says %q, want the write's %s", got, write.ID)
		}
		if got := page.Entries[1].Trace; got != "" {
			t.Errorf("an entry that nobody follows says %q", got)
		}
	})
}

func TestSend_ThatIsFollowedAndNotAnsweredIsAFailure(t *testing.T) {
	s, err := Open(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var ended []*trace.Span
	root := trace.New(1, func(s *trace.Span) { ended = append(ended, s) }).Begin("room.send", trace.Server)
	l := s.lane("r")
	close(l.ended) // as after Run
	s.Send(t.Context(), "r", member(1, "ann"), Known{}, Draft{Data: []byte("1"), Trace: root}, func(Sent, error) {})
	if len(ended) != 1 || !ended[0].Failed || told(ended[0], "godwit.outcome") != "unavailable" || len(ended[0].Events) != 0 {
		t.Fatalf("ended %+v", ended)
	}
}

// What earlier versions wrote, and what they make of what this one writes.
func TestHeader_OfAFollowedEntryIsReadBothWays(t *testing.T) {
	const parent = "00-0102030405060708090a0b0c0d0e0f10-0102030405060708-01"
	text, err := Header{Kind: "message", User: "ann", Client: 7, Trace: parent}.encode()
	if want := `{"k":"message","u":"ann","c":7,"tp":"` + parent + `"}`; err != nil || text != want {
		t.Errorf("written as %s, %v, want %s", text, err, want)
	}
	if h, err := decodeHeader(text); err != nil || h.Trace != parent {
		t.Errorf("read as %+v, %v", h, err)
	}
	if h, err := decodeHeader(`{"k":"message","u":"ann","c":7}`); err != nil || h.Trace != "" {
		t.Errorf("of an earlier version: %+v, %v", h, err)
	}
	text, err = Header{Kind: "message", User: "ann", Client: 7}.encode()
	if want := `{"k":"message","u":"ann","c":7}`; err != nil || text != want {
		t.Errorf("one that is not followed is written as %s, %v, want %s, as ever", text, err, want)
	}
}
