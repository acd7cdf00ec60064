package client

import (
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"godwit/wire"
)

// notice handles one notification of a socket, in its reader. One that is not
// known, or cannot be read, is of a later version.
func (c *Client) notice(k *conn, method string, params jsontext.Value) {
	c.hold()
	switch method {
	case "room.event":
		e := new(wire.RoomEvent)
		if json.Unmarshal(params, e) == nil {
			c.roomEvent(e)
		}
	case "room.reset":
		r := new(wire.Reset)
		if json.Unmarshal(params, r) == nil {
			c.roomReset(r)
		}
	case "bye":
		var b wire.Bye
		if json.Unmarshal(params, &b) == nil {
			k.mu.Lock()
			k.after = time.Duration(max(0, b.RetryAfterMS)) * time.Millisecond
			k.mu.Unlock()
			c.opts.Logger.Info("node says bye", "reason", b.Reason, "retry_after_ms", b.RetryAfterMS)
		}
	}
}

// roomEvent takes one event. What was seen before is dropped: after a resume,
// and with two sockets, the same event comes twice.
func (c *Client) roomEvent(e *wire.RoomEvent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.rooms[e.Room]
	if r == nil || !r.member {
		return
	}
	if e.Seq == 0 { // ephemeral: no place in the order
		c.emitLocked(e, nil, wire.Position{})
		return
	}
	if e.Seq <= r.pos.Seq {
		return
	}
	r.pos.Seq, r.pos.TS = e.Seq, e.TS
	c.emitLocked(e, r, r.pos)
	if e.Kind == wire.KindLeave && (e.From.Client == c.session.Client || e.From.Client == 0) {
		c.removeLocked(r) // kicked, or the room was closed
	}
}

// roomReset takes a new epoch: membership goes on, the order and the count of
// sends begin where the server says.
func (c *Client) roomReset(e *wire.Reset) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.rooms[e.Room]
	if r == nil || !r.member {
		return
	}
	r.pos = wire.Position{Epoch: e.Epoch, Seq: e.Seq}
	c.emitLocked(e, r, r.pos)
	r.line.countFrom(e.CSeq+1, true)
	c.pumpRoomNowLocked(r)
}
