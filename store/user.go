package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"godwit/rules/presence"
)

// User is what is kept of a user while it has sessions.
type User struct {
	Presence
	Devices  []Device // by client
	Sessions []string // sorted; one without a record has ended
}

// Device is a device of a user's: a session that counts for its presence.
type Device struct {
	presence.Device
	Client  uint32
	Session string
}

// User reads a user's presence, devices and sessions, in one round trip: of one
// who was never seen, nothing. May be repeated.
func (s *Store) User(ctx context.Context, name string) (User, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	k := keysOfUser(name)
	pipe := s.rdb.Pipeline()
	seen := pipe.HMGet(ctx, k.presence(), "value", "pv")
	rows := pipe.HGetAll(ctx, k.devices())
	sessions := pipe.SMembers(ctx, k.sessions())
	if _, err := pipe.Exec(ctx); err != nil {
		return User{}, unavailable("read user", err)
	}
	v := answer(seen.Val())
	u := User{Presence: Presence{User: name, Value: uint8(v.uint(0)), PV: v.uint(1)}, Sessions: sessions.Val()}
	slices.Sort(u.Sessions)
	for client, row := range rows.Val() {
		d, err := parseDevice(client, row)
		if err != nil {
			return User{}, fmt.Errorf("read device %s of a user: %w", client, err)
		}
		u.Devices = append(u.Devices, d)
	}
	slices.SortFunc(u.Devices, func(a, b Device) int { return cmp.Compare(a.Client, b.Client) })
	return u, nil
}

// parseDevice reads a row that user.lua describes.
func parseDevice(client, row string) (Device, error) {
	id, err := strconv.ParseUint(client, 10, 32)
	if err != nil {
		return Device{}, err
	}
	d := Device{Client: uint32(id)}
	var gen uint64
	var b uint8
	if _, err := fmt.Sscanf(row, "%d %d %d %s", &gen, &b, &d.At, &d.Session); err != nil {
		return Device{}, err
	}
	d.Set = presence.Parse(b)
	return d, nil
}
