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
	if !c.hold(k) {
		return
	}
	switch method {
	case "room.event":
		e := new(wire.RoomEvent)
		if json.Unmarshal(params, e) == nil {
			c.roomEvent(k, e)
		}
	case "room.reset":
		r := new(wire.Reset)
		if json.Unmarshal(params, r) == nil {
			c.roomReset(k, r)
		}
	case "presence":
		var p wire.Presence
		if json.Unmarshal(params, &p) == nil {
			c.presence(k, &p)
		}
	case "redirect":
		var o wire.Redirect
		if json.Unmarshal(params, &o) == nil {
			c.offered(k, &o)
		}
	case "redirect.cancel":
		var o wire.RedirectCancel
		if json.Unmarshal(params, &o) == nil {
			c.withdrawn(o.ID)
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
// and with two sockets, the same event comes twice. That seq > position is the
// whole test, though seqs have gaps (not every entry is for this session) and
// one socket may be ahead of the other, is because of this:
//
// Each socket delivers, in order and with none left out, the entries for us
// above some start, and everything for us up to that start had been taken when
// the socket was asked for. Let s come on a socket, above the position. An
// entry for us below s is either at or below the socket's start, or this socket
// has delivered it earlier, and then it was taken, or dropped for being at or
// below the position of that moment. The position only grows, and only by
// taking; so everything for us below s has been taken, here or earlier on the
// other socket, and nothing is passed over.
//
// That holds within one epoch: conn.epochs silences a socket whose epoch is not
// the room's.
func (c *Client) roomEvent(k *conn, e *wire.RoomEvent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.rooms[e.Room]
	if r == nil || !r.member {
		return
	}
	if e.Seq == 0 { // ephemeral: no place in the order, so from one socket only
		if k == c.conn && !c.whispers.again(k, e) {
			c.emitLocked(e, nil, wire.Position{})
		}
		return
	}
	if epoch, ok := k.epochs[e.Room]; ok && epoch != r.pos.Epoch || e.Seq <= r.pos.Seq {
		return
	}
	r.pos.Seq, r.pos.TS = e.Seq, e.TS
	c.emitLocked(e, r, r.pos)
	c.movedLocked(r, e)
	if e.Kind == wire.KindLeave && e.Seq > r.entered && (e.From.Client == c.session.Client || e.From.Client == 0) {
		c.removeLocked(r) // kicked, or the room was closed
		c.moving.noteLeft(e.Room, r.pos)
	}
}

// roomReset takes a new epoch: membership goes on, the order and the count of
// sends begin where the server says. A socket that another one has replaced is
// not heard: it may tell an epoch late, or from another place.
func (c *Client) roomReset(k *conn, e *wire.Reset) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k.epochs != nil {
		k.epochs[e.Room] = e.Epoch
		if k != c.conn {
			k.epochs[e.Room] = noEpoch
			return
		}
	}
	r := c.rooms[e.Room]
	if r == nil || !r.member {
		return
	}
	r.entered = 0
	r.line.countFrom(e.CSeq+1, true)
	c.pumpRoomNowLocked(r)
	if e.Epoch == r.pos.Epoch && e.Seq <= r.pos.Seq {
		return // the socket before had told it, and what followed
	}
	r.pos = wire.Position{Epoch: e.Epoch, Seq: e.Seq}
	r.people(e.Members)
	c.emitLocked(e, r, r.pos)
}

// noEpoch is no room's epoch.
const noEpoch = ""
