package session

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/rs/xid"

	"godwit/server/auth"
	"godwit/server/presence"
	"godwit/store"
	"godwit/wire"
)

const (
	deviceName = 64 // longest device label, bytes
	// defaultPresence is 3 with the auto bit, what a hello without one means.
	defaultPresence = 0x80 | 3
	// resumeWithin is how long a login waits until the node hears its rooms and
	// its inbox. Longer than a join: thousands may resume at once after a crash.
	resumeWithin = 5 * time.Second
	// listenFirst is how long of it passes before the store is asked whether it is
	// there at all.
	listenFirst = 200 * time.Millisecond
)

// errLate says that a resume is too old to be taken up.
var errLate = errors.Join(store.ErrUnavailable, errors.New("its client may be elsewhere by now"))

// Open runs a first request. On success it returns the attachment; otherwise
// the reply says why and its After closes the socket with the right code.
func (d *Door) Open(ctx context.Context, sock Socket, name string, params jsontext.Value) (*Session, Reply) {
	var s *Session
	var reply Reply
	switch name {
	case "hello":
		s, reply = d.hello(ctx, sock, params)
	case "resume":
		s, reply = d.resume(ctx, sock, params)
	case "handover":
		s, reply = d.handover(ctx, sock, params)
	default:
		reply = Reply{Err: wire.ErrMethod(name)}
	}
	d.Stats.opened(name, reply.Err)
	if reply.Err == nil {
		return s, reply
	}
	code := closeOf(name, reply.Err)
	reply.After = func() { sock.Close(code, reply.Err.Message) }
	return nil, reply
}

// closeOf is the close code that follows a refused first frame.
func closeOf(name string, e *wire.Error) wire.CloseCode {
	if name == "handover" {
		return wire.CloseMoved
	}
	switch e.Reason() {
	case wire.Unauthorized:
		return wire.CloseUnauthorized
	case wire.TokenExpired:
		return wire.CloseTokenExpired
	case wire.NoSession:
		return wire.CloseSessionGone
	case wire.Moved:
		return wire.CloseReplaced
	case wire.Unavailable:
		return wire.CloseRestart
	}
	if e.Code == wire.CodeInternal {
		return wire.CloseRestart
	}
	return wire.CloseProtocol
}

// refused turns the verifier's error into the client's.
func refused(err error) *wire.Error {
	switch {
	case errors.Is(err, auth.ErrExpired):
		return wire.Errorf(wire.TokenExpired, "the token has expired; get a new one")
	case errors.Is(err, auth.ErrNotReady):
		return wire.Errorf(wire.Unavailable, "the keys that tokens are checked with cannot be read now")
	}
	return wire.Errorf(wire.Unauthorized, "the token is refused: %s", err)
}

func (d *Door) hello(ctx context.Context, sock Socket, params jsontext.Value) (*Session, Reply) {
	var p wire.Hello
	if err := wire.Decode(params, &p); err != nil {
		return nil, Reply{Err: err}
	}
	if len(p.Device) > deviceName {
		return nil, Reply{Err: wire.ErrParams("device has at most %d bytes", deviceName)}
	}
	claims, bad := d.Verify(ctx, p.Token)
	if bad != nil {
		return nil, Reply{Err: bad}
	}
	e := Entry{Claims: claims, Device: p.Device, Presence: defaultPresence, Caps: capsOf(p.Caps)}
	if p.Presence != nil {
		e.Presence = *p.Presence
	}
	return d.enter(ctx, sock, e)
}

// Verify says whom a token lets in.
func (d *Door) Verify(ctx context.Context, token string) (auth.Claims, *wire.Error) {
	claims, err := d.Verifier.Verify(ctx, token)
	if err != nil {
		d.Log.Info("hello refused", "error", err)
		return auth.Claims{}, refused(err)
	}
	return claims, nil
}

// admit waits for a turn to open a session, or to take one up.
func (d *Door) admit(ctx context.Context) (turn, bool) {
	t, ok := d.Turns.take(ctx)
	if ok && (d.Fenced() || d.Full()) {
		t.done()
		return turn{}, false
	}
	return t, ok
}

// Entry is a login whose token is good.
type Entry struct {
	Claims   auth.Claims
	Device   string // at most 64 bytes
	Presence uint8  // bit 7: an idle timer chose it
	Caps     string
	Dialect  string // one of store.Dialect...
}

// Enter opens a new session, for a way in whose login is no JSON. The reply's
// result is a *wire.Session, its error one that another try may not meet.
func (d *Door) Enter(ctx context.Context, sock Socket, e Entry) (*Session, Reply) {
	s, reply := d.enter(ctx, sock, e)
	d.Stats.Logins[WayBinary].Add(outcome(reply.Err))
	return s, reply
}

func (d *Door) enter(ctx context.Context, sock Socket, e Entry) (*Session, Reply) {
	turn, ok := d.admit(ctx)
	if !ok {
		return nil, Reply{Err: wire.ErrUnavailable()}
	}
	defer turn.done()
	var view *presence.View // none, for what is no device of its user
	if (store.Session{Dialect: e.Dialect}).HasDevice() {
		view = d.Board.Attach(e.Claims.User, sock)
	}
	s, reply := d.begin(ctx, sock, view, e)
	if s == nil {
		view.Close()
	}
	return s, reply
}

// begin makes a new session, once its user's inbox is heard.
func (d *Door) begin(ctx context.Context, sock Socket, view *presence.View, e Entry) (*Session, Reply) {
	if view != nil {
		if err := d.listen(ctx, view.Heard()); err != nil {
			return nil, d.closed("hello", err)
		}
	}
	secret := rand.Text()
	b, begun, err := d.Store.Begin(ctx, store.Session{
		ID: xid.New().String(), User: e.Claims.User, Device: e.Device, Gen: 1,
		Owner: d.Config.Node, Secret: store.HashSecret(secret), Expires: e.Claims.Expires,
		Globs: e.Claims.Rooms, Presence: e.Presence, Caps: e.Caps, Dialect: e.Dialect,
	})
	if err != nil {
		if begun {
			d.Leaving.End(b.ID, b.Gen, wire.LeftLost) // nobody knows its secret
		}
		return nil, d.closed("hello", err)
	}
	s := d.attach(sock, b.Session, view)
	if view != nil {
		s.carry(b.Device) // before anybody finds the session, and asks for its device
	}
	d.Hub.Put(s.id, s)
	d.Log.Debug("session opened", "session", s.id, "client", b.Client)
	out := s.object(false)
	out.Secret = secret
	var after func()
	if view != nil {
		after, _ = s.regard(ctx, seeWithin, b.Self, b.Contacts, out) // a new session's object is answered as it is
	}
	return s, Reply{Result: out, After: s.greets(after)}
}

// listen waits until the node hears a login's channels. A store that is away says
// so sooner.
func (d *Door) listen(ctx context.Context, all ...<-chan struct{}) error {
	if hear(ctx, listenFirst, all...) == nil {
		return nil
	}
	if err := d.Store.Ping(ctx); err != nil {
		return err
	}
	return hear(ctx, resumeWithin-listenFirst, all...)
}

// closed is the reply to a first request that the store failed.
func (d *Door) closed(what string, err error) Reply {
	if errors.Is(err, store.ErrUnavailable) {
		d.Log.Debug("first request unavailable", "method", what, "error", err)
		return Reply{Err: wire.ErrUnavailable()}
	}
	d.Log.Error("first request failed", "method", what, "error", err)
	return Reply{Err: wire.ErrInternal()}
}

// object is the session object without its rooms and who is present.
func (s *Session) object(resumed bool) *wire.Session {
	c := s.door.Config
	rec, _ := s.Record()
	return &wire.Session{
		Session: s.id, Client: s.who.Client, User: s.who.User, Handle: rec.Handle, Gen: rec.Gen,
		Resumed: resumed, Node: c.Node.Node, Origins: append([]string{}, c.Origins...),
		Limits: wire.Limits{FrameBytes: c.FrameBytes, MessageBytes: c.MessageBytes, Rooms: c.Rooms},
		Timers: wire.Timers{
			PingMS: c.Ping.Milliseconds(), CallBeatMS: c.CallBeat.Milliseconds(),
			CallTimeoutMS: c.CallTimeout.Milliseconds(), GraceMS: c.Grace.Milliseconds(),
		},
		Rooms: []wire.SessionRoom{}, Presence: []wire.UserPresence{},
	}
}

func (d *Door) resume(ctx context.Context, sock Socket, params jsontext.Value) (*Session, Reply) {
	var p wire.Resume
	if err := wire.Decode(params, &p); err != nil {
		return nil, Reply{Err: err}
	}
	if p.Session == "" || p.Secret == "" {
		return nil, Reply{Err: wire.ErrParams("session and secret are required")}
	}
	turn, ok := d.admit(ctx)
	if !ok {
		return nil, Reply{Err: wire.ErrUnavailable()}
	}
	defer turn.done()
	hash := store.HashSecret(p.Secret)
	rec, rooms, err := d.Store.Peek(ctx, p.Session)
	if err == nil && subtle.ConstantTimeCompare([]byte(rec.Secret), []byte(hash)) != 1 {
		err = store.ErrSecret
	}
	if err != nil {
		return nil, d.unresumed(p.Session, rec, err)
	}
	return d.take(ctx, sock, rec, rooms, taking{
		claim: func() (store.Claimed, error) {
			if turn.late() {
				return store.Claimed{}, errLate
			}
			return d.Store.Claim(ctx, p.Session, hash, d.Config.Node, capsOf(p.Caps))
		},
		word:      store.Word{What: store.WordReplaced},
		positions: p.Positions,
		presence:  p.Presence,
		failed:    func(err error) Reply { return d.unresumed(p.Session, rec, err) },
	})
}

// taking is how a session is taken over.
type taking struct {
	claim     func() (store.Claimed, error)
	word      store.Word // what its last node is told
	positions map[string]wire.Position
	presence  *uint8
	failed    func(error) Reply
}

// take takes a session over. The node hears the rooms before the session is its
// own: whatever fails up to the claim has changed nothing.
func (d *Door) take(ctx context.Context, sock Socket, rec store.Session, rooms []string, t taking) (*Session, Reply) {
	s := d.attach(sock, rec, d.Board.Attach(rec.User, sock))
	for _, room := range rooms {
		s.places.put(s.newPlace(room))
	}
	out, after, err := s.takeOver(ctx, t)
	if err != nil {
		s.mu.Lock()
		s.over = true
		s.mu.Unlock()
		s.Dropped()
		return nil, t.failed(err)
	}
	return s, Reply{Result: out, After: s.greets(after)}
}

// unresumed is the reply to a resume that failed.
func (d *Door) unresumed(sid string, rec store.Session, err error) Reply {
	switch {
	case errors.Is(err, store.ErrGone), errors.Is(err, store.ErrSecret):
		return Reply{Err: wire.Errorf(wire.NoSession, "no such session, or a wrong secret; say hello again")}
	case errors.Is(err, store.ErrExpired):
		if rec.State == store.StateDetached {
			d.Leaving.End(sid, 0, wire.LeftLost)
		}
		return Reply{Err: wire.Errorf(wire.TokenExpired, "the session's token has expired; say hello with a new one")}
	case errors.Is(err, store.ErrMoved):
		return Reply{Err: wire.Errorf(wire.Moved, "another socket resumed the session at the same time")}
	}
	return d.closed("resume", err)
}

// takeOver claims the session for this attachment, makes its gen known to its
// device and rooms, and finds where each of them goes on. It returns the answer
// and what follows it.
func (s *Session) takeOver(ctx context.Context, t taking) (*wire.Session, func(), error) {
	d := s.door
	heard := []<-chan struct{}{s.view.Heard()}
	for _, at := range s.places {
		heard = append(heard, at.room.Ready())
	}
	if err := hear(ctx, resumeWithin, heard...); err != nil {
		return nil, nil, err
	}
	claimed, err := t.claim()
	if err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	s.record = claimed.Session
	s.mu.Unlock()
	old, replaced, newest := d.Hub.Advance(s.id, s, func(old *Session) bool { return old.Gen() < claimed.Gen })
	if !newest {
		return nil, nil, store.ErrMoved // a later resume of the session came here first
	}
	if replaced {
		old.Quit(wire.CloseReplaced, "the session was resumed on another socket")
	}
	out := s.object(true)
	again, catchUp, err := s.regain(ctx, claimed, t, out)
	var open func()
	if err == nil {
		s.lookOn(ctx, catchUp)
		open, err = s.regard(ctx, resumeWithin, again.Self, again.Contacts, out)
	}
	if err != nil {
		d.Leaving.Detach(s.id, claimed.Gen)
		return nil, nil, err
	}
	d.Log.Debug("session resumed", "session", s.id, "gen", claimed.Gen, "rooms", len(out.Rooms))
	return out, func() {
		open()
		s.follow(catchUp)
	}, nil
}

// regain makes the session's gen known to its device and its rooms, and adds these
// to the session object, each with where it goes on.
func (s *Session) regain(ctx context.Context, claimed store.Claimed, t taking, out *wire.Session) (again store.Regained, catchUp []*place, err error) {
	d, rooms := s.door, claimed.Rooms
	for _, room := range rooms {
		if s.place(room) == nil { // joined between the look and the claim
			at := s.newPlace(room)
			s.mu.Lock()
			s.places.put(at)
			s.mu.Unlock()
			if err := hear(ctx, resumeWithin, at.room.Ready()); err != nil {
				return again, nil, err
			}
		}
	}
	slices.SortFunc(rooms, strings.Compare)
	back := make([]store.Return, len(rooms))
	for i, room := range rooms {
		p := t.positions[room]
		back[i] = store.Return{Room: room, Known: store.Known{Epoch: p.Epoch}, Open: d.open(room)}
		if p.Epoch != "" {
			back[i].After = &p.Seq
		}
	}
	device := s.returning(t.presence, rooms)
	var from *store.Departed
	if claimed.Previous != d.Config.Node {
		from = &store.Departed{Node: claimed.Previous}
		if claimed.WasLive {
			t.word.Session, t.word.Gen = s.id, claimed.Gen
			from.Word = &t.word
		}
	}
	if again, err = d.Store.Regain(ctx, s.member(), &device, back, from); err != nil {
		return again, nil, err
	}
	s.carry(again.Device)
	for i, r := range again.Rooms {
		room := rooms[i]
		if errors.Is(r.Err, store.ErrWiped) {
			r = store.Returned{}
			r.Room, r.Err = d.Store.Join(ctx, room, s.member(), store.Known{})
		}
		switch {
		case r.Err == nil:
		case errors.Is(r.Err, store.ErrNotMember), errors.Is(r.Err, store.ErrGone), errors.Is(r.Err, store.ErrRoomFull):
			s.forget(room, nil)
			if err := d.Store.Exit(ctx, s.member(), room); err != nil {
				return again, nil, err
			}
			continue
		default:
			return again, nil, r.Err
		}
		start, recovered := goesOn(r, t.positions[room])
		at := s.place(room)
		s.mu.Lock()
		at.stand(r.Room, start)
		s.mu.Unlock()
		catchUp = append(catchUp, at)
		out.Rooms = append(out.Rooms, wire.SessionRoom{
			Room: room, Epoch: r.Epoch, Seq: r.Seq,
			Recovered: recovered, CSeq: r.CSeq, InCall: r.InCall,
		})
	}
	for room := range s.strays(rooms) {
		s.forget(room, nil)
	}
	return again, catchUp, nil
}

// strays are the places in rooms that the claim did not name.
func (s *Session) strays(rooms []string) map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]bool)
	for _, p := range s.places {
		if !slices.Contains(rooms, p.Name()) {
			out[p.Name()] = true
		}
	}
	return out
}
