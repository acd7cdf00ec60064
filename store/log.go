package store

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// Head is the newest entry of a room. TS is that of the entry asked about.
type Head struct {
	Epoch string // empty: there is no such room
	Seq   uint64
	// TS of the entry at the seq that was asked about, in ms; 0 when the log
	// no longer has it.
	TS int64
}

// Heads reads the heads of many rooms in one round trip, and beside each the
// time of the entry known. Each room has its head or its error: of a Cluster, some
// primaries may have answered, and others not. May be repeated.
func (s *Store) Heads(ctx context.Context, rooms []string, known []Known) ([]Head, []error) {
	if len(rooms) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	pipe := s.rdb.Pipeline()
	metas := make([]*redis.SliceCmd, len(rooms))
	entries := make([]*redis.XMessageSliceCmd, len(rooms))
	for i, room := range rooms {
		k := keysOfRoom(room)
		metas[i] = pipe.HMGet(ctx, k.meta(), "epoch", "seq")
		if known[i].Seq > 0 {
			id := entryID(known[i].Seq)
			entries[i] = pipe.XRange(ctx, k.log(), id, id)
		}
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	out, errs := make([]Head, len(rooms)), make([]error, len(rooms))
	for i := range rooms {
		err := metas[i].Err()
		if err == nil && entries[i] != nil {
			err = entries[i].Err()
		}
		if errs[i] = unavailable("read head", err); err != nil {
			continue
		}
		v := answer(metas[i].Val())
		out[i] = Head{Epoch: v.text(0), Seq: v.uint(1)}
		if entries[i] != nil && len(entries[i].Val()) == 1 {
			out[i].TS = stamp(entries[i].Val()[0])
		}
	}
	return out, errs
}

// Span is what the log holds around a position.
type Span struct {
	TS   int64 // of the entry at the position, ms; 0: not held
	Next bool  // the entry after the position is held
}

// Span reads what a room's log holds around a seq. May be repeated.
func (s *Store) Span(ctx context.Context, room string, seq uint64) (Span, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	found, err := s.rdb.XRangeN(ctx, keysOfRoom(room).log(), entryID(seq), entryID(seq+1), 2).Result()
	if err != nil {
		return Span{}, unavailable("read log", err)
	}
	var out Span
	oldest := s.oldest()
	for _, m := range found {
		ts := stamp(m)
		switch {
		case ts < oldest:
		case m.ID == entryID(seq):
			out.TS = ts
		default:
			out.Next = true
		}
	}
	return out, nil
}

// oldest is the time, in ms, before which entries are not kept; 0: no limit.
func (s *Store) oldest() int64 {
	if s.cfg.LogAge == 0 {
		return 0
	}
	return time.Now().Add(-s.cfg.LogAge).UnixMilli()
}

func entryID(seq uint64) string { return strconv.FormatUint(seq, 10) + "-0" }

func stamp(m redis.XMessage) int64 {
	text, _ := m.Values["t"].(string)
	ts, _ := strconv.ParseInt(text, 10, 64)
	return ts
}

// Announce says a room's head once more on its channel, for a node that missed
// the last entry. May be repeated.
func (s *Store) Announce(ctx context.Context, room, epoch string, seq uint64) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	err := s.tell(ctx, s.rdb, keysOfRoom(room).channel(), fmt.Sprintf("h %s %d", epoch, seq)).Err()
	return unavailable("announce head", err)
}

// Page is a part of a room's log.
type Page struct {
	// Epoch is the room's when the entries had been read, so entries of another
	// epoch are never taken for this one's; empty: there is no such room.
	Epoch   string
	Head    uint64
	Entries []Entry
}

// Read reads entries from seq `from` to `to`, both included, at most `count`,
// oldest first. Those older than the log's greatest age are not there. May be
// repeated.
func (s *Store) Read(ctx context.Context, room string, from, to uint64, count int) (Page, error) {
	return s.page(ctx, room, from, to, count, false)
}

// ReadBack is Read, newest first.
func (s *Store) ReadBack(ctx context.Context, room string, from, to uint64, count int) (Page, error) {
	return s.page(ctx, room, from, to, count, true)
}

// skipOld is how many entries are read at once to get past those that are too old.
const skipOld = 1000

func (s *Store) page(ctx context.Context, room string, from, to uint64, count int, back bool) (Page, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	oldest := s.oldest()
	var out Page
	for most := count; ; most = max(count, skipOld) {
		p, err := s.entries(ctx, room, from, to, most, back)
		if err != nil {
			return Page{}, err
		}
		if out.Epoch != "" && p.Epoch != out.Epoch {
			return Page{}, fmt.Errorf("read log of room %q, which was reset meanwhile: %w", room, ErrUnavailable)
		}
		read := len(p.Entries)
		if read > 0 {
			from = p.Entries[read-1].Seq + 1
		}
		young := slices.DeleteFunc(p.Entries, func(e Entry) bool { return e.TS < oldest })
		p.Entries = append(out.Entries, young...)
		p.Entries = p.Entries[:min(len(p.Entries), count)]
		if back || read < most || len(p.Entries) == count {
			return p, nil
		}
		out = p // what is too old stands before the rest until it is trimmed
	}
}

// entries is page with those that are too old.
func (s *Store) entries(ctx context.Context, room string, from, to uint64, count int, back bool) (Page, error) {
	k := keysOfRoom(room)
	lo, hi := entryID(from), entryID(to)
	pipe := s.rdb.Pipeline()
	var raw *redis.XMessageSliceCmd
	if back {
		raw = pipe.XRevRangeN(ctx, k.log(), hi, lo, int64(count))
	} else {
		raw = pipe.XRangeN(ctx, k.log(), lo, hi, int64(count))
	}
	meta := pipe.HMGet(ctx, k.meta(), "epoch", "seq")
	if _, err := pipe.Exec(ctx); err != nil {
		return Page{}, unavailable("read log", err)
	}
	v := answer(meta.Val())
	p := Page{Epoch: v.text(0), Head: v.uint(1)}
	for _, m := range raw.Val() {
		e, err := parseEntry(m.ID, m.Values)
		if err != nil {
			return Page{}, fmt.Errorf("read log of room %q: %w", room, err)
		}
		p.Entries = append(p.Entries, e)
	}
	return p, nil
}
