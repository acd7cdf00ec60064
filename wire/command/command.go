// Package command is what the binary dialects share: a frame of commands, and
// the one command that both have, ERROR.
//
// It decides where a command ends and what is wrong with one that does not. It
// does not know what a command means: wire/chatd and wire/statusd do.
//
//	frame    one command or more, nothing between them
//	command  opcode.1 body; the opcode says how long the body is
//	ERROR    0x7F about.1 reason.1, from the server alone
//
// Integers are little-endian. After a command that is malformed or unknown the
// rest of its frame has no meaning; those before it have.
package command

// OpError tells a client what became of a command of its own.
const OpError = 0x7F

// SizeError is the length of ERROR's body.
const SizeError = 2

// Reason is why a command did nothing.
type Reason byte

// The reasons of ERROR. After the first two the rest of the frame is dropped.
const (
	Malformed   Reason = 1 // the frame ends before the command, or it says what it may not
	Unknown     Reason = 2 // no such opcode
	TooLarge    Reason = 3
	NoRecipient Reason = 4
	RateLimited Reason = 5
	Forbidden   Reason = 6
	Unavailable Reason = 7 // the store is away; whether it took effect is not known
)

// Error says what became of a command: About is its opcode, 0 where there is none.
type Error struct {
	About  byte
	Reason Reason
}

// Append appends the error as a command.
func (e Error) Append(b []byte) []byte { return append(b, OpError, e.About, byte(e.Reason)) }

// Layout says how long the body of a command is. rest is what follows the
// opcode, for those that say their length themselves: it may be cut short, and
// then any length past it will do. known is false for an opcode that there is not.
type Layout func(op byte, rest []byte) (size int, known bool)

// Frame walks the commands of one frame:
//
//	f := command.Open(frame, layout)
//	for f.Next() {
//		... f.Op(), f.Body()
//	}
//	if bad := f.Bad(); bad.Reason != 0 { ... }
type Frame struct {
	layout Layout
	rest   []byte
	op     byte
	body   []byte
	bad    Error
}

// Open begins at the first command. The frame's bytes are shared, not copied.
// One without a command is malformed.
func Open(frame []byte, layout Layout) Frame {
	f := Frame{layout: layout, rest: frame}
	if len(frame) == 0 {
		f.bad = Error{Reason: Malformed}
	}
	return f
}

// Next goes to the next command, and says whether there is one. A bad one ends
// the frame.
func (f *Frame) Next() bool {
	if f.bad.Reason != 0 || len(f.rest) == 0 {
		return false
	}
	op, rest := f.rest[0], f.rest[1:]
	size, known := f.layout(op, rest)
	switch {
	case !known:
		f.bad = Error{About: op, Reason: Unknown}
		return false
	case size > len(rest):
		f.bad = Error{About: op, Reason: Malformed}
		return false
	}
	f.op, f.body, f.rest = op, rest[:size:size], rest[size:]
	return true
}

// Op is the opcode of the command that Next went to.
func (f *Frame) Op() byte { return f.op }

// Body is what follows the opcode, of the length that the layout gave.
func (f *Frame) Body() []byte { return f.body }

// Bad is what ended the frame before its last byte; its Reason is 0 if nothing did.
func (f *Frame) Bad() Error { return f.bad }

// Refuse ends the frame: the command that Next went to may not say what it says.
func (f *Frame) Refuse() {
	f.bad = Error{About: f.op, Reason: Malformed}
}

// ReadError reads ERROR's body.
func ReadError(body []byte) Error { return Error{About: body[0], Reason: Reason(body[1])} }
