package redirect

import "time"

// ClientState is where a client stands with its sockets.
type ClientState int

// The states of a client.
const (
	Connected ClientState = iota // one socket, and no offer
	Considers                    // an offer was taken, and not begun with
	Dialing                      // the offer's node is dialled; the old socket goes on
	Handshake                    // handover was said there
	Dual                         // it was answered; both sockets are read
	Switched                     // as Connected, at the other node
	Resuming                     // no socket that the session is on
)

// Taking is what to do with an offer.
type Taking int

// What to do with an offer.
const (
	Ignore Taking = iota // it is known, or there is nobody to follow it
	Take                 // keep it until Begin, instead of one kept before
	Busy                 // refuse it: another one is being followed
)

// Client is the sockets of one session in its client's hands: the one that it
// is on, and during a redirect the one that it comes from or goes to. Who owns
// it tells what happens, and acts by the state that follows. The zero value is
// Connected. Its owner guards it.
type Client struct {
	state   ClientState
	id      string // of the offer that is followed, or was last
	until   time.Time
	next    string // an offer to begin with; "" is none
	nextEnd time.Time
	gone    bool // in Handshake: the old socket has ended
	fenced  bool // in Handshake: the old socket has answered moved
	closing bool // the session is to end: nothing more is begun
}

// State tells where the client stands.
func (c *Client) State() ClientState { return c.state }

// Follows says whether it is not known yet what becomes of the offer that is
// followed.
func (c *Client) Follows() bool { return c.state == Dialing || c.state == Handshake }

// Away says whether the session is known to be elsewhere than on the socket that
// it was on, and on no other one yet: nothing is to be said there.
func (c *Client) Away() bool { return c.fenced || c.state == Resuming }

// Offer is an offer, by the socket that the session is on, good until a time.
// While the old socket is still read, the next offer waits for its end.
func (c *Client) Offer(id string, until time.Time) Taking {
	switch {
	case c.closing || c.state == Resuming:
		return Ignore
	case (c.Follows() || c.state == Dual) && c.id == id:
		return Ignore
	case c.Follows():
		return Busy
	}
	c.next, c.nextEnd = id, until
	if c.state != Dual {
		c.state = Considers
	}
	return Take
}

// Begin says whether to start with the offer that was taken.
func (c *Client) Begin(id string) bool {
	if c.state != Considers || c.next != id {
		return false
	}
	c.state, c.id, c.until = Dialing, c.next, c.nextEnd
	c.next = ""
	return true
}

// Ask says whether to say handover, now that the node is dialled.
func (c *Client) Ask(id string, now time.Time) bool {
	if c.state != Dialing || c.id != id || !now.Before(c.until) {
		return false
	}
	c.state = Handshake
	return true
}

// Answered says whether the answer to handover is taken: from then on the
// session is on the new socket.
func (c *Client) Answered(id string) bool {
	if c.state != Handshake || c.id != id {
		return false
	}
	c.state = Dual
	c.gone, c.fenced = false, false
	return true
}

// Unanswered says that handover was refused, or not answered in time, or that
// its socket has ended. It says whether the old socket goes on, so that the
// node may be dialled again.
func (c *Client) Unanswered(id string) bool {
	if c.state != Handshake || c.id != id {
		return c.state == Dialing && c.id == id
	}
	c.state = Dialing
	if c.gone || c.fenced {
		c.state = Resuming
	}
	return c.state == Dialing
}

// Failed says that the offer is given up. It says whether to tell the source,
// by the old socket: one that is over, or was withdrawn, it knows of.
func (c *Client) Failed(id string, now time.Time) (refuse bool) {
	if !c.Follows() || c.id != id {
		return false
	}
	if !c.Unanswered(id) {
		return false
	}
	c.state = Connected
	return now.Before(c.until) && !c.closing
}

// Withdrawn says that the source took an offer back. Once handover is answered
// there is nothing to take back. It says whether an offer ended by it.
func (c *Client) Withdrawn(id string) bool {
	switch {
	case c.next == id && id != "":
		c.forget()
	case c.Follows() && c.id == id:
		if c.Unanswered(id) {
			c.state = Connected
		}
	default:
		return false
	}
	return true
}

// forget drops the offer to begin with.
func (c *Client) forget() {
	c.next = ""
	if c.state == Considers {
		c.state = Connected
	}
}

// Fenced says that the socket that the session is on has answered moved: the
// session is elsewhere, by a handover whose answer is still to come, or lost.
func (c *Client) Fenced() {
	if c.state == Handshake {
		c.fenced = true
		return
	}
	c.resume()
}

// Lost says that the socket that the session is on has ended. An answer that is
// awaited may still come, unless the session itself is over.
func (c *Client) Lost(over bool) {
	if c.state == Handshake && !over {
		c.gone = true
		return
	}
	c.resume()
}

func (c *Client) resume() {
	c.state, c.next = Resuming, ""
	c.gone, c.fenced = false, false
}

// OldLost says that the socket before has ended.
func (c *Client) OldLost() {
	switch {
	case c.state != Dual:
	case c.next != "":
		c.state = Considers
	default:
		c.state = Switched
	}
}

// Resumed says that the session is on a socket of its own.
func (c *Client) Resumed() {
	c.resume()
	c.state = Connected
}

// Close says that the session is to end. What was not asked for is given up; an
// answer that is awaited tells where to say so.
func (c *Client) Close() {
	c.closing = true
	c.forget()
	if c.state == Dialing {
		c.state = Connected
	}
}
