package socket

import (
	"bytes"
	"sync"

	"godwit/server/session"
	"godwit/wire"
)

// Subprotocol is selected when the client offers it.
const Subprotocol = "godwit.v1"

// rpc is JSON-RPC 2.0 in text frames, the dialect of /v1/ws.
type rpc struct{ c *Conn }

func speakRPC(c *Conn) Dialect { return rpc{c} }

// Event is the notification room.event.
func (rpc) Event(ev *wire.RoomEvent) []byte { return ev.Frame() }

// Presence is the notification presence.
func (rpc) Presence(p *wire.Presence) []byte { return p.Frame() }

// Notice is a notification.
func (d rpc) Notice(method string, params any) []byte {
	b, err := wire.AppendNotice(nil, method, params)
	if err != nil {
		d.c.h.log.Error("notification not encoded", "method", method, "error", err)
		return nil
	}
	return b
}

// First serves the first frame, which must be a login.
func (d rpc) First(b []byte) {
	f, bad := wire.ParseFrame(bytes.Clone(b))
	var r wire.Request
	switch {
	case bad != nil:
	case f.Batch:
		bad = wire.ErrRequest("the first frame is a single request for hello, resume or handover")
	default:
		r = f.Requests[0]
		if bad = r.Err; bad == nil && (r.ID == nil || !login(r.Method)) {
			bad = wire.ErrRequest("the first frame is a request for hello, resume or handover")
		}
	}
	if bad != nil {
		d.c.Bad()
		d.c.Say(wire.AppendError(nil, r.ID, bad))
		d.c.Close(wire.CloseProtocol, bad.Message)
		return
	}
	s, reply := d.c.h.node.Login(d.c.Context(), d.c, r.Method, r.Params)
	if reply.Err == nil {
		d.c.Serve(s)
	}
	d.answer(r, reply)
}

func login(method string) bool {
	return method == "hello" || method == "resume" || method == "handover"
}

// Frame serves one frame of an attached session.
func (d rpc) Frame(b []byte) {
	f, bad := wire.ParseFrame(bytes.Clone(b)) // requests keep it, and gws reads the next one into b
	if bad != nil {
		d.c.Bad()
		d.c.Say(wire.AppendError(nil, nil, bad))
		return
	}
	if !f.Batch {
		d.request(f.Requests[0], func(reply session.Reply) { d.answer(f.Requests[0], reply) })
		return
	}
	replies := make([]session.Reply, len(f.Requests))
	var open sync.WaitGroup
	for i, r := range f.Requests {
		open.Add(1)
		d.request(r, func(reply session.Reply) {
			replies[i] = reply
			open.Done()
		})
	}
	open.Wait()
	out := []byte{'['}
	for i, r := range f.Requests {
		if r.ID == nil {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = d.encode(out, r, replies[i])
	}
	if len(out) > 1 {
		d.c.Say(append(out, ']'))
	}
	for _, reply := range replies {
		reply.Follow()
	}
}

// request runs one request; done is called once, maybe later.
func (d rpc) request(r wire.Request, done func(session.Reply)) {
	switch {
	case r.Err != nil:
		d.c.Bad()
		done(session.Reply{Err: r.Err})
	case login(r.Method):
		done(session.Reply{Err: wire.ErrRequest("this socket has logged in already")})
	default:
		d.c.Session().Call(d.c.Context(), r.Method, r.Params, done)
	}
}

// answer queues the answer to a request, unless it is a notification, and then
// does what follows it.
func (d rpc) answer(r wire.Request, reply session.Reply) {
	if r.ID != nil {
		d.c.Say(d.encode(nil, r, reply))
	}
	reply.Follow()
}

func (d rpc) encode(b []byte, r wire.Request, reply session.Reply) []byte {
	if reply.Err != nil {
		return wire.AppendError(b, r.ID, reply.Err)
	}
	out, err := wire.AppendResult(b, r.ID, reply.Result)
	if err != nil {
		d.c.h.log.Error("answer not encoded", "method", r.Method, "error", err)
		return wire.AppendError(b, r.ID, wire.ErrInternal())
	}
	return out
}
