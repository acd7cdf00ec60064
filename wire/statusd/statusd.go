// Package statusd is the binary dialect of presence, spoken on /v1/statusd with
// the subprotocol statusd.v1.
//
// It decides how the dialect's commands look, both ways. What they do is
// decided where the JSON methods' is (server/session), and what stands for what
// in handlers/binary.
//
//	       client to server                         server to client
//	0x01   HELLO version.2 presence.1 reserved.1
//	0x10                                            PRES user.8 presence.1
//	0x11   SETPRES presence.1
//	0x7F                                            ERROR about.1 reason.1
//
// A client's presence has bit 7 set if an idle timer chose it; a server's never
// has. A PRES of user 0 is the client's own user.
package statusd

import (
	"encoding/binary"

	"godwit/wire/command"
)

// Protocol is the subprotocol.
const Protocol = "statusd.v1"

// Version is the one that HELLO names.
const Version = 1

// Opcodes.
const (
	OpHello   = 0x01
	OpPres    = 0x10
	OpSetPres = 0x11
)

const (
	sizeHello   = 4
	sizePres    = 9
	sizeSetPres = 1
)

// Auto is the bit of a client's presence that an idle timer chose.
const Auto = 0x80

// FromClient walks a client's frame.
func FromClient(frame []byte) command.Frame { return command.Open(frame, clients) }

// FromServer walks a server's frame.
func FromServer(frame []byte) command.Frame { return command.Open(frame, servers) }

func clients(op byte, _ []byte) (size int, known bool) {
	switch op {
	case OpHello:
		return sizeHello, true
	case OpSetPres:
		return sizeSetPres, true
	}
	return 0, false
}

func servers(op byte, _ []byte) (size int, known bool) {
	switch op {
	case OpPres:
		return sizePres, true
	case command.OpError:
		return command.SizeError, true
	}
	return 0, false
}

// Hello is a client's first command. What is reserved is not read, and sent as 0.
type Hello struct {
	Version  uint16
	Presence byte // bit 7: Auto
}

// ReadHello reads HELLO's body.
func ReadHello(body []byte) Hello {
	return Hello{Version: binary.LittleEndian.Uint16(body), Presence: body[2]}
}

// Append appends the command.
func (h Hello) Append(b []byte) []byte {
	return append(binary.LittleEndian.AppendUint16(append(b, OpHello), h.Version), h.Presence, 0)
}

// Pres is one user's presence as others see it. User is a handle; zero is the
// client's own user.
type Pres struct {
	User     [8]byte
	Presence byte
}

// ReadPres reads the body of PRES.
func ReadPres(body []byte) Pres { return Pres{User: [8]byte(body), Presence: body[8]} }

// Append appends the command. Bit 7 is cleared: it is no business of others.
func (p Pres) Append(b []byte) []byte {
	return append(append(append(b, OpPres), p.User[:]...), p.Presence&^Auto)
}

// SetPres sets the presence of the client's device.
type SetPres struct{ Presence byte } // bit 7: Auto

// ReadSetPres reads SETPRES's body.
func ReadSetPres(body []byte) SetPres { return SetPres{Presence: body[0]} }

// Append appends the command.
func (s SetPres) Append(b []byte) []byte { return append(b, OpSetPres, s.Presence) }
