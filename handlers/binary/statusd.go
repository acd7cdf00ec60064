package binary

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"godwit/handlers/socket"
	"godwit/rules/handle"
	"godwit/server/auth"
	"godwit/server/session"
	"godwit/server/wait"
	"godwit/store"
	"godwit/wire"
	"godwit/wire/command"
	"godwit/wire/statusd"
)

// askAgain is the pause before a store that was away is asked for handles again.
const askAgain = 200 * time.Millisecond

// status is statusd on one connection: one session, in no room.
type status struct {
	line   *socket.Conn
	node   Node
	claims auth.Claims

	mu      sync.Mutex
	handles map[string]handle.Handle  // guarded by mu: of users that were told, and are not offline
	waiting map[string]*wire.Presence // guarded by mu: the last of each user whose handle is asked for
	asking  bool                      // guarded by mu: ask runs
}

func newStatus(line *socket.Conn, node Node, claims auth.Claims) *status {
	return &status{
		line: line, node: node, claims: claims,
		handles: make(map[string]handle.Handle), waiting: make(map[string]*wire.Presence),
	}
}

// First serves the first frame: HELLO, and what follows it.
func (s *status) First(b []byte) {
	f := statusd.FromClient(b)
	if hello(s.line, &f, s.claims, func(body []byte) uint16 { return statusd.ReadHello(body).Version }) &&
		s.enter(statusd.ReadHello(f.Body()).Presence) {
		walk(s.line, &f, s.run)
	}
}

// enter opens the session, and tells whom it sees: itself last.
func (s *status) enter(presence byte) bool {
	entry := session.Entry{Claims: s.claims, Presence: presence, Dialect: store.DialectStatusd}
	attached, reply := s.node.Enter(s.line.Context(), s.line, entry)
	if reply.Err != nil {
		unopened(s.line, reply.Err)
		return false
	}
	s.line.Serve(attached)
	is := reply.Result.(*wire.Session)
	b, ok := s.dump(is.Presence)
	if !ok {
		unopened(s.line, wire.ErrUnavailable())
		return false
	}
	s.line.Say(statusd.Pres{Presence: is.Self}.Append(b))
	reply.Follow()
	return true
}

// dump is a PRES for each user.
func (s *status) dump(all []wire.UserPresence) (b []byte, ok bool) {
	if len(all) == 0 {
		return nil, true
	}
	users := make([]string, len(all))
	for i := range all {
		users[i] = all[i].User
	}
	handles, err := s.node.HandlesOf(s.line.Context(), users)
	if err != nil {
		return nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, h := range handles {
		s.handles[users[i]] = h
		b = statusd.Pres{User: h, Presence: all[i].Presence}.Append(b)
	}
	return b, true
}

// Frame serves a frame after HELLO.
func (s *status) Frame(b []byte) {
	f := statusd.FromClient(b)
	walk(s.line, &f, s.run)
}

// run runs one command.
func (s *status) run(f *command.Frame) {
	if f.Op() != statusd.OpSetPres { // a second HELLO
		f.Refuse()
		return
	}
	set := statusd.ReadSetPres(f.Body()).Presence
	params := strconv.AppendUint([]byte(`{"presence":`), uint64(set&^statusd.Auto), 10)
	params = strconv.AppendBool(append(params, `,"auto":`...), set&statusd.Auto != 0)
	s.line.Session().Call(s.line.Context(), "presence.set", append(params, '}'), func(reply session.Reply) {
		if reply.Err != nil {
			refuse(s.line, statusd.OpSetPres, reply.Err)
		}
		reply.Follow()
	})
}

// Presence is PRES. A user who was not online waits until its handle is known:
// then the last word of it follows.
func (s *status) Presence(p *wire.Presence) []byte {
	if p.Self {
		return statusd.Pres{Presence: p.Presence}.Append(nil)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if h, ok := s.handles[p.User]; ok {
		if p.Presence == 0 {
			delete(s.handles, p.User) // maybe for good
		}
		return statusd.Pres{User: h, Presence: p.Presence}.Append(nil)
	}
	s.waiting[p.User] = p
	if !s.asking {
		s.asking = true
		s.line.Go(s.ask)
	}
	return nil
}

// ask asks for handles until nobody waits for one, and tells who has waited.
func (s *status) ask(ctx context.Context) {
	for {
		s.mu.Lock()
		users := slices.Collect(maps.Keys(s.waiting))
		s.asking = len(users) > 0 && ctx.Err() == nil
		over := !s.asking
		s.mu.Unlock()
		if over {
			return
		}
		handles, err := s.node.HandlesOf(ctx, users)
		if err != nil {
			wait.Pause(ctx, askAgain)
			continue
		}
		var b []byte
		s.mu.Lock()
		for i, h := range handles {
			is := s.waiting[users[i]].Presence
			if is != 0 {
				s.handles[users[i]] = h
			}
			b = statusd.Pres{User: h, Presence: is}.Append(b)
			delete(s.waiting, users[i])
		}
		s.line.Say(b) // before anything later of them
		s.mu.Unlock()
	}
}

// Event is nothing: the session is in no room.
func (s *status) Event(*wire.RoomEvent) []byte { return nil }

// Notice is nothing that the dialect has a command for.
func (s *status) Notice(string, any) []byte { return nil }
