package session

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"godwit/rules/address"
	"godwit/rules/limit"
	rule "godwit/rules/presence"
	"godwit/rules/redirect"
	"godwit/server/auth"
	"godwit/server/hub"
	"godwit/server/presence"
	"godwit/server/relay"
	"godwit/server/wait"
	"godwit/store"
	"godwit/trace"
	"godwit/wire"
)

// Config is what a node allows its sessions.
type Config struct {
	Node    store.Ref
	Origins []string // where a redirect may lead

	FrameBytes   int
	MessageBytes int
	Rooms        int     // a session
	Rate         float64 // requests a second
	Burst        int
	Ping         time.Duration
	CallBeat     time.Duration
	CallTimeout  time.Duration
	Grace        time.Duration
	// History are globs of rooms whose past is open to every member.
	History []string
}

// Leaving is what becomes of a session that its socket has left. Both return
// at once and see to it that it happens, if need be when the store is back.
type Leaving interface {
	// Detach keeps the session for its grace.
	Detach(sid string, gen uint64)
	// End ends it now; the rooms hear the reason.
	End(sid string, gen uint64, reason string)
	// Suspect asks to look whether the session is still this node's.
	Suspect(s *Session)
}

// Calls takes what members say of being in their rooms' calls. Its methods do
// not wait.
type Calls interface {
	// Beat has a member's word written: now if it is soon, else maybe with others.
	// done is called once, and must not wait.
	Beat(rm *relay.Room, m store.Member, in, soon bool, done func(error))
	// Forget drops what is not written of a client that has left the room.
	Forget(room string, client uint32)
}

// Door opens sessions on one node.
type Door struct {
	Config   Config
	Store    *store.Store
	Relay    *relay.Relay
	Hub      *hub.Registry[*Session]
	Board    *presence.Board
	Verifier *auth.Verifier
	Leaving  Leaving
	Moves    Moves
	Calls    Calls
	Turns    *Turns
	// Fenced says that the node's lease is over, so that nothing may be written.
	Fenced func() bool
	// Full says that the node has no place but for those who were told to come.
	Full  func() bool
	Stats *Stats
	Trace *trace.Tracer // nil: no send is followed
	Log   *slog.Logger
}

// Session is one attachment.
type Session struct {
	door *Door
	sock Socket
	id   string
	who  store.Member // Gen is in record
	view *presence.View
	work sync.WaitGroup // replay, and sends under way

	greeted atomic.Bool // the login is answered

	// owned by the socket's reader
	bucket limit.Bucket
	flow   string        // room of the sends under way
	flight chan struct{} // cap flightMax; made for the first send
	came   *arrival      // set before it is served; nil: no offer brought it here

	mu      sync.Mutex
	life    wait.Scope    // guarded by mu: until it is dropped
	record  store.Session // guarded by mu: what a wiped store is told again,
	device  rule.Device   // guarded by mu: and this
	renews  bool          // guarded by mu: a later record.Expires is on its way
	places  row[*place]   // guarded by mu: by room
	meeting chan struct{} // guarded by mu: closed when it is greeted; nil: nobody waits
	// listing is there while somebody makes the session's record name a room, or do so
	// no longer, and closed when that is done.
	listing chan struct{}   // guarded by mu
	over    bool            // guarded by mu: the store need not be told when the socket drops
	move    redirect.Source // guarded by mu
	offer   *offer          // guarded by mu: the last one

	signedOut time.Time // guarded by mu: when an operator was said to end it

	// countMu is held while an answer or a reset is put on the socket: nothing
	// else is locked under it, but what the socket needs.
	countMu sync.Mutex
	counts  map[string]count // guarded by countMu: by room, of the places that have one
}

// place is a session's place in one room.
type place struct {
	room *relay.Room
	seat *hub.Seat
	// replaying is held while one event of the log is handed to the socket.
	replaying sync.Mutex

	// Guarded by Session.mu from when the place is in places.
	seen   bool   // the view is in the room
	live   bool   // the seat is taken; until then replay stands at pos
	held   bool   // the room holds recent events for us
	epoch  string // of the position
	pos    uint64
	start  uint64    // where this socket's events of the room began
	head   uint64    // of the room, when the session entered it
	joined uint64    // seq of the session's own join entry
	beat   time.Time // when the client last said to be in the call; zero: it is not
	news   time.Time // when its last word that changes something came, or was written
	// written is when the last beat came that is written.
	written time.Time
	lost    []func(rebuilt bool) // sends that met a store without the room, in order
	stay    wait.Scope           // until the session has left the room
}

// stand sets where this socket's events of the room begin.
func (p *place) stand(r store.Room, after uint64) {
	p.epoch, p.joined, p.head = r.Epoch, r.Joined, r.Seq
	p.pos, p.start = after, after
	if r.Calls {
		p.beat = time.Now() // of late
	}
	p.room.Call(r)
}

// flightMax is how many sends of one room may be under way for a session.
const flightMax = 64

func (d *Door) attach(sock Socket, rec store.Session, view *presence.View) *Session {
	return &Session{
		door: d, sock: sock, id: rec.ID, who: rec.Member(), view: view,
		bucket: limit.New(d.Config.Rate, d.Config.Burst, time.Now()),
		record: rec,
	}
}

// ID is the session's id.
func (s *Session) ID() string { return s.id }

// Gen is the attachment's generation.
func (s *Session) Gen() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record.Gen
}

// member is who the session is at its current gen.
func (s *Session) member() store.Member {
	m := s.who
	m.Gen = s.Gen()
	return m
}

// Client is the session's client id.
func (s *Session) Client() uint32 { return s.who.Client }

// Identity is who the session is in the whole store.
func (s *Session) Identity() store.Identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	return store.Identity{Session: s.id, User: s.who.User, Client: s.who.Client, Handle: s.record.Handle}
}

// Record is what a store that was wiped is told again: the record and the rooms.
func (s *Session) Record() (store.Session, []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec := s.record
	rooms := make([]string, 0, len(s.places))
	for _, p := range s.places {
		rooms = append(rooms, p.Name())
	}
	return rec, rooms
}

// Quit closes the socket of a session that is over, or no longer this
// attachment's: the store is not told.
func (s *Session) Quit(code wire.CloseCode, reason string) {
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	s.door.Hub.Remove(s.id, s)
	s.sock.Close(code, reason)
}

// signingOut is how long the word that an operator ends a session is good for: that
// may fail, and the session end for another reason.
const signingOut = time.Minute

// SignedOut notes that an operator is said to end the session, or to have ended it.
func (s *Session) SignedOut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signedOut = time.Now()
}

// Gone closes the socket of a session that the store has no more. One that is over
// here is closed by what has ended it, bye after its answer; but the old socket of one
// that has moved need not wait for its client.
func (s *Session) Gone() {
	s.mu.Lock()
	over, byOperator := s.over && s.move.State() < redirect.Fenced, time.Since(s.signedOut) < signingOut
	s.mu.Unlock()
	switch {
	case over:
	case byOperator:
		s.Quit(wire.CloseSignedOut, "an operator has ended the session")
	default:
		s.Quit(wire.CloseSessionGone, "the session has ended; say hello again")
	}
}

// Finish ends the session for good, as bye does. Its socket is closed already.
func (s *Session) Finish() {
	s.mu.Lock()
	over := s.over
	s.over = true
	s.mu.Unlock()
	if !over {
		s.door.Leaving.End(s.id, s.Gen(), wire.LeftByChoice)
	}
}

// Send asks the socket to pass a notification on and, if code is not 0, to
// close. The session stays, to be detached.
func (s *Session) Send(method string, params any, code wire.CloseCode, reason string) {
	s.sock.Notify(method, params)
	if code != 0 {
		s.sock.Close(code, reason)
	}
}

// Moved makes the attachment's gen known to its rooms, after the node took the
// session back.
func (s *Session) Moved(ctx context.Context, gen uint64) error {
	s.mu.Lock()
	s.record.Gen = gen
	rooms := make([]store.Return, 0, len(s.places))
	seats := make([]*hub.Seat, 0, len(s.places))
	for _, p := range s.places {
		rooms = append(rooms, store.Return{Room: p.Name(), Known: p.room.Known()})
		seats = append(seats, p.seat)
	}
	s.mu.Unlock()
	again, err := s.door.Store.Regain(ctx, s.member(), nil, rooms, nil)
	if err == nil {
		err = s.Present(ctx)
	}
	if err != nil {
		return err
	}
	for i, r := range again.Rooms {
		switch {
		case errors.Is(r.Err, store.ErrNotMember):
			s.Expelled(rooms[i].Room, seats[i])
		case errors.Is(r.Err, store.ErrWiped):
			s.door.Relay.Suspect()
		}
	}
	return nil
}

// Dropped gives everything up that the attachment holds; the session goes on,
// detached, unless it is over.
func (s *Session) Dropped() {
	s.mu.Lock()
	s.life.End()
	places := s.places
	s.places = nil
	over := s.over
	s.over = true
	s.mu.Unlock()
	s.work.Wait()
	s.view.Close()
	for _, p := range places {
		s.release(p)
	}
	s.door.Hub.Remove(s.id, s)
	if !over {
		s.door.Leaving.Detach(s.id, s.Gen())
	}
}

// release gives a place back that is in no row any more. Nothing of the room
// follows on the socket.
func (s *Session) release(p *place) {
	s.mu.Lock()
	p.stay.End()
	s.mu.Unlock()
	if p.seen {
		s.view.Leave(p.room.Name())
	}
	p.replaying.Lock() // after the event that is being handed over, if any
	p.room.Stand(p.seat)
	p.replaying.Unlock()
	if p.held {
		p.room.Release()
	}
	s.door.Relay.Close(p.room)
	s.countMu.Lock()
	defer s.countMu.Unlock()
	delete(s.counts, p.room.Name())
}

// Deliver hands a live event to the socket.
func (s *Session) Deliver(ev *wire.RoomEvent) { s.sock.Deliver(ev) }

// Reset tells the client that a room has another order from here on. A send may
// have been accepted in that order since its count was read, and answered.
func (s *Session) Reset(r wire.Reset) {
	s.countMu.Lock()
	defer s.countMu.Unlock()
	if have := s.counts[r.Room]; have.epoch == r.Epoch {
		r.CSeq = max(r.CSeq, have.cseq)
	}
	s.sock.Notify("room.reset", r)
}

// Expelled forgets a room that the session was put out of, and has its record do
// so soon. Who was quick to join again has another seat, and keeps that.
func (s *Session) Expelled(room string, seat *hub.Seat) {
	s.forget(room, seat)
	s.begin(func() { s.unlist(room) })
}

// forget gives up the place in a room that the session is not in any more; nil
// is any seat.
func (s *Session) forget(room string, seat *hub.Seat) {
	s.mu.Lock()
	p := s.places.of(room)
	if p != nil && seat != nil && p.seat != seat {
		p = nil
	} else {
		s.places.drop(room)
	}
	s.mu.Unlock()
	if p != nil {
		s.door.Calls.Forget(room, s.who.Client)
		s.release(p)
	}
}

// reader is who the session is to the addressing rules when it reads the log.
func (s *Session) reader(room string, joined uint64) address.Reader {
	return address.Reader{User: s.who.User, Client: s.who.Client, Since: joined, Open: s.door.open(room)}
}

// Name is that of the room.
func (p *place) Name() string { return p.room.Name() }

// newPlace takes a reference to a room and a seat that is not taken yet. The
// seat needs no look at the member's own join entry: it only gets what comes
// after its position.
func (s *Session) newPlace(room string) *place {
	p := &place{room: s.door.Relay.Open(room), held: true}
	p.seat = &hub.Seat{Ear: s, Reader: address.Reader{User: s.who.User, Client: s.who.Client, Open: true}}
	p.room.Hold(p.seat)
	return p
}

// within ends when the session leaves the room, or the socket drops.
func (s *Session) within(p *place) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	return p.stay.Context(s.life.Context(context.Background()))
}

// attached ends when the socket drops.
func (s *Session) attached() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.life.Context(context.Background())
}

// unhold gives the room's recent events up. Called with mu held.
func (p *place) unhold() {
	if p.held {
		p.held = false
		p.room.Release()
	}
}
