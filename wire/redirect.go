package wire

// Redirect offers the session a place at another node. It holds for
// ExpiresInMS; the old socket goes on meanwhile.
type Redirect struct {
	ID          string `json:"id"`
	URL         string `json:"url"` // websocket URL to dial
	Token       string `json:"token"`
	ExpiresInMS int64  `json:"expires_in_ms"`
	Reason      string `json:"reason"` // why, one of For...
	Final       bool   `json:"final"`  // the node goes away: decline it, and a bye follows
}

// Why a session is offered another node.
const (
	ForDrain   = "drain"   // the node goes away
	ForBalance = "balance" // another node has more room
	ForRequest = "request" // the client asked
	ForAdmin   = "admin"   // an operator asked
)

// Why a client refuses an offer that it has followed in vain, besides the reason
// of the handover's error. It may say anything else.
const (
	RefusedDial   = "dial"   // the node could not be dialled
	RefusedClosed = "closed" // the node took the handover and gave no answer
)

// RedirectCancel withdraws an offer: its token is of no use any more.
type RedirectCancel struct {
	ID string `json:"id"`
}

// RedirectRefuse declines an offer.
type RedirectRefuse struct {
	ID     string `json:"id"`
	Reason string `json:"reason,omitempty"`
}

// RedirectRequest asks for an offer.
type RedirectRequest struct {
	Node string `json:"node,omitempty"` // empty: any but this one
}

// Handover is the first frame of a socket that takes an offer up.
type Handover struct {
	ID        string              `json:"id"`
	Token     string              `json:"token"`
	Positions map[string]Position `json:"positions,omitempty"`
	Caps      []string            `json:"caps,omitempty"`
}

// HandoverDone says that the client has sent again what was unanswered, and
// needs the old socket no more.
type HandoverDone struct {
	ID string `json:"id"`
}

// MovedAway is the last notification of a socket whose session goes on at another
// node; close 4100 follows.
type MovedAway struct {
	ID string `json:"id"`
}
