package fleet

import (
	"context"
	"errors"
	"fmt"

	"godwit/store"
)

var (
	// ErrNoRoom says that there is no room of that name.
	ErrNoRoom = errors.New("no such room")
	// ErrNoMember says that a client is not in a room.
	ErrNoMember = errors.New("no such member")
)

// Room is a room, and who is in it.
type Room struct {
	store.RoomState
	Members []Member       // at most store.MembersTold
	Callers []store.Member // who is in the call, as many
}

// Member is a client in a room, and where its session is.
type Member struct {
	store.Member
	At store.Attachment
}

// Rooms lists rooms by name, see store.Rooms.
//
// Errors: store.ErrUnavailable.
func (f *Fleet) Rooms(ctx context.Context, prefix, after string, most int) (rooms []store.RoomState, next string, more bool, err error) {
	return f.store.Rooms(ctx, prefix, after, most)
}

// Room tells of one room.
//
// Errors: ErrNoRoom, store.ErrUnavailable.
func (f *Fleet) Room(ctx context.Context, name string) (Room, error) {
	state, err := f.store.State(ctx, name)
	if err != nil {
		return Room{}, inRoom(name, err)
	}
	info, err := f.store.Info(ctx, name)
	if err != nil {
		return Room{}, inRoom(name, err)
	}
	sids := make([]string, len(info.Members))
	for i, m := range info.Members {
		sids[i] = m.Session
	}
	places, err := f.store.Attached(ctx, sids)
	if err != nil {
		return Room{}, err
	}
	r := Room{RoomState: state, Members: make([]Member, len(sids)), Callers: info.Callers}
	for i, m := range info.Members {
		r.Members[i] = Member{m, places[i]}
	}
	return r, nil
}

// Log reads a room's log from the entry behind `after`, at most `most` entries.
//
// Errors: ErrNoRoom, store.ErrUnavailable.
func (f *Fleet) Log(ctx context.Context, room string, after uint64, most int) (store.Page, error) {
	p, err := f.store.Read(ctx, room, after+1, 1<<53, most)
	if err == nil && p.Epoch == "" {
		err = store.ErrWiped
	}
	return p, inRoom(room, err)
}

// Say sends a message of the system's, once for a key that is not empty.
//
// Errors: ErrNoRoom, Conflict (nobody there that it is for, or the key was of
// another message), store.ErrUnavailable.
func (f *Fleet) Say(ctx context.Context, room, key string, d store.Draft) (store.Sent, error) {
	sent, err := f.store.Say(ctx, room, key, d)
	switch {
	case errors.Is(err, store.ErrNoRecipient):
		return sent, conflict("nobody is in room %s that the message is for", room)
	case errors.Is(err, store.ErrMismatch):
		return sent, conflict("the Idempotency-Key was used for another message in room %s", room)
	}
	return sent, inRoom(room, err)
}

// Kick puts a client out of a room.
//
// Errors: ErrNoRoom, ErrNoMember, store.ErrUnavailable.
func (f *Fleet) Kick(ctx context.Context, room string, client uint32) error {
	err := f.store.Kick(ctx, room, client)
	if errors.Is(err, store.ErrNotMember) {
		return fmt.Errorf("%w: client %d of room %s", ErrNoMember, client, room)
	}
	return inRoom(room, err)
}

// CloseRoom puts everybody out of a room. One that is empty is closed already.
//
// Errors: ErrNoRoom, store.ErrUnavailable.
func (f *Fleet) CloseRoom(ctx context.Context, room string) error {
	err := f.store.CloseRoom(ctx, room)
	if errors.Is(err, store.ErrEmpty) {
		return nil
	}
	return inRoom(room, err)
}

// inRoom is the store's error about a room, as operators hear of it.
func inRoom(name string, err error) error {
	if errors.Is(err, store.ErrWiped) {
		return fmt.Errorf("%w: %s", ErrNoRoom, name)
	}
	return err
}
