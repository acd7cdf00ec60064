package wire

import "strconv"

// CloseCode is a websocket close code. Its range says what the client does, so
// that an old client handles a new code: 1000, 43xx and 4403 end the session,
// every other code leaves it detached or on another socket.
type CloseCode uint16

// The close codes of the protocol.
const (
	CloseBye          CloseCode = 1000 // the client said bye; the session is over
	CloseGoingAway    CloseCode = 1001 // resume
	CloseBinary       CloseCode = 1003 // a binary frame on a text endpoint
	CloseBadUTF8      CloseCode = 1007 // a text frame that is not UTF-8
	CloseTooBig       CloseCode = 1009 // a frame over the limit
	CloseRestart      CloseCode = 1012 // the node goes away, or its store is away: resume
	CloseMoved        CloseCode = 4100 // the session lives on another socket
	CloseReplaced     CloseCode = 4101 // a newer socket resumed the session
	CloseTooSlow      CloseCode = 4200 // the socket did not drain: resume with back-off
	CloseSilent       CloseCode = 4201 // two pings unanswered: resume with back-off
	CloseTokenExpired CloseCode = 4300 // hello again, with a new token
	CloseSessionGone  CloseCode = 4301 // hello again
	CloseProtocol     CloseCode = 4400 // the first frame was no login
	CloseUnauthorized CloseCode = 4401 // the token was refused
	CloseSignedOut    CloseCode = 4403 // ended by an operator
	CloseNoHello      CloseCode = 4408 // no login within the hello timeout
)

// Ended says whether the code ends the session, so that a resume is pointless.
func (c CloseCode) Ended() bool {
	return c == CloseBye || c == CloseSignedOut || c >= 4300 && c < 4400
}

// Final says whether the client must stop instead of dialling again.
func (c CloseCode) Final() bool {
	return c == CloseBye || c >= 4400 && c < 4500 || c == CloseBinary || c == CloseBadUTF8 || c == CloseTooBig
}

// String is the code's number, for logs.
func (c CloseCode) String() string { return strconv.Itoa(int(c)) }

// Reason is the machine-readable word in an application error's data.
type Reason string

// The reasons of application errors (-32000).
const (
	Unauthorized Reason = "unauthorized"
	TokenExpired Reason = "token_expired"
	NoSession    Reason = "no_session"
	Forbidden    Reason = "forbidden"
	NotMember    Reason = "not_member"
	RoomFull     Reason = "room_full"
	TooManyRooms Reason = "too_many_rooms"
	NoRecipient  Reason = "no_recipient"
	TooLarge     Reason = "too_large"
	RateLimited  Reason = "rate_limited"
	Moved        Reason = "moved"
	Gap          Reason = "gap"
	Unavailable  Reason = "unavailable"
	NoTarget     Reason = "no_target"
)

// The reasons that a handover is refused with.
const (
	BadToken      Reason = "bad_token"
	WrongAudience Reason = "wrong_audience"
	Expired       Reason = "expired"
	Used          Reason = "used"
	Cancelled     Reason = "cancelled"
	GenMismatch   Reason = "gen_mismatch"
	SameNode      Reason = "same_node"
	Capacity      Reason = "capacity"
)

// JSON-RPC error codes.
const (
	CodeParse          = -32700
	CodeInvalidRequest = -32600
	CodeNoMethod       = -32601
	CodeInvalidParams  = -32602
	CodeInternal       = -32603
	CodeApplication    = -32000
)
