package binary

import (
	"time"

	"godwit/handlers/socket"
	"godwit/server/auth"
	"godwit/wire"
	"godwit/wire/chatd"
	"godwit/wire/command"
)

// reasonOf is an error of a session's call as a command tells it.
func reasonOf(e *wire.Error) command.Reason {
	switch e.Reason() {
	case wire.TooLarge:
		return command.TooLarge
	case wire.NoRecipient:
		return command.NoRecipient
	case wire.RateLimited:
		return command.RateLimited
	case wire.Forbidden, wire.NotMember, wire.RoomFull, wire.TooManyRooms, wire.Moved, wire.NoSession:
		return command.Forbidden
	}
	if e.Code == wire.CodeInvalidParams {
		return command.Malformed
	}
	return command.Unavailable
}

// refuse tells why a command had no effect.
func refuse(line *socket.Conn, about byte, e *wire.Error) {
	line.Say(command.Error{About: about, Reason: reasonOf(e)}.Append(nil))
}

// hello takes the first command of a client's first frame, which is a HELLO, or
// closes the socket. What follows in the frame is still to be run.
func hello(line *socket.Conn, f *command.Frame, claims auth.Claims, version func(body []byte) uint16) bool {
	const op, only = chatd.OpHello, chatd.Version // statusd's are the same
	there := f.Next()
	switch {
	case !there && f.Bad().About != op, there && f.Op() != op:
		line.Bad()
		line.Close(wire.CloseProtocol, "the first command is HELLO")
	case !there, version(f.Body()) != only:
		line.Bad()
		line.Say(command.Error{About: op, Reason: command.Malformed}.Append(nil))
		line.Close(wire.CloseProtocol, "HELLO has version 1")
	case !time.Now().Before(claims.Expires):
		line.Close(wire.CloseTokenExpired, "the token has expired; come with a new one")
	default:
		return true
	}
	return false
}

// unopened tells why there is no session, and closes the socket.
func unopened(line *socket.Conn, e *wire.Error) {
	refuse(line, chatd.OpHello, e)
	code := wire.CloseRestart
	if reasonOf(e) == command.Forbidden {
		code = wire.CloseSignedOut
	}
	line.End(code, e.Message)
}

// paceEvery is after how many commands of one frame the reader looks whether
// their answers wait for the peer.
const paceEvery = 64

// walk runs the commands of a frame, up to a bad one. run may refuse one (Frame.Refuse).
func walk(line *socket.Conn, f *command.Frame, run func(*command.Frame)) {
	for n := 1; !line.Over() && f.Next(); n++ {
		run(f)
		if n%paceEvery == 0 {
			line.Pace()
		}
	}
	if bad := f.Bad(); bad.Reason != 0 {
		line.Bad()
		line.Say(bad.Append(nil))
	}
}
