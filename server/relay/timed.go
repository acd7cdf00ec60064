package relay

import (
	"time"

	"godwit/store"
	"godwit/trace"
	"godwit/wire"
)

// timed is an event on its way through this node.
type timed struct {
	*wire.RoomEvent
	came time.Duration // when it was heard, or missed, on the relay's clock
	span *trace.Span   // of its delivery; nil, but for the few that are followed
}

// timed is an entry that came at a time, from the fan-out, or from the log.
func (rm *Room) timed(e *store.Entry, came time.Duration, filled bool) timed {
	t := timed{RoomEvent: Event(rm.name, e), came: came}
	if e.Trace != "" {
		t.span = rm.relay.trace.Continue(e.Trace, "room.deliver", trace.Consumer, rm.relay.began.Add(came))
		t.span.Truth("godwit.filled", filled)
	}
	return t
}

// delivered counts an event of an epoch that went to so many members. One that
// was for nobody here is followed, too.
func (rm *Room) delivered(epoch string, t timed, told int) {
	if told > 0 {
		rm.relay.Stats.Told.Add(uint64(told))
		rm.relay.Stats.Took.Observe(rm.relay.clock() - t.came)
	}
	if t.span != nil {
		t.span.Text("godwit.epoch", epoch)
		t.span.Number("godwit.seq", int64(t.Seq))
		t.span.Number("godwit.receivers", int64(told))
		t.span.End()
	}
}
