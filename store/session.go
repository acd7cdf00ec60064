package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/redis/go-redis/v9"

	"godwit/rules/handle"
)

// Session is a session's record.
type Session struct {
	ID     string
	User   string
	Client uint32
	Device string
	Handle string // 16 hex digits
	Gen    uint64
	Owner  Ref // of the node life that holds it, or held it last
	// Secret is the hash of the resume secret, never the secret.
	Secret  string
	Expires time.Time
	// Globs are the rooms that the token allows; nil allows all.
	Globs    []string
	Presence uint8
	Caps     string
	Dialect  string // what its socket speaks
	State    string // live, detached or ending
	Reason   string // why it ends
	Moves    []Move // the last redirects, newest first
}

// Session states.
const (
	StateLive     = "live"
	StateDetached = "detached"
	StateEnding   = "ending"
)

// Dialects of a session's socket. A session keeps its own for life.
const (
	DialectRPC     = "" // JSON-RPC
	DialectChatd   = "chatd"
	DialectStatusd = "statusd"
)

// HasDevice says whether the session is a device of its user, with a presence:
// one of a single room (chatd) is not.
func (r Session) HasDevice() bool { return r.Dialect != DialectChatd }

// Member is who the session is in its rooms.
func (r Session) Member() Member {
	m := Member{User: r.User, Client: r.Client, Device: r.Device, Session: r.ID, Gen: r.Gen}
	if r.Handle != handle.First(r.User).Handle().String() {
		m.Handle = r.Handle
	}
	return m
}

func (r Session) fields() ([]any, error) {
	globs, err := json.Marshal(r.Globs, json.FormatNilSliceAsNull(true))
	if err != nil {
		return nil, fmt.Errorf("encode session: %w", err)
	}
	return []any{
		"user", r.User, "client", r.Client, "device", r.Device, "handle", r.Handle,
		"node", r.Owner.Node, "boot", r.Owner.Boot, "secret", r.Secret,
		"exp", r.Expires.UnixMilli(), "globs", string(globs), "presence", r.Presence,
		"caps", r.Caps, "dialect", r.Dialect, "state", StateLive,
	}, nil
}

func sessionOf(sid string, f map[string]string) (Session, error) {
	client, err1 := strconv.ParseUint(f["client"], 10, 32)
	gen, err2 := strconv.ParseUint(f["gen"], 10, 64)
	exp, err3 := strconv.ParseInt(f["exp"], 10, 64)
	presence, err4 := strconv.ParseUint(f["presence"], 10, 8)
	var globs []string
	err5 := json.Unmarshal([]byte(f["globs"]), &globs)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return Session{}, fmt.Errorf("read session record %s: %w", sid, err)
	}
	return Session{
		ID: sid, User: f["user"], Client: uint32(client), Device: f["device"], Handle: f["handle"],
		Gen: gen, Owner: Ref{f["node"], f["boot"]}, Secret: f["secret"], Expires: time.UnixMilli(exp),
		Globs: globs, Presence: uint8(presence), Caps: f["caps"], Dialect: f["dialect"], State: f["state"], Reason: f["reason"],
		Moves: parseMoves(f["moves"]),
	}, nil
}

// Create writes a session's record again after a wipe, with its rooms, and before
// it the entry in its owner's session set by which a sweep finds it; one without a
// device is listed with its user, too. A record with a higher gen is left alone.
// May be repeated.
//
// Errors: ErrMoved, ErrUnavailable.
func (s *Store) Create(ctx context.Context, r Session, rooms []string) error {
	if err := s.own(ctx, r.Owner, r.ID); err != nil {
		return err
	}
	c, err := createCall(r, rooms)
	if err != nil {
		return err
	}
	a, err := s.run(ctx, c.script, c.keys, c.args...)
	if err == nil {
		err = verdict(a)
	}
	if err != nil || r.HasDevice() { // which its device does
		return err
	}
	// To one that is ending already, the script's refusal is no news.
	c = noteSession(r)
	_, err = s.run(ctx, c.script, c.keys, c.args...)
	return err
}

func createCall(r Session, rooms []string) (call, error) {
	fields, err := r.fields()
	if err != nil {
		return call{}, err
	}
	args := append(make([]any, 0, 2+len(rooms)+len(fields)), r.Gen, len(rooms))
	for _, room := range rooms {
		args = append(args, room)
	}
	return call{createScript, []string{sessionKey(r.ID), sessionRoomsKey(r.ID)}, append(args, fields...)}, nil
}

// own lists a session under its owner.
func (s *Store) own(ctx context.Context, owner Ref, sid string) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	return unavailable("list session", s.rdb.SAdd(ctx, owner.sessionsKey(), sid).Err())
}

func ownCall(owner Ref, sid string) call {
	return call{ownScript, []string{owner.sessionsKey()}, []any{sid}}
}

// Disown takes a session off a node's list, when it is detached, ended, or
// lives elsewhere. One that is live there again by then stays listed, or nobody
// would end it after a crash. May be repeated.
func (s *Store) Disown(ctx context.Context, owner Ref, sid string) error {
	if s.cluster == nil {
		_, err := s.runAll(ctx, []call{disownCall(owner, sid, "")})
		return err
	}
	within, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	if err := s.rdb.SRem(within, owner.sessionsKey(), sid).Err(); err != nil {
		return unavailable("unlist session", err)
	}
	rec, err := s.rdb.HMGet(within, sessionKey(sid), "node", "boot", "state").Result()
	if err != nil {
		return unavailable("read session", err)
	}
	if rec[0] == owner.Node && rec[1] == owner.Boot && rec[2] == StateLive {
		return s.own(ctx, owner, sid)
	}
	return nil
}

// disownCall is Disown on a single server, where nobody comes in between; word, if
// there is one, is told to the node.
func disownCall(owner Ref, sid, word string) call {
	return linked(elsewhereDisown, []call{
		{elsewhereScript, []string{sessionKey(sid)}, []any{owner.Node, owner.Boot}},
		{disownScript, []string{owner.sessionsKey()}, []any{sid, owner.channel(), word}},
	})
}

// Peek reads a session's record and rooms without changing anything.
//
// Errors: ErrGone, ErrUnavailable.
func (s *Store) Peek(ctx context.Context, sid string) (Session, []string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	pipe := s.rdb.Pipeline()
	record, rooms := pipe.HGetAll(ctx, sessionKey(sid)), pipe.SMembers(ctx, sessionRoomsKey(sid))
	if _, err := pipe.Exec(ctx); err != nil {
		return Session{}, nil, unavailable("read session", err)
	}
	if len(record.Val()) == 0 || record.Val()["state"] == StateEnding {
		return Session{}, nil, ErrGone
	}
	r, err := sessionOf(sid, record.Val())
	return r, rooms.Val(), err
}

// Attachment is where a session is.
type Attachment struct {
	Node  string // that holds it, or held it last; empty: the session is gone
	State string
}

// Attached reads where sessions are, in one round trip. May be repeated.
func (s *Store) Attached(ctx context.Context, sids []string) ([]Attachment, error) {
	records, err := readEach(ctx, s, "read sessions", sids, func(ctx context.Context, pipe redis.Pipeliner, sid string) *redis.SliceCmd {
		return pipe.HMGet(ctx, sessionKey(sid), "node", "state")
	})
	out := make([]Attachment, len(records))
	for i, r := range records {
		v := answer(r.Val())
		out[i] = Attachment{Node: v.text(0), State: v.text(1)}
	}
	return out, err
}

// Claimed is a session that was taken over.
type Claimed struct {
	Session
	Rooms []string
	// Previous held it before, and was told nothing yet; WasLive says whether
	// it may still think so.
	Previous Ref
	WasLive  bool
}

// Claim takes a session over for a node: gen + 1, owner, live. From then on a
// write of the old gen is refused wherever Attach has been. secret is the hash.
//
// Errors: ErrGone, ErrSecret, ErrExpired, ErrUnavailable (may be repeated).
func (s *Store) Claim(ctx context.Context, sid, secret string, owner Ref, caps string) (Claimed, error) {
	steps, err := s.chain(ctx, ownClaim, ownCall(owner, sid),
		call{claimScript, []string{sessionKey(sid), sessionRoomsKey(sid)}, []any{secret, owner.Node, owner.Boot, caps}})
	if err == nil {
		err = verdict(last(steps))
	}
	if err != nil {
		return Claimed{}, err
	}
	return s.claimed(ctx, owner, sid, last(steps))
}

// Retake looks at a session that a node holds, after the node was cut off: it
// returns the session's gen, one higher if a sweep had detached it. May be repeated.
//
// Errors: ErrMoved, ErrGone, ErrUnavailable.
func (s *Store) Retake(ctx context.Context, owner Ref, sid string, gen uint64) (now uint64, taken bool, err error) {
	if err := s.own(ctx, owner, sid); err != nil {
		return 0, false, err
	}
	a, err := s.run(ctx, retakeScript, []string{sessionKey(sid)}, owner.Node, owner.Boot, gen)
	if err == nil {
		err = verdict(a)
	}
	if err != nil {
		return 0, false, err
	}
	if a.status() == "taken" { // once more, as in Claim
		err = s.own(ctx, owner, sid)
	}
	return a.uint(1), a.status() == "taken", err
}

// Detach says that a session's socket is gone; gen 0 is for the sweep of a
// dead owner. The session keeps its rooms until the grace ends. May be repeated.
//
// Errors: ErrMoved and ErrGone (nothing to do), ErrUnavailable.
func (s *Store) Detach(ctx context.Context, owner Ref, sid string, gen uint64) error {
	grace := s.cfg.Grace.Milliseconds()
	// The index first: a node that dies in between leaves a session that both
	// lists name, and the index forgets one that is live.
	if err := s.later(ctx, sid, grace+indexMargin); err != nil {
		return err
	}
	a, err := s.run(ctx, detachScript, []string{sessionKey(sid)}, owner.Node, owner.Boot, gen, grace)
	if err == nil {
		err = verdict(a)
	}
	if errors.Is(err, ErrUnavailable) {
		return err
	}
	return errors.Join(err, s.Disown(ctx, owner, sid))
}

// indexMargin keeps a sweep, in ms, from looking a moment before the grace is
// over, which the record counts from a little later than the index.
const indexMargin = 20

func (s *Store) later(ctx context.Context, sid string, ms int64) error {
	_, err := s.run(ctx, laterScript, []string{detachedKey(shardOf(sid))}, sid, ms)
	return err
}

// Refresh stores what a new token says. May be repeated.
//
// Errors: ErrMoved, ErrGone, ErrUnavailable.
func (s *Store) Refresh(ctx context.Context, sid string, gen uint64, expires time.Time, globs []string) error {
	raw, err := json.Marshal(globs, json.FormatNilSliceAsNull(true))
	if err != nil {
		return fmt.Errorf("encode globs: %w", err)
	}
	a, err := s.run(ctx, refreshScript, []string{sessionKey(sid)}, gen, "exp", expires.UnixMilli(), "globs", string(raw))
	if err != nil {
		return err
	}
	return verdict(a)
}
