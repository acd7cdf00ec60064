package store

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Schema is the layout of the keyspace that this version of the code writes;
// OldestSchema is the oldest one that it can work on.
const (
	Schema       = 1
	OldestSchema = 0
)

// Layout is what a store says of its own.
type Layout struct {
	Version int // the last migration that was finished; 0: none, or from before they were numbered
	Needs   int // the Schema that a node must know at least
	Step    int // the migration under way; 0: none
	Cursor  string
	Life    string // of the server that gave the cursor
}

// Layout reads it; a store in which no node has been yet has this version's. May
// be repeated.
func (s *Store) Layout(ctx context.Context) (Layout, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	pipe := s.rdb.Pipeline()
	fields, marked := pipe.HGetAll(ctx, schemaKey), pipe.Exists(ctx, markerKey)
	if _, err := pipe.Exec(ctx); err != nil {
		return Layout{}, unavailable("read schema", err)
	}
	f := fields.Val()
	if len(f) == 0 && (marked.Val() == 0 || s.cluster != nil) { // no Cluster is from before they were numbered
		return Layout{Version: Schema}, nil
	}
	number := func(name string) int {
		n, _ := strconv.Atoi(f[name]) // absent: 0
		return n
	}
	return Layout{Version: number("version"), Needs: number("needs"), Step: number("step"), Cursor: f["cursor"], Life: f["life"]}, nil
}

// Reached notes how far a migration is, in the life of the server that gave the
// cursor. May be repeated.
func (s *Store) Reached(ctx context.Context, step int, cursor, life string) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	_, err := s.run(ctx, reachedScript, []string{schemaKey}, step, cursor, life)
	return err
}

// Migrated notes that a migration is finished, and which Schema a node must know
// from here on, unless that is known. May be repeated.
func (s *Store) Migrated(ctx context.Context, step, needs int) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	_, err := s.run(ctx, migratedScript, []string{schemaKey}, step, needs)
	return err
}

// Life names the process that the server is, in a Cluster those of all primaries.
// A cursor of ScanRooms means something in the life that gave it. May be repeated.
func (s *Store) Life(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	asked := []redis.Cmdable{s.rdb}
	if s.cluster != nil {
		all, err := s.cluster.primaries(ctx)
		if err != nil {
			return "", unavailable("find primaries", err)
		}
		asked = nil
		for _, c := range all {
			asked = append(asked, c)
		}
	}
	var lives []string
	for _, c := range asked {
		info, err := c.Info(ctx, "server").Result()
		if err != nil {
			return "", unavailable("read life of the server", err)
		}
		life := infoField(info, "run_id")
		if life == "" {
			return "", errors.New("read life of the server: INFO tells no run_id")
		}
		lives = append(lives, life)
	}
	return strings.Join(lives, " "), nil
}

// ScanRooms walks over every room that there is, some maybe twice, from cursor 0
// until it is 0 again, all of it in one Life. May be repeated. In a Cluster, slots must not be moved
// meanwhile: what moves may be passed over.
func (s *Store) ScanRooms(ctx context.Context, cursor uint64, most int) (rooms []string, next uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	scan := s.rdb.Scan
	if s.cluster != nil {
		scan = s.cluster.scan
	}
	keys, next, err := scan(ctx, cursor, "gw:{r:*}:meta", int64(most)).Result()
	if err != nil {
		return nil, 0, unavailable("scan rooms", err)
	}
	for _, key := range keys {
		rooms = append(rooms, key[len("gw:{r:"):len(key)-len("}:meta")])
	}
	return rooms, next, nil
}

// IndexRooms lists rooms. May be repeated.
func (s *Store) IndexRooms(ctx context.Context, rooms []string) error {
	calls := make([]call, len(rooms))
	for i, room := range rooms {
		calls[i] = indexCall(room)
	}
	_, err := s.runAll(ctx, calls)
	return err
}

// Unindexed are those of the rooms that are not listed. May be repeated.
func (s *Store) Unindexed(ctx context.Context, rooms []string) ([]string, error) {
	scores, err := readEach(ctx, s, "read room index", rooms, func(ctx context.Context, pipe redis.Pipeliner, room string) *redis.FloatCmd {
		return pipe.ZScore(ctx, roomsKey(shardOf(room)), room)
	})
	if err != nil {
		return nil, err
	}
	var out []string
	for i, cmd := range scores {
		if errors.Is(cmd.Err(), redis.Nil) {
			out = append(out, rooms[i])
		}
	}
	return out, nil
}
