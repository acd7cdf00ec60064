package wire

import (
	"strconv"
	"sync"
)

// SetPresence asks for the device's presence to be a value, 0..127.
type SetPresence struct {
	Presence *uint8 `json:"presence"`
	Auto     bool   `json:"auto,omitzero"` // an idle timer sets it, not the user
}

// MostPresence is the greatest presence value.
const MostPresence = 127

// PresenceTold is how many users a session object names at most; the others
// follow as notifications.
const PresenceTold = 500

// Presence is the notification presence: how present a user is now, or, with
// Self and no User, the session's own user. It is shared by every socket that
// gets it, so it is read-only once handed on.
type Presence struct {
	User     string `json:"user,omitempty"`
	Self     bool   `json:"self,omitzero"`
	Presence uint8  `json:"presence"`
	PV       uint64 `json:"pv"` // grows with each change of the user; drop what is not newer

	once  sync.Once
	frame []byte
}

// Frame is the notification, built once however many sockets ask for it.
func (p *Presence) Frame() []byte {
	p.once.Do(func() {
		b := make([]byte, 0, 96+len(p.User))
		b = append(b, `{"jsonrpc":"2.0","method":"presence","params":{`...)
		if p.Self {
			b = append(b, `"self":true`...)
		} else {
			b = appendString(append(b, `"user":`...), p.User)
		}
		b = append(b, `,"presence":`...)
		b = strconv.AppendUint(b, uint64(p.Presence), 10)
		b = append(b, `,"pv":`...)
		b = strconv.AppendUint(b, p.PV, 10)
		p.frame = append(b, '}', '}')
	})
	return p.frame
}
