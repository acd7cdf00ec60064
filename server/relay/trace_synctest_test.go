package relay

import (
	"testing"
	"time"

	"godwit/store"
	"godwit/trace"
)

// follow has a node say which spans end there.
func (n *node) follow() *[]*trace.Span {
	var ended []*trace.Span
	n.Trace(trace.New(0, func(s *trace.Span) {
		n.mu.Lock()
		defer n.mu.Unlock()
		ended = append(ended, s)
	}))
	return &ended
}

// tell is what a span says by that name.
func tell(s *trace.Span, key string) any {
	for _, a := range s.Attrs {
		if a.Key == key {
			return a.Value
		}
	}
	return nil
}

func TestTrace_EachNodeTellsOfItsDeliveryOnceAlsoOfWhatItReadFromTheLog(t *testing.T) {
	for _, lost := range []bool{false, true} {
		bubble(t, func(t *testing.T, w *world) {
			a := w.node()
			b, run := w.idle()
			ended := b.follow()
			run()
			ann, bob, cy := a.sit(1, "ann"), b.sit(2, "bob"), b.sit(3, "cy")
			b.on(func(m store.Message) []store.Message {
				if lost {
					return nil
				}
				return []store.Message{m, m} // doubled
			})
			root := trace.New(1, func(*trace.Span) {}).Begin("room.send", trace.Server)
			began := time.Now()
			answered := make(chan store.Sent, 1)
			a.store.Send(t.Context(), lobby, ann.Member, ann.room.Known(), store.Draft{Data: []byte("1"), Trace: root}, func(sent store.Sent, err error) {
				if err != nil {
					t.Error(err)
				}
				answered <- sent
			})
			sent := <-answered
			time.Sleep(time.Millisecond)
			b.on(nil)
			ann.wrote(ann.say("2")) // it is not followed
			time.Sleep(within)
			bob.has("followed", cy.at.Seq, sent.Seq+1)
			b.mu.Lock()
			defer b.mu.Unlock()
			if len(*ended) != 1 {
				t.Fatalf("lost %t: %d spans, want one", lost, len(*ended))
			}
			s := (*ended)[0]
			if s.ID.Trace != root.ID.Trace || s.Parent == root.ID.Span || s.Name != "room.deliver" || s.Role != trace.Consumer ||
				tell(s, "godwit.receivers") != int64(2) || tell(s, "godwit.seq") != int64(sent.Seq) || tell(s, "godwit.epoch") != sent.Epoch ||
				tell(s, "godwit.filled") != lost || s.Began.Before(began) || s.Ended.Before(s.Began) {
				t.Errorf("lost %t: the delivery %+v below %+v", lost, s, root)
			}
		})
	}
}
