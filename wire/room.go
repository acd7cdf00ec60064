package wire

import (
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// Join asks to become a member of a room.
type Join struct {
	Room  string    `json:"room"`
	Since *Position `json:"since,omitempty"`
}

// Joined answers Join.
type Joined struct {
	Room      string   `json:"room"`
	Epoch     string   `json:"epoch"`
	Seq       uint64   `json:"seq"`
	Recovered bool     `json:"recovered"`
	CSeq      uint64   `json:"cseq"`
	Members   []Member `json:"members"`
	More      bool     `json:"more"`
	InCall    bool     `json:"in_call"`
}

// Member is one device in a room.
type Member struct {
	User   string `json:"user"`
	Client uint32 `json:"client"`
	Device string `json:"device"`
}

// Leave asks to leave a room.
type Leave struct {
	Room string `json:"room"`
}

// Send asks to append one message to a room's log.
type Send struct {
	Room      string  `json:"room"`
	Data      Raw     `json:"data"`
	To        *To     `json:"to,omitempty"`
	Type      *uint8  `json:"type,omitempty"`
	CSeq      *uint64 `json:"cseq,omitempty"`
	Ephemeral bool    `json:"ephemeral,omitzero"`
}

// read reads the params of a send that are as most are, and says whether they are.
// It is on the way of each message. Data is a part of the params.
func (s *Send) read(params jsontext.Value) bool {
	if params.Kind() != '{' {
		return false
	}
	var out Send
	usual := true
	members(params, func(name []byte, value jsontext.Value) {
		switch kind := value.Kind(); string(name) {
		case "room":
			usual = usual && kind == '"'
			if usual {
				out.Room = string(plain(value))
			}
		case "data":
			out.Data = value
		case "cseq":
			n, err := strconv.ParseUint(string(value), 10, 64)
			usual = usual && err == nil
			out.CSeq = &n
		case "ephemeral":
			usual = usual && (kind == 't' || kind == 'f')
			out.Ephemeral = kind == 't'
		case "to", "type":
			usual = false
		}
	})
	if usual {
		*s = out
	}
	return usual
}

// To addresses a user's devices, one device, or (both) one device of a user.
type To struct {
	User   *string `json:"user,omitempty"`
	Client *uint32 `json:"client,omitempty"`
}

// Sent answers Send. Seq is absent for an ephemeral message and for a repeat
// that is older than the answers that the store remembers.
type Sent struct {
	Seq uint64 `json:"seq,omitzero"`
	TS  int64  `json:"ts,omitzero"` // ms of the store's clock
	Dup bool   `json:"dup,omitzero"`
}

// AppendJSON appends the answer's result object. It is on the way of each message.
func (s Sent) AppendJSON(b []byte) []byte {
	begin := len(b)
	if s.Seq != 0 {
		b = strconv.AppendUint(append(b, `,"seq":`...), s.Seq, 10)
	}
	if s.TS != 0 {
		b = strconv.AppendInt(append(b, `,"ts":`...), s.TS, 10)
	}
	if s.Dup {
		b = append(b, `,"dup":true`...)
	}
	if len(b) == begin {
		return append(b, `{}`...)
	}
	b[begin] = '{' // in place of the first comma
	return append(b, '}')
}

// History asks for a part of the kept log.
type History struct {
	Room   string  `json:"room"`
	Before *uint64 `json:"before,omitempty"`
	After  *uint64 `json:"after,omitempty"`
	Limit  *int    `json:"limit,omitempty"`
}

// Past answers History: events in seq order.
type Past struct {
	Epoch  string       `json:"epoch"`
	Events []*RoomEvent `json:"events"`
	More   bool         `json:"more"`
}

// AppendJSON appends the answer's result object.
func (p *Past) AppendJSON(b []byte) []byte {
	b = append(b, `{"epoch":`...)
	b = appendString(b, p.Epoch)
	b = append(b, `,"events":[`...)
	for i, e := range p.Events {
		if i > 0 {
			b = append(b, ',')
		}
		b = e.AppendJSON(b)
	}
	b = append(b, `],"more":`...)
	b = strconv.AppendBool(b, p.More)
	return append(b, '}')
}

// Info asks how a room stands.
type Info struct {
	Room string `json:"room"`
}

// RoomInfo answers Info.
type RoomInfo struct {
	Room    string   `json:"room"`
	Epoch   string   `json:"epoch"`
	Seq     uint64   `json:"seq"`
	Members []Member `json:"members"`
	More    bool     `json:"more"`
	InCall  bool     `json:"in_call"`
	Call    []Caller `json:"call"`
}

// Beat says that the client is in a room's call, or has left it.
type Beat struct {
	Room   string `json:"room"`
	Status *uint8 `json:"status"` // 1: in the call, 0: left
}

// Caller is one device in a room's call.
type Caller struct {
	User   string `json:"user"`
	Client uint32 `json:"client"`
}

// Reset is the notification that a room has a new epoch: membership was
// rebuilt, nobody has left; count on from CSeq.
type Reset struct {
	Room    string   `json:"room"`
	Epoch   string   `json:"epoch"`
	Seq     uint64   `json:"seq"`
	CSeq    uint64   `json:"cseq"`
	Members []Member `json:"members"`
	More    bool     `json:"more"`
	InCall  bool     `json:"in_call"`
}
