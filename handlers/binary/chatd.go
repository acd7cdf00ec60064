package binary

import (
	"strconv"
	"sync/atomic"

	"github.com/go-json-experiment/json/jsontext"

	"godwit/handlers/socket"
	"godwit/rules/handle"
	"godwit/server/auth"
	"godwit/server/hub"
	"godwit/server/session"
	"godwit/store"
	"godwit/wire"
	"godwit/wire/chatd"
	"godwit/wire/command"
)

// knownUsers is how many handles a connection remembers the users of: a call
// is among few.
const knownUsers = 128

// chat is chatd on one connection: one session, in one room.
type chat struct {
	line   *socket.Conn
	node   Node
	cfg    Config
	claims auth.Claims
	room   string

	client uint32      // set before the session is in the room
	inCall atomic.Bool // what the client was told

	users map[handle.Handle]string // owned by the reader: of receivers
}

// First serves the first frame: HELLO, and what follows it.
func (c *chat) First(b []byte) {
	f := chatd.FromClient(b)
	if hello(c.line, &f, c.claims, func(body []byte) uint16 { return chatd.ReadHello(body).Version }) && c.enter() {
		walk(c.line, &f, c.run)
	}
}

// enter opens the session and takes it into the room.
func (c *chat) enter() bool {
	if !c.claims.MayJoin(c.room) {
		unopened(c.line, wire.Errorf(wire.Forbidden, "the token does not allow this room"))
		return false
	}
	ctx := c.line.Context()
	s, entered := c.node.Enter(ctx, c.line, session.Entry{Claims: c.claims, Dialect: store.DialectChatd})
	if entered.Err != nil {
		unopened(c.line, entered.Err)
		return false
	}
	c.client = s.Client()
	c.line.Serve(s)
	reply := s.Join(ctx, &wire.Join{Room: c.room})
	if reply.Err != nil {
		unopened(c.line, reply.Err)
		reply.Follow()
		return false
	}
	calling := reply.Result.(wire.Joined).InCall
	c.inCall.Store(calling)
	c.line.Say(chatd.Welcome{Client: c.client}.Append(nil))
	c.line.Say(inCall(calling))
	entered.Follow()
	reply.Follow()
	return true
}

// Frame serves a frame after HELLO.
func (c *chat) Frame(b []byte) {
	f := chatd.FromClient(b)
	walk(c.line, &f, c.run)
}

// run runs one command.
func (c *chat) run(f *command.Frame) {
	switch f.Op() {
	case chatd.OpRTMsg:
		c.send(chatd.ReadRTMsg(f.Body()))
	case chatd.OpInCall:
		if beat := chatd.ReadInCall(f.Body()); beat.Status <= 1 {
			c.beat(beat.Status)
			return
		}
		f.Refuse()
	default: // a second HELLO
		f.Refuse()
	}
}

// send is room.send.
func (c *chat) send(m chatd.RTMsg) {
	s := c.line.Session()
	bad := s.Count()
	var to *wire.To
	if bad == nil {
		to, bad = c.receiver(m)
	}
	if bad != nil {
		s.Refused(bad)
		refuse(c.line, chatd.OpRTMsg, bad)
		return
	}
	p := &wire.Send{Room: c.room, Data: dataOf(m.Msg), To: to, Type: &m.Type}
	s.Post(c.line.Context(), p, func(reply session.Reply) {
		if reply.Err != nil {
			refuse(c.line, chatd.OpRTMsg, reply.Err)
		}
		reply.Follow()
	})
}

// receiver checks a message, and says to whom it goes: nil is everyone.
func (c *chat) receiver(m chatd.RTMsg) (*wire.To, *wire.Error) {
	if len(m.Msg) > c.cfg.MessageBytes {
		return nil, wire.Errorf(wire.TooLarge, "a message has at most %d bytes", c.cfg.MessageBytes)
	}
	if m.User == (handle.Handle{}) && m.Client == 0 {
		return nil, nil
	}
	to := &wire.To{}
	if m.Client != 0 {
		to.Client = &m.Client
	}
	if m.User != (handle.Handle{}) {
		user, err := c.userOf(m.User)
		switch {
		case err != nil:
			return nil, wire.ErrUnavailable()
		case user == "":
			return nil, wire.Errorf(wire.NoRecipient, "nobody has this handle")
		}
		to.User = &user
	}
	return to, nil
}

// userOf is the user that a handle belongs to, or "".
func (c *chat) userOf(h handle.Handle) (string, error) {
	if user, ok := c.users[h]; ok {
		return user, nil
	}
	user, err := c.node.UserOf(c.line.Context(), h)
	if err != nil || user == "" {
		return "", err
	}
	if c.users == nil || len(c.users) == knownUsers {
		c.users = make(map[handle.Handle]string)
	}
	c.users[h] = user
	return user, nil
}

// beat is call.beat.
func (c *chat) beat(status byte) {
	params, _ := jsontext.AppendQuote([]byte(`{"room":`), c.room) // the room is UTF-8
	params = strconv.AppendUint(append(params, `,"status":`...), uint64(status), 10)
	c.line.Session().Call(c.line.Context(), "call.beat", append(params, '}'), func(reply session.Reply) {
		if reply.Err != nil {
			refuse(c.line, chatd.OpInCall, reply.Err)
		}
		reply.Follow()
	})
}

// Event is what the room tells. Joins and leaves have no command, except the
// leave by which the client itself was put out: then it is over.
func (c *chat) Event(ev *wire.RoomEvent) []byte {
	switch {
	case ev.Kind == wire.KindMessage:
		return ev.FrameAs(rtmsg)
	case ev.Kind == wire.KindCall && ev.InCall != nil:
		return c.calling(*ev.InCall)
	case hub.PutsOut(ev, c.client):
		c.line.End(wire.CloseSignedOut, "put out of the room")
	}
	return nil
}

// Notice is a reset, after which the room may be in a call or not.
func (c *chat) Notice(_ string, params any) []byte {
	if r, ok := params.(wire.Reset); ok {
		return c.calling(r.InCall)
	}
	return nil
}

// Presence is nothing: it is statusd's.
func (c *chat) Presence(*wire.Presence) []byte { return nil }

// calling tells whether the room is in a call, if that has changed.
func (c *chat) calling(now bool) []byte {
	if c.inCall.Swap(now) == now {
		return nil
	}
	return inCall(now)
}

func inCall(now bool) []byte {
	status := byte(0)
	if now {
		status = 1
	}
	return chatd.InCall{Status: status}.Append(nil)
}

// rtmsg is a message as every member's chatd connection gets it.
func rtmsg(ev *wire.RoomEvent) []byte {
	m := chatd.RTMsg{User: senderOf(ev), Client: ev.From.Client, Msg: msgOf(ev.Data)}
	if ev.Type != nil {
		m.Type = *ev.Type
	}
	if len(m.Msg) > chatd.MaxMsg {
		return nil // no node takes one that long
	}
	return m.Append(make([]byte, 0, 32+len(m.Msg)))
}

// senderOf is the handle of an event's sender; zero is the system.
func senderOf(ev *wire.RoomEvent) handle.Handle {
	if ev.From.User == "" {
		return handle.Handle{}
	}
	if h, ok := handle.Parse(ev.Handle); ok {
		return h
	}
	return handle.First(ev.From.User).Handle()
}
