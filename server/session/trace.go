package session

import (
	"godwit/trace"
	"godwit/wire"
)

// followed begins the trace of a send, if it is to be followed.
func (s *Session) followed() *trace.Span { return s.door.Trace.Begin("room.send", trace.Server) }

// unread ends the span of a send that could not be read.
func unread(span *trace.Span, err *wire.Error) { answered(span, MessageUnread, outcome(err)) }

// answered ends the span of a send, with the words by which it is counted. It says
// nothing of who talks to whom, where, and of what.
func answered(span *trace.Span, kind, outcome string) {
	span.Text("godwit.kind", kind)
	span.Text("godwit.outcome", outcome)
	if outcome == string(wire.Unavailable) || outcome == outcomeInternal {
		span.Fail()
	}
	span.End()
}
