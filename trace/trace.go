// Package trace follows some sends on their way through the fleet, as spans:
// what was done at which node, and from when to when.
//
// It decides which sends are followed, and how a node tells the others of it.
// The spans of one send:
//
//	room.send         the request, at the node that got it
//	  store.send        the script's call, its wait for a pipeline included
//	    room.deliver      at each node that has a member: from when the entry was
//	    room.deliver      heard until it was queued for all whom it is for
//
// What becomes of a span that has ended is not decided here: handlers/traces
// sends it to a collector. A send that is not followed has a nil *Span, and a
// node that follows none a nil *Tracer; every method may be called on both, and
// does nothing.
package trace

import (
	"math/rand/v2"
	"time"
)

// Tracer begins spans at one node.
type Tracer struct {
	share float64
	ended func(*Span)
}

// New makes a tracer that follows that share of the sends it is asked about, from
// 0 to 1, and all that another node follows. ended takes each span that is over;
// it must not wait.
func New(share float64, ended func(*Span)) *Tracer { return &Tracer{share, ended} }

// Begin begins the first span of a trace, or says nil: it is not to be followed.
func (t *Tracer) Begin(name string, role Role) *Span {
	if t == nil || rand.Float64() >= t.share {
		return nil
	}
	return t.span(ID{Trace: newTrace()}, name, role, time.Now())
}

// Continue begins a span below one of another node, as its Traceparent has it. A
// text that is none is not followed.
func (t *Tracer) Continue(traceparent, name string, role Role, began time.Time) *Span {
	if t == nil {
		return nil
	}
	parent, ok := Parse(traceparent)
	if !ok {
		return nil
	}
	return t.span(parent, name, role, began)
}

func (t *Tracer) span(parent ID, name string, role Role, began time.Time) *Span {
	return &Span{
		ID: ID{Trace: parent.Trace, Span: newSpan()}, Parent: parent.Span,
		Name: name, Role: role, Began: began, tracer: t,
	}
}

// Role is what a span is to the one above it.
type Role uint8

const (
	Server   Role = iota // it serves a client's request
	Producer             // it gives something to whoever takes it later
	Consumer             // it takes that
)

// Span is one part of a way. It belongs to whoever does what it tells of, and is
// handed on with that; nobody changes it after End.
type Span struct {
	ID     ID
	Parent [8]byte // 0: the first of its trace
	Name   string
	Role   Role
	Began  time.Time
	Ended  time.Time
	Attrs  []Attr
	Events []Event
	Failed bool // what it tells of was not done, and nobody outside is to blame

	tracer *Tracer
}

// Attr says one thing of a span: a string, an int64 or a bool.
type Attr struct {
	Key   string
	Value any
}

// Event is a moment of a span.
type Event struct {
	Name string
	At   time.Time
}

// Below begins a span of what is done for this one.
func (s *Span) Below(name string, role Role) *Span {
	if s == nil {
		return nil
	}
	return s.tracer.span(s.ID, name, role, time.Now())
}

// Traceparent is how other nodes are told of the span; empty if there is none.
func (s *Span) Traceparent() string {
	if s == nil {
		return ""
	}
	return s.ID.String()
}

// Text says something of the span.
func (s *Span) Text(key, value string) {
	if s != nil {
		s.Attrs = append(s.Attrs, Attr{key, value})
	}
}

// Number says a number of the span.
func (s *Span) Number(key string, value int64) {
	if s != nil {
		s.Attrs = append(s.Attrs, Attr{key, value})
	}
}

// Truth says whether something holds of the span.
func (s *Span) Truth(key string, value bool) {
	if s != nil {
		s.Attrs = append(s.Attrs, Attr{key, value})
	}
}

// Happened notes a moment, now.
func (s *Span) Happened(what string) {
	if s != nil {
		s.Events = append(s.Events, Event{what, time.Now()})
	}
}

// Fail says that what it tells of was not done, for a reason of the fleet's.
func (s *Span) Fail() {
	if s != nil {
		s.Failed = true
	}
}

// End ends the span, now.
func (s *Span) End() {
	if s != nil {
		s.Ended = time.Now()
		s.tracer.ended(s)
	}
}
