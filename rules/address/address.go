// Package address decides who gets an entry of a room's log.
//
// It knows nothing of sockets or of the log's place: the same function serves
// live fan-out, replay and history, so they cannot disagree.
package address

// Entry is what the decision needs to know of a log entry.
type Entry struct {
	Seq      uint64 // 0: ephemeral
	Message  bool   // a message; else a join, a leave or a call
	Leave    string // the reason, of a leave
	Client   uint32 // the sender, or the member concerned
	User     string // of Client
	ToUser   *string
	ToClient *uint32
}

// Reader is one member's device.
type Reader struct {
	User   string
	Client uint32
	// Since is the seq of its own join entry: nothing before it is its to
	// read, unless the room's past is open.
	Since uint64
	Open  bool
}

// Receives says whether an entry is delivered to the reader: it is addressed
// to it and not its own doing. Of its own entries a reader gets only the leave
// that somebody else caused.
func Receives(e Entry, r Reader) bool {
	if e.Seq != 0 && e.Seq <= r.Since && !r.Open {
		return false
	}
	if e.Client == r.Client && e.Client != 0 {
		return e.Leave == "kicked"
	}
	return !e.Message || addressed(e, r)
}

// Remembers says whether the reader finds an entry in the room's history: what
// it receives, and what its user sent.
func Remembers(e Entry, r Reader) bool {
	if e.Message && e.User == r.User && (e.Seq > r.Since || r.Open) {
		return true
	}
	return Receives(e, r)
}

func addressed(e Entry, r Reader) bool {
	if e.ToUser != nil && *e.ToUser != r.User {
		return false
	}
	return e.ToClient == nil || *e.ToClient == r.Client
}

// Unfit says why nobody can be meant by whom a message names; empty: somebody may be.
func Unfit(toUser *string, toClient *uint32) string {
	switch {
	case toUser == nil && toClient == nil:
		return "to names a user, a client or both; leave it out to address everyone"
	case toUser != nil && *toUser == "" || toClient != nil && *toClient == 0:
		return "to names nobody"
	}
	return ""
}
