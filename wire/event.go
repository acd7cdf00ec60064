package wire

import (
	"strconv"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// Kind is what an entry of a room's log tells.
type Kind string

// The kinds of room events.
const (
	KindMessage Kind = "message"
	KindJoin    Kind = "join"
	KindLeave   Kind = "leave"
	KindCall    Kind = "call"
)

// Why a member left.
const (
	LeftByChoice = "left"
	LeftLost     = "lost"
	LeftKicked   = "kicked"
	LeftClosed   = "closed"
)

// RoomEvent is the notification room.event: one entry of a room's log, or an
// ephemeral message, which has no Seq. It is shared by every socket that gets
// it, so it is read-only once handed on.
type RoomEvent struct {
	Room      string `json:"room"`
	Seq       uint64 `json:"seq,omitzero"`
	Kind      Kind   `json:"kind"`
	From      Member `json:"from"`
	To        *To    `json:"to,omitempty"`
	Type      *uint8 `json:"type,omitempty"`
	Data      Raw    `json:"data,omitempty"`
	Reason    string `json:"reason,omitempty"`
	InCall    *bool  `json:"in_call,omitempty"`
	Ephemeral bool   `json:"ephemeral,omitzero"`
	TS        int64  `json:"ts"`

	// Handle is that of From's user, 16 hex digits, where it is not the first
	// that the name gives. No client of this endpoint is told.
	Handle string `json:"-"`

	once, otherOnce sync.Once
	frame, other    []byte
}

// Frame is the event as a JSON-RPC notification, built once however many
// sockets ask for it.
func (e *RoomEvent) Frame() []byte {
	e.once.Do(func() {
		b := make([]byte, 0, 192+len(e.Room)+len(e.Data))
		b = append(b, `{"jsonrpc":"2.0","method":"room.event","params":`...)
		b = e.AppendJSON(b)
		e.frame = append(b, '}')
	})
	return e.frame
}

// FrameAs is the event in the one other form that it is told in, built by the
// first socket that asks.
func (e *RoomEvent) FrameAs(build func(*RoomEvent) []byte) []byte {
	e.otherOnce.Do(func() { e.other = build(e) })
	return e.other
}

// AppendJSON appends the event's params object.
func (e *RoomEvent) AppendJSON(b []byte) []byte {
	b = append(b, `{"room":`...)
	b = appendString(b, e.Room)
	if e.Seq != 0 {
		b = append(b, `,"seq":`...)
		b = strconv.AppendUint(b, e.Seq, 10)
	}
	b = append(b, `,"kind":"`...)
	b = append(b, e.Kind...)
	b = append(b, `","from":{"user":`...)
	b = appendString(b, e.From.User)
	b = append(b, `,"client":`...)
	b = strconv.AppendUint(b, uint64(e.From.Client), 10)
	if e.From.Device != "" {
		b = append(b, `,"device":`...)
		b = appendString(b, e.From.Device)
	}
	b = append(b, '}')
	if e.To != nil {
		b = appendTo(append(b, `,"to":`...), e.To)
	}
	if e.Type != nil {
		b = append(b, `,"type":`...)
		b = strconv.AppendUint(b, uint64(*e.Type), 10)
	}
	if len(e.Data) > 0 {
		b = append(b, `,"data":`...)
		b = append(b, e.Data...)
	}
	if e.Reason != "" {
		b = append(b, `,"reason":`...)
		b = appendString(b, e.Reason)
	}
	if e.InCall != nil {
		b = append(b, `,"in_call":`...)
		b = strconv.AppendBool(b, *e.InCall)
	}
	if e.Ephemeral {
		b = append(b, `,"ephemeral":true`...)
	}
	b = append(b, `,"ts":`...)
	b = strconv.AppendInt(b, e.TS, 10)
	return append(b, '}')
}

func appendTo(b []byte, to *To) []byte {
	b = append(b, '{')
	if to.User != nil {
		b = append(b, `"user":`...)
		b = appendString(b, *to.User)
	}
	if to.Client != nil {
		if to.User != nil {
			b = append(b, ',')
		}
		b = append(b, `"client":`...)
		b = strconv.AppendUint(b, uint64(*to.Client), 10)
	}
	return append(b, '}')
}

// appendString appends s as a JSON string. Names are checked to be UTF-8 where
// they enter, so quoting cannot fail; a stray byte becomes U+FFFD.
func appendString(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s)
	return b
}
