package session

import (
	"godwit/measure"
	"godwit/store"
	"godwit/wire"
)

// The ways by which a session is opened, as Stats knows them.
const (
	WayJSON   = "json"
	WayBinary = "binary"
)

// What a message is, as Stats knows it.
const (
	MessageLogged    = "logged"    // it has a place in the room's log
	MessageEphemeral = "ephemeral" // it has none
	MessageUnread    = "unread"    // it was refused before that was known
)

// Outcomes that are no wire.Reason.
const (
	outcomeOK       = "ok"
	outcomeRepeated = "repeated" // the send was accepted before
	outcomeInvalid  = "invalid"  // no such method, or parameters that are none
	outcomeInternal = "internal" // a bug; the log tells more
)

// Stats counts what clients asked for, and how it was answered.
type Stats struct {
	Logins    map[string]*measure.Set // new sessions, by way
	Resumes   *measure.Set
	Handovers *measure.Set            // of sessions to this node
	Messages  map[string]*measure.Set // by what they are
	Requests  map[string]*measure.Set // by method, but room.send and the logins; measure.Other is any that there is not
}

// outcomes makes a Set of what may become of any request, and of some.
func outcomes(some ...wire.Reason) *measure.Set {
	words := []string{outcomeOK, outcomeInvalid, outcomeInternal, string(wire.Unavailable)}
	for _, r := range some {
		words = append(words, string(r))
	}
	return measure.NewSet(words...)
}

// NewStats makes the counts of a Door.
func NewStats() *Stats {
	s := &Stats{
		Logins:  make(map[string]*measure.Set),
		Resumes: outcomes(wire.NoSession, wire.TokenExpired, wire.Moved),
		Handovers: outcomes(wire.BadToken, wire.WrongAudience, wire.Expired, wire.Used, wire.Cancelled,
			wire.GenMismatch, wire.SameNode, wire.Capacity, wire.NoSession),
		Messages: make(map[string]*measure.Set),
		Requests: map[string]*measure.Set{measure.Other: measure.NewSet(outcomeInvalid)},
	}
	for _, way := range []string{WayJSON, WayBinary} {
		s.Logins[way] = outcomes(wire.Unauthorized, wire.TokenExpired)
	}
	for _, kind := range []string{MessageLogged, MessageEphemeral, MessageUnread} {
		s.Messages[kind] = outcomes(outcomeRepeated, wire.NotMember, wire.NoRecipient, wire.TooLarge, wire.RateLimited,
			wire.Moved, wire.NoSession, wire.Gap)
	}
	for method := range methods {
		s.Requests[method] = outcomes(wire.RateLimited, wire.Moved, wire.NoSession, wire.Forbidden, wire.NotMember)
	}
	s.Requests["call.beat"] = outcomes(wire.RateLimited, wire.Moved, wire.NoSession, wire.NotMember)
	return s
}

// outcome is how a request was answered, in a word.
func outcome(err *wire.Error) string {
	switch {
	case err == nil:
		return outcomeOK
	case err.Reason() != "":
		return string(err.Reason())
	case err.Code == wire.CodeInternal:
		return outcomeInternal
	}
	return outcomeInvalid
}

// opened counts a first request.
func (s *Stats) opened(name string, err *wire.Error) {
	switch name {
	case "hello":
		s.Logins[WayJSON].Add(outcome(err))
	case "resume":
		s.Resumes.Add(outcome(err))
	case "handover":
		s.Handovers.Add(outcome(err))
	}
}

// Refused counts a login that is no JSON, and whose token is not good.
func (s *Stats) Refused(err *wire.Error) { s.Logins[WayBinary].Add(outcome(err)) }

// answered counts a request, and hands its reply on.
func (s *Session) answered(method string, reply Reply) Reply {
	set, ok := s.door.Stats.Requests[method]
	switch {
	case method == "room.send":
		s.Refused(reply.Err)
		return reply
	case !ok:
		set = s.door.Stats.Requests[measure.Other]
	}
	set.Add(outcome(reply.Err))
	return reply
}

// Refused counts a message that was refused before Post had it.
func (s *Session) Refused(err *wire.Error) {
	s.door.Stats.Messages[MessageUnread].Add(outcome(err))
}

// posted counts a message, ends its span, and hands its reply on.
func (s *Session) posted(d store.Draft, reply Reply) Reply {
	kind, what := MessageLogged, outcome(reply.Err)
	if d.Ephemeral {
		kind = MessageEphemeral
	}
	if sent, ok := reply.Result.(wire.Sent); ok && sent.Dup {
		what = outcomeRepeated
	}
	s.door.Stats.Messages[kind].Add(what)
	if d.Trace != nil {
		d.Trace.Number("godwit.bytes", int64(len(d.Data)))
		answered(d.Trace, kind, what)
	}
	return reply
}
