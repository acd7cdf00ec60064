package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"godwit/trace"
)

// MembersTold is how many members an answer names at most.
const MembersTold = 1000

// Known is the newest entry of a room that a node has seen. A store that has
// less lost its tail, and starts a new epoch at the next write.
type Known struct {
	Epoch string
	Seq   uint64 // 0: nothing known
	TS    int64  // of the entry at Seq, ms; 0: do not compare
}

// Member is who a session is in a room.
type Member struct {
	User    string
	Client  uint32
	Device  string
	Session string
	Gen     uint64
	// Handle is the user's, where it is not the first that the name gives; its
	// messages say so. A member read from a room has none.
	Handle string
}

// Room is how a room stands for one member.
type Room struct {
	Epoch  string
	Seq    uint64 // head
	CSeq   uint64 // last client sequence accepted from this member
	Joined uint64 // seq of this member's own join entry
	InCall bool
	Calls  bool // the member itself is in the call
	// New says that Join appended an entry.
	New bool
	// Began, of Attach that names members, is the seq behind which the log has all of
	// the epoch; Seq where that is not known.
	Began   uint64
	Members []Member // at most MembersTold, in no order
	Count   int      // of all members
	Callers []Member // of Info: who is in the call, at most MembersTold
}

// NewEpoch is a fresh epoch's name.
func NewEpoch() string { return rand.Text()[:12] }

// roomCall prepares a room script's call: what head.lua wants, then args.
func (s *Store) roomCall(sc *script, room string, known Known, args ...any) call {
	k := keysOfRoom(room)
	all := append(make([]any, 0, 7+len(args)), k.channel(), known.Epoch, known.Seq, known.TS, NewEpoch(),
		s.cfg.LogMax, s.cfg.LogAge.Milliseconds())
	return call{script: sc, keys: k.all(), args: append(all, args...)}
}

// Join makes m a member. May be repeated.
//
// Errors: ErrMoved, ErrGone (the session has ended), ErrRoomFull, ErrUnavailable.
func (s *Store) Join(ctx context.Context, room string, m Member, known Known) (Room, error) {
	return s.join(ctx, room, m, known, s.cfg.MaxMembers)
}

// Readmit is Join for who was a member of a room that the store has lost. It was in
// before whoever has filled the room meanwhile.
//
// Errors: ErrMoved, ErrGone, ErrUnavailable.
func (s *Store) Readmit(ctx context.Context, room string, m Member) (Room, error) {
	return s.join(ctx, room, m, Known{}, math.MaxInt32)
}

// join is Join of a room that has at most so many members then.
func (s *Store) join(ctx context.Context, room string, m Member, known Known, most int) (Room, error) {
	c, err := s.joinCall(room, m, known, most)
	if err != nil {
		return Room{}, err
	}
	s.index(ctx, room)
	a, err := s.lane(room).do(ctx, c)
	if err != nil {
		return Room{}, err
	}
	r, err := joined(a, known)
	if r.New && r.Count == 1 {
		s.index(ctx, room) // it may have been taken off meanwhile, as one that has ended
	}
	return r, err
}

func (s *Store) joinCall(room string, m Member, known Known, most int) (call, error) {
	header, err := Header{Kind: "join", User: m.User, Client: m.Client, Device: m.Device}.encode()
	if err != nil {
		return call{}, err
	}
	row := fmt.Sprintf("%d %d %s %s%s", len(m.User), len(m.Device), m.Session, m.User, m.Device)
	c := s.roomCall(joinScript, room, known, m.Client, m.Gen, row, m.User, header, most, MembersTold)
	c.keys = append(c.keys, keysOfRoom(room).gone(m.Client), keysOfRoom(room).absent(m.Client))
	return c, nil
}

// joined reads what a join answers.
func joined(a answer, known Known) (Room, error) {
	if err := roomVerdict(a, known); err != nil {
		return Room{}, err
	}
	r, err := roomOf(a)
	r.New = a.status() == "joined"
	return r, err
}

// Attach makes m's gen known to the room; members says whether to name them.
// May be repeated.
//
// Errors: ErrMoved, ErrNotMember, ErrWiped, ErrUnavailable.
func (s *Store) Attach(ctx context.Context, room string, m Member, known Known, members bool) (Room, error) {
	a, err := s.lane(room).do(ctx, s.attachCall(m, Return{Room: room, Known: known}, members))
	if err != nil {
		return Room{}, err
	}
	if err := roomVerdict(a, known); err != nil {
		return Room{}, err
	}
	r, err := roomOf(a)
	r.Began = a.uint(12)
	return r, err
}

// Leave takes m out of a room: reason is left, lost, kicked or closed. A
// session's end passes over says true: then gen does not matter, and the
// client cannot join again for twice the grace. It gives the head that it made.
// May be repeated.
//
// Errors: ErrMoved, ErrNotMember, ErrWiped, ErrUnavailable.
func (s *Store) Leave(ctx context.Context, room string, m Member, known Known, reason string, over bool) (Head, error) {
	header, err := Header{Kind: "leave", User: m.User, Client: m.Client, Device: m.Device, Reason: reason}.encode()
	if err != nil {
		return Head{}, err
	}
	gen, tomb := m.Gen, int64(0)
	if over {
		gen, tomb = 0, 2*s.cfg.Grace.Milliseconds()
	}
	c := s.roomCall(leaveScript, room, known, m.Client, gen, m.User, header, tomb, s.cfg.LogTTL.Milliseconds())
	c.keys = append(c.keys, keysOfRoom(room).gone(m.Client))
	a, err := s.lane(room).do(ctx, c)
	if err != nil {
		return Head{}, err
	}
	return Head{Epoch: a.text(1), Seq: a.uint(2)}, roomVerdict(a, known)
}

// Draft is a message to be sent.
type Draft struct {
	CSeq      uint64 // 0: none
	ToUser    *string
	ToClient  *uint32
	Type      *uint8
	Ephemeral bool
	Data      []byte
	Trace     *trace.Span // what it is sent for; nil: it is not followed
}

// to is whom the message is for, as scripts have it: "" and 0 are anybody.
func (d Draft) to() (user string, client uint32) {
	if d.ToUser != nil {
		user = *d.ToUser
	}
	if d.ToClient != nil {
		client = *d.ToClient
	}
	return user, client
}

// special is what send.lua is told of a message that is not for all, or not kept.
func (d Draft) special(from Member) string {
	user, client := d.to()
	if !d.Ephemeral && user == "" && client == 0 {
		return ""
	}
	ephemeral := 0
	if d.Ephemeral {
		ephemeral = 1
	}
	return fmt.Sprintf("%d %d %d %s %s", ephemeral, client, len(from.User), from.User, user)
}

// Sent says where a message went.
type Sent struct {
	Epoch string // empty for a repeat too old to remember
	Seq   uint64 // 0 for an ephemeral message, and for a repeat too old to remember
	TS    int64  // ms; 0 where Seq is, but for an ephemeral message
	Dup   bool   // a repeat: nothing was appended
}

// Send appends a message. It returns once the write is queued; done is called
// exactly once, from another goroutine, in the order of the room's writes.
// With a CSeq it may be repeated; without, only if the caller accepts a double.
//
// Errors: ErrMoved, ErrNotMember, *GapError, ErrNoRecipient, ErrWiped, ErrUnavailable.
func (s *Store) Send(ctx context.Context, room string, m Member, known Known, d Draft, done func(Sent, error)) {
	w, err := s.sending(room, m, known, d, done)
	if err != nil {
		done(Sent{}, err)
		return
	}
	s.lane(room).submit(ctx, w)
}

// sending is Send, not yet queued.
func (s *Store) sending(room string, m Member, known Known, d Draft, done func(Sent, error)) (*write, error) {
	span := d.Trace.Below("store.send", trace.Producer)
	header, err := Header{
		Kind: "message", User: m.User, Client: m.Client, Device: m.Device, Handle: m.Handle,
		ToUser: d.ToUser, ToClient: d.ToClient, Type: d.Type, Trace: span.Traceparent(),
	}.encode()
	if err != nil {
		return nil, err
	}
	of := &message{room, known, []any{m.Client, m.Gen, d.CSeq, header, d.Data, d.special(m)}}
	return &write{call: call{script: sendScript}, message: of, span: span, done: func(a answer, err error) {
		if span != nil {
			wrote(span, a, err)
		}
		if err == nil {
			err = roomVerdict(a, known)
		}
		if err != nil {
			done(Sent{}, err)
			return
		}
		if a.status() == "dup" {
			done(Sent{Seq: a.uint(1), TS: int64(a.uint(2)), Epoch: a.text(3), Dup: true}, nil)
			return
		}
		done(Sent{Epoch: a.text(1), Seq: a.uint(2), TS: int64(a.uint(3))}, nil)
	}}, nil
}

// wrote ends the span of a send's script, with the word that it answered.
func wrote(span *trace.Span, a answer, err error) {
	outcome := a.status()
	if err != nil {
		outcome = "unavailable"
		span.Fail()
	}
	span.Text("db.system.name", "redis")
	span.Text("db.stored_procedure.name", sendScript.name)
	span.Text("godwit.outcome", outcome)
	if outcome == "ok" {
		span.Text("godwit.epoch", a.text(1))
		span.Number("godwit.seq", int64(a.uint(2)))
	}
	span.End()
}

// roomVerdict is verdict for a member that knew the room: one that has no row
// in a room of another epoch was not put out by anybody, the room is not the
// one it was in.
func roomVerdict(a answer, known Known) error {
	err := verdict(a)
	if errors.Is(err, ErrNotMember) && known.Epoch != "" && a.text(1) != known.Epoch {
		return ErrWiped
	}
	return err
}

// roomOf reads {status, epoch, seq, cseq, joined, in_call, count, roster, calls}.
func roomOf(a answer) (Room, error) {
	members, err := parseRoster(a.list(7))
	return Room{
		Epoch: a.text(1), Seq: a.uint(2), CSeq: a.uint(3), Joined: a.uint(4),
		InCall: a.text(5) == "1", Count: int(a.uint(6)), Members: members,
		Calls: a.text(8) == "1",
	}, err
}

// parseRoster reads client, row, client, row...
func parseRoster(flat []string) ([]Member, error) {
	out := make([]Member, 0, len(flat)/2)
	for i := 0; i+1 < len(flat) && len(out) < MembersTold; i += 2 {
		m, err := parseRow(flat[i], flat[i+1])
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

// parseRow reads "gen cseq joined #user #device sid userdevice".
func parseRow(client, row string) (Member, error) {
	f := strings.SplitN(row, " ", 7)
	if len(f) != 7 {
		return Member{}, fmt.Errorf("member row of client %s has %d fields", client, len(f))
	}
	c, err1 := strconv.ParseUint(client, 10, 32)
	gen, err2 := strconv.ParseUint(f[0], 10, 64)
	u, err3 := strconv.Atoi(f[3])
	d, err4 := strconv.Atoi(f[4])
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return Member{}, fmt.Errorf("member row of client %s: %w", client, err)
	}
	if u < 0 || d < 0 || u > len(f[6]) || d > len(f[6])-u {
		return Member{}, fmt.Errorf("member row of client %s is cut", client)
	}
	return Member{User: f[6][:u], Device: f[6][u : u+d], Client: uint32(c), Session: f[5], Gen: gen}, nil
}

// Info tells how a room stands: its head, its members, and who is in its call.
// May be repeated.
//
// Errors: ErrWiped, ErrUnavailable.
func (s *Store) Info(ctx context.Context, room string) (Room, error) {
	c := s.roomCall(infoScript, room, Known{}, MembersTold, MembersTold)
	a, err := s.run(ctx, c.script, c.keys, c.args...)
	if err == nil {
		err = verdict(a)
	}
	if err != nil {
		return Room{}, err
	}
	members, err := parseRoster(a.list(5))
	if err != nil {
		return Room{}, err
	}
	callers, err := parseRoster(a.list(6))
	return Room{
		Epoch: a.text(1), Seq: a.uint(2), InCall: a.text(3) == "1",
		Count: int(a.uint(4)), Members: members, Callers: callers,
	}, err
}
