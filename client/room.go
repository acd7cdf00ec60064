package client

import (
	"context"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"godwit/wire"
)

// room is one room that the session is in, or wants back into after Lost.
// Guarded by Client.mu.
type room struct {
	name    string
	member  bool          // false: to be joined again, or gone
	gone    bool          // no longer in Client.rooms
	leaving int           // calls of Leave under way
	pos     wire.Position // the last event received, or where the stream began
	read    wire.Position // the same, as far as the application has read
	line    line          // what is to be sent
	call    *Call         // the place in the room's call; nil: none
	entered uint64        // head when it was joined: what is replayed up to here is of before; 0: not known

	// Who is in it, of those that we were told of.
	clients map[uint32]string // user
	users   map[string]int    // devices
	joins   map[string]uint64 // seq of a user's last join, where it came as an event
}

func newRoom(name string) *room {
	return &room{name: name, line: line{window: maxWindow}}
}

// Join makes the session a member of a room. With a position of an earlier
// membership the server replays what followed it, where it can and the room's
// history is open; Joined.Recovered tells. In a room that the session is
// already in, the client's own position is used. Events follow in the stream,
// after a Joined event. Join is repeated until it is answered; when ctx ends
// first the session may become a member all the same: a Joined event tells.
func (c *Client) Join(ctx context.Context, name string, since ...wire.Position) (wire.Joined, error) {
	var from *wire.Position
	if len(since) > 0 {
		from = &since[0]
	}
	var out wire.Joined
	if err := c.do(ctx, c.joining(name, from, &out)); err != nil {
		return wire.Joined{}, fmt.Errorf("join %q: %w", name, err)
	}
	return out, nil
}

// joining is the request of a join, the application's or the client's own.
func (c *Client) joining(name string, since *wire.Position, out *wire.Joined) *request {
	var asked *wire.Position // by the last try
	return &request{
		joins: true,
		frame: func() ([]byte, error) {
			asked = since
			if r := c.rooms[name]; r != nil && r.pos.Epoch != "" {
				p := r.pos // newer than any that the application knows
				asked = &p
			}
			return appendCall(nil, "room.join", wire.Join{Room: name, Since: asked})
		},
		apply: func(res jsontext.Value) error {
			var j wire.Joined
			if err := json.Unmarshal(res, &j); err != nil {
				return fmt.Errorf("read the answer to room.join: %w", err)
			}
			c.joinedLocked(name, &j, asked)
			*out = j
			return nil
		},
	}
}

// joinedLocked takes the answer to a join that asked for what follows asked.
func (c *Client) joinedLocked(name string, j *wire.Joined, asked *wire.Position) {
	head := wire.Position{Epoch: j.Epoch, Seq: j.Seq}
	r := c.rooms[name]
	if r != nil && r.member { // a repeat, or a resume told us first
		if !j.Recovered && (head.Epoch != r.pos.Epoch || head.Seq > r.pos.Seq) {
			r.pos = head
			clear(r.joins)
			c.emitLocked(Gap{name, head.Epoch, head.Seq, j.InCall}, r, head)
			c.followLocked(name)
		}
		return
	}
	if j.Recovered && asked != nil {
		head = *asked // the replay begins there
	}
	c.enterLocked(name, head, j.Recovered, j.CSeq, j.InCall)
	c.rooms[name].people(j.Members)
	c.rooms[name].entered = j.Seq
}

// enterLocked begins a membership: a stream of events and a count of sends.
func (c *Client) enterLocked(name string, from wire.Position, recovered bool, cseq uint64, inCall bool) {
	r := c.rooms[name]
	if r == nil {
		r = newRoom(name)
		c.rooms[name] = r
	}
	r.member, r.entered = true, 0
	r.people(nil)
	r.pos, r.read = from, from
	c.followLocked(name)
	r.line.restart(cseq + 1)
	r.beatNowLocked()
	c.emitLocked(Joined{name, from.Epoch, from.Seq, recovered, inCall}, r, from)
	c.pumpRoomNowLocked(r)
	c.wakeRun() // a beat may be due
}

// followLocked notes that the current socket's order is the room's.
func (c *Client) followLocked(name string) {
	if c.conn != nil {
		delete(c.conn.epochs, name)
	}
}

// Leave leaves a room. It first waits until the sends before it are answered;
// new ones are refused with not_member meanwhile. It is repeated until it is
// answered; when ctx ends first, the session may have left or not.
func (c *Client) Leave(ctx context.Context, name string) error {
	c.mu.Lock()
	r := c.rooms[name]
	var drained <-chan struct{}
	if r != nil {
		r.leaving++
		drained = r.line.drain()
	}
	c.mu.Unlock()
	if r != nil {
		defer func() {
			c.mu.Lock()
			r.leaving--
			c.mu.Unlock()
		}()
		select {
		case <-drained:
		case <-ctx.Done():
			return fmt.Errorf("leave %q: waiting for unanswered sends: %w", name, context.Cause(ctx))
		}
	}
	req := ask("room.leave", wire.Leave{Room: name}, new(wire.Empty))
	out := func() { // of a join too that was under way, and is answered by now
		if in := c.rooms[name]; in != nil && (r == nil || in == r) {
			c.removeLocked(in)
		}
	}
	req.apply = func(jsontext.Value) error { out(); return nil }
	req.refuse = func(e *wire.Error) error {
		if e.Reason() != wire.NotMember {
			return e
		}
		out()
		if req.tries > 1 { // the answer to an earlier try was lost
			return nil
		}
		return e
	}
	if err := c.do(ctx, req); err != nil {
		return fmt.Errorf("leave %q: %w", name, err)
	}
	return nil
}

// History is a part of the room's kept log, as far as this session may read it.
// part.Room is not looked at.
func (c *Client) History(ctx context.Context, name string, part ...wire.History) (*wire.Past, error) {
	var h wire.History
	if len(part) > 0 {
		h = part[0]
	}
	h.Room = name
	out := new(wire.Past)
	if err := c.do(ctx, ask("room.history", h, out)); err != nil {
		return nil, fmt.Errorf("history of %q: %w", name, err)
	}
	return out, nil
}

// Info is how the room stands.
func (c *Client) Info(ctx context.Context, name string) (wire.RoomInfo, error) {
	var out wire.RoomInfo
	if err := c.do(ctx, ask("room.info", wire.Info{Room: name}, &out)); err != nil {
		return wire.RoomInfo{}, fmt.Errorf("info of %q: %w", name, err)
	}
	return out, nil
}

// removeLocked ends a membership. Sends that are in flight get their answer
// still; the rest is refused.
func (c *Client) removeLocked(r *room) {
	delete(c.rooms, r.name)
	r.member, r.gone = false, true
	c.unsharedLocked(r)
	r.line.failWaiting(notMember(r.name))
	r.hangUpLocked(notMember(r.name))
}

func notMember(name string) error {
	return wire.Errorf(wire.NotMember, "not a member of room %q", name)
}

// resumedLocked compares what the server says of the session's rooms with what
// the client knows, and says in the stream what differs. With m, the socket
// before went on delivering while the answer was under way.
func (c *Client) resumedLocked(rooms []wire.SessionRoom, m *move) {
	in := make(map[string]bool, len(rooms))
	for _, s := range rooms {
		in[s.Room] = true
		head := wire.Position{Epoch: s.Epoch, Seq: s.Seq}
		r := c.rooms[s.Room]
		if r == nil && m.hasLeft(&s) {
			continue
		}
		if r == nil || !r.member { // the answer to a join was lost
			c.enterLocked(s.Room, head, false, s.CSeq, s.InCall)
			continue
		}
		if !s.Recovered && !m.hasPassed(r.pos, &s) {
			r.pos = head
			clear(r.joins)
			c.emitLocked(Gap{s.Room, s.Epoch, s.Seq, s.InCall}, r, head)
			m.silence(s.Room)
		}
		r.beatNowLocked()
		r.line.countFrom(s.CSeq+1, false)
	}
	var lost []string
	for name, r := range c.rooms {
		if !r.member || in[name] {
			continue
		}
		c.removeLocked(r)
		if r.leaving == 0 { // otherwise the answer to a leave was lost
			lost = append(lost, name)
		}
	}
	if len(lost) > 0 {
		slices.Sort(lost)
		c.emitLocked(Lost{lost, wire.Errorf(wire.NotMember, "no longer a member")}, nil, wire.Position{})
	}
}

// startOverLocked begins a new session: what the old one had is lost, and its
// rooms are joined again.
func (c *Client) startOverLocked() {
	var lost []string
	for name, r := range c.rooms {
		r.line.startOver()
		switch {
		case r.leaving > 0:
			c.removeLocked(r)
		case r.member: // otherwise its join is already under way
			r.member = false
			lost = append(lost, name)
		}
	}
	if len(lost) == 0 {
		return
	}
	slices.Sort(lost)
	c.emitLocked(Lost{lost, ErrSessionGone}, nil, wire.Position{})
	for _, name := range lost {
		c.rejoinLocked(c.rooms[name])
	}
}

func (c *Client) rejoinLocked(r *room) {
	req := c.joining(r.name, nil, new(wire.Joined))
	req.refuse = func(e *wire.Error) error {
		if c.rooms[r.name] == r && !r.member {
			c.removeLocked(r)
			c.emitLocked(Lost{[]string{r.name}, e}, nil, wire.Position{})
		}
		return e
	}
	c.addLocked(req)
}
