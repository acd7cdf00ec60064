package wire

import "github.com/go-json-experiment/json/jsontext"

// Hello is the first frame of a new session.
type Hello struct {
	Token    string   `json:"token"`
	Device   string   `json:"device,omitempty"`
	Presence *uint8   `json:"presence,omitempty"` // bit 7 is auto; absent is 3 with auto
	Caps     []string `json:"caps,omitempty"`
}

// Resume is the first frame that takes a session up again.
type Resume struct {
	Session   string              `json:"session"`
	Secret    string              `json:"secret"`
	Positions map[string]Position `json:"positions,omitempty"`
	Presence  *uint8              `json:"presence,omitempty"` // absent keeps the device's value
	Caps      []string            `json:"caps,omitempty"`
}

// Position is the last thing a client saw of a room.
type Position struct {
	Epoch string `json:"epoch"`
	Seq   uint64 `json:"seq"`
	TS    int64  `json:"ts,omitzero"` // of the event at Seq, in ms; 0 is unknown
}

// Refresh replaces the session's token.
type Refresh struct {
	Token string `json:"token"`
}

// Refreshed answers Refresh.
type Refreshed struct {
	ExpiresInMS int64 `json:"expires_in_ms"`
}

// Session is the result of hello, resume and handover.
type Session struct {
	Session  string         `json:"session"`
	Client   uint32         `json:"client"`
	User     string         `json:"user"`
	Handle   string         `json:"handle"` // 16 hex digits
	Gen      uint64         `json:"gen"`
	Secret   string         `json:"secret,omitempty"` // from hello alone
	Resumed  bool           `json:"resumed"`
	Node     string         `json:"node"`
	Origins  []string       `json:"origins"`
	Limits   Limits         `json:"limits"`
	Timers   Timers         `json:"timers"`
	Rooms    []SessionRoom  `json:"rooms"`
	Presence []UserPresence `json:"presence"`
	Self     uint8          `json:"self"`
}

// Limits are the sizes that the node enforces.
type Limits struct {
	FrameBytes   int `json:"frame_bytes"`
	MessageBytes int `json:"message_bytes"`
	Rooms        int `json:"rooms"`
}

// Timers are the times that a client plans with, in milliseconds.
type Timers struct {
	PingMS        int64 `json:"ping_ms"`
	CallBeatMS    int64 `json:"call_beat_ms"`
	CallTimeoutMS int64 `json:"call_timeout_ms"`
	GraceMS       int64 `json:"grace_ms"`
}

// SessionRoom is one room that a resumed session is in.
type SessionRoom struct {
	Room      string `json:"room"`
	Epoch     string `json:"epoch"`
	Seq       uint64 `json:"seq"`
	Recovered bool   `json:"recovered"`
	CSeq      uint64 `json:"cseq"`
	InCall    bool   `json:"in_call"`
}

// UserPresence is one user's value as others see it.
type UserPresence struct {
	User     string `json:"user"`
	Presence uint8  `json:"presence"`
	PV       uint64 `json:"pv"`
}

// Bye is the notification before a node closes a socket that should resume.
type Bye struct {
	Reason       string `json:"reason"`
	RetryAfterMS int64  `json:"retry_after_ms"`
}

// Empty is the result {}.
type Empty struct{}

// Raw is any JSON value, passed on byte for byte.
type Raw = jsontext.Value
