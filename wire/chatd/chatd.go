// Package chatd is the binary dialect of one room, spoken on /v1/chatd/{room}
// with the subprotocol chatd.v1.
//
// It decides how the dialect's commands look, both ways. What they do is
// decided where the JSON methods' is (server/session), and what stands for what
// in handlers/binary.
//
//	       client to server                                     server to client
//	0x01   HELLO version.2 reserved.2                           HELLO client_id.4
//	0x02   RTMSG receiver.12 msgtype.1 msglen.3 msg             RTMSG sender.12 msgtype.1 msglen.3 msg
//	0x03   IN_CALL status.1                                     IN_CALL status.1
//	0x7F                                                        ERROR about.1 reason.1
//
// A receiver or sender is user.8 client.4: a user's handle and a device's id.
package chatd

import (
	"encoding/binary"

	"godwit/wire/command"
)

// Protocol is the subprotocol.
const Protocol = "chatd.v1"

// Version is the one that HELLO names.
const Version = 1

// Opcodes.
const (
	OpHello  = 0x01
	OpRTMsg  = 0x02
	OpInCall = 0x03
)

const (
	sizeHello  = 4
	sizeInCall = 1
	headRTMsg  = 8 + 4 + 1 + 3 // the message's bytes follow
)

// MaxMsg is the longest message that msglen can tell, in bytes.
const MaxMsg = 1<<24 - 1

// FromClient walks a client's frame.
func FromClient(frame []byte) command.Frame { return command.Open(frame, clients) }

// FromServer walks a server's frame.
func FromServer(frame []byte) command.Frame { return command.Open(frame, servers) }

func clients(op byte, rest []byte) (size int, known bool) {
	switch op {
	case OpHello:
		return sizeHello, true
	case OpInCall:
		return sizeInCall, true
	case OpRTMsg:
		if len(rest) < headRTMsg {
			return headRTMsg, true
		}
		return headRTMsg + uint24(rest[headRTMsg-3:]), true
	}
	return 0, false
}

func servers(op byte, rest []byte) (size int, known bool) {
	if op == command.OpError {
		return command.SizeError, true
	}
	return clients(op, rest)
}

func uint24(b []byte) int { return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 }

// Hello is a client's first command. What is reserved is not read, and sent as 0.
type Hello struct{ Version uint16 }

// ReadHello reads the body of a client's HELLO.
func ReadHello(body []byte) Hello { return Hello{Version: binary.LittleEndian.Uint16(body)} }

// Append appends the command.
func (h Hello) Append(b []byte) []byte {
	return append(binary.LittleEndian.AppendUint16(append(b, OpHello), h.Version), 0, 0)
}

// Welcome is the server's HELLO: who the client is from here on.
type Welcome struct{ Client uint32 }

// ReadWelcome reads the body of a server's HELLO.
func ReadWelcome(body []byte) Welcome {
	return Welcome{Client: binary.LittleEndian.Uint32(body)}
}

// Append appends the command.
func (w Welcome) Append(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(append(b, OpHello), w.Client)
}

// RTMsg is one message. User and Client name its receiver on the way to the
// server (all zero: everyone; Client zero: all devices of that user) and its
// sender on the way to a client (all zero: the system).
type RTMsg struct {
	User   [8]byte
	Client uint32
	Type   byte
	Msg    []byte // at most MaxMsg
}

// ReadRTMsg reads the body of RTMSG. Msg shares its memory.
func ReadRTMsg(body []byte) RTMsg {
	return RTMsg{
		User: [8]byte(body), Client: binary.LittleEndian.Uint32(body[8:]),
		Type: body[12], Msg: body[headRTMsg:],
	}
}

// Append appends the command. A Msg that is too long is no message: the caller
// has seen to that.
func (m RTMsg) Append(b []byte) []byte {
	n := len(m.Msg)
	b = append(append(b, OpRTMsg), m.User[:]...)
	b = binary.LittleEndian.AppendUint32(b, m.Client)
	b = append(b, m.Type, byte(n), byte(n>>8), byte(n>>16))
	return append(b, m.Msg...)
}

// InCall is a beat on the way to the server, 1 for "in the call" and 0 for
// "left"; on the way to a client it is whether the room is in a call.
type InCall struct{ Status byte }

// ReadInCall reads the body of IN_CALL.
func ReadInCall(body []byte) InCall { return InCall{Status: body[0]} }

// Append appends the command.
func (c InCall) Append(b []byte) []byte { return append(b, OpInCall, c.Status) }
