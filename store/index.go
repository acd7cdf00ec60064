package store

import (
	"context"
	"slices"

	"github.com/redis/go-redis/v9"
)

// RoomState is how a room stands, for who looks at it from outside.
type RoomState struct {
	Room    string
	Epoch   string
	Seq     uint64
	InCall  bool
	Members int
	Entries int // that the log keeps
}

// index lists a room. It goes out before what is written to the room next, in
// the same round trip at best, and nobody waits for it: a room that is not
// listed is one that a list does not show until the next one joins.
func (s *Store) index(ctx context.Context, room string) {
	l := s.lane(room)
	if s.cluster != nil { // a primary of its own has it, which may be away
		l = s.laneAt(roomsKey(shardOf(room)))
	}
	l.submit(context.WithoutCancel(ctx), &write{call: indexCall(room), done: func(_ answer, err error) {
		if err != nil {
			s.cfg.Logger.Debug("room not listed", "room", room, "error", err)
		}
	}})
}

func indexCall(room string) call {
	return call{indexScript, []string{roomsKey(shardOf(room))}, []any{room}}
}

// Rooms lists rooms whose names begin with prefix, in the order of their bytes,
// from the first one behind `after`, at most `most` of them. More says that
// others follow the last one looked at, which is next: a room that has ended
// meanwhile is not among those told. May be repeated.
func (s *Store) Rooms(ctx context.Context, prefix, after string, most int) (rooms []RoomState, next string, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	lo := "[" + prefix
	if after >= prefix && after != "" {
		lo = "(" + after
	}
	pipe := s.rdb.Pipeline()
	found := make([]*redis.StringSliceCmd, Shards)
	for i := range found {
		found[i] = pipe.ZRangeByLex(ctx, roomsKey(i), &redis.ZRangeBy{
			Min: lo, Max: "[" + prefix + "\xff", Count: int64(most) + 1, // no name has that byte
		})
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, "", false, unavailable("list rooms", err)
	}
	var names []string
	for _, f := range found {
		names = append(names, f.Val()...)
	}
	slices.Sort(names)
	if len(names) > most {
		names, more = names[:most], true
	}
	if len(names) == 0 {
		return nil, "", false, nil
	}
	states, err := s.states(ctx, names)
	if err != nil {
		return nil, "", false, err
	}
	var ended []string
	for _, r := range states {
		if r.Epoch == "" {
			ended = append(ended, r.Room)
			continue
		}
		rooms = append(rooms, r)
	}
	return rooms, names[len(names)-1], more, s.unindex(ctx, ended)
}

// State reads how a room stands. May be repeated.
//
// Errors: ErrWiped (there is no such room), ErrUnavailable.
func (s *Store) State(ctx context.Context, room string) (RoomState, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	all, err := s.states(ctx, []string{room})
	switch {
	case err != nil:
		return RoomState{}, err
	case all[0].Epoch == "":
		return RoomState{}, ErrWiped
	}
	return all[0], nil
}

// states reads how rooms stand, once who is late is out of their calls: no node
// looks after a room in which it has no member.
func (s *Store) states(ctx context.Context, names []string) ([]RoomState, error) {
	pipe := s.rdb.Pipeline()
	var now *redis.TimeCmd
	if s.cluster == nil { // each primary of a Cluster has its own: the script looks at it
		now = pipe.Time(ctx)
	}
	metas := make([]*redis.SliceCmd, len(names))
	members, entries := make([]*redis.IntCmd, len(names)), make([]*redis.IntCmd, len(names))
	for i, room := range names {
		k := keysOfRoom(room)
		metas[i] = pipe.HMGet(ctx, k.meta(), "epoch", "seq", "in_call", "call_due")
		members[i], entries[i] = pipe.HLen(ctx, k.members()), pipe.XLen(ctx, k.log())
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, unavailable("read rooms", err)
	}
	out := make([]RoomState, len(names))
	var late []int
	var looks []call
	for i, room := range names {
		v := answer(metas[i].Val())
		if due := v.uint(3); due != 0 && (now == nil || now.Val().UnixMilli() >= int64(due)) {
			late, looks = append(late, i), append(looks, s.roomCall(beatScript, room, Known{}, 0))
		}
		out[i] = RoomState{
			Room: room, Epoch: v.text(0), Seq: v.uint(1), InCall: v.text(2) == "1",
			Members: int(members[i].Val()), Entries: int(entries[i].Val()),
		}
	}
	answers, err := s.runAll(ctx, looks)
	if err != nil {
		return nil, err
	}
	for j, a := range answers {
		if r := &out[late[j]]; a.status() == "ok" {
			r.Entries += int(a.uint(5))
			r.Epoch, r.Seq, r.InCall = a.text(1), a.uint(2), a.text(3) == "1"
		}
	}
	return out, nil
}

// unindex takes rooms that have ended off the index. One that begins again
// meanwhile is listed behind its beginning, so a second look finds it.
func (s *Store) unindex(ctx context.Context, ended []string) error {
	if len(ended) == 0 {
		return nil
	}
	pipe := s.rdb.Pipeline()
	for _, room := range ended {
		pipe.ZRem(ctx, roomsKey(shardOf(room)), room)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return unavailable("unlist rooms", err)
	}
	states, err := s.states(ctx, ended)
	if err != nil {
		return err
	}
	for _, r := range states {
		if r.Epoch != "" {
			s.index(ctx, r.Room)
		}
	}
	return nil
}
