package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"godwit/server/fleet"
	"godwit/store"
)

type rooms interface {
	Rooms(ctx context.Context, prefix, after string, most int) (rooms []store.RoomState, next string, more bool, err error)
	Room(ctx context.Context, name string) (fleet.Room, error)
	Log(ctx context.Context, room string, after uint64, most int) (store.Page, error)
	Say(ctx context.Context, room, key string, d store.Draft) (store.Sent, error)
	Kick(ctx context.Context, room string, client uint32) error
	CloseRoom(ctx context.Context, room string) error
}

// RoomState is how a room stands.
type RoomState struct {
	Room        string `json:"room"`
	Epoch       string `json:"epoch"`
	Seq         uint64 `json:"seq" doc:"of the newest entry"`
	InCall      bool   `json:"in_call"`
	MemberCount int    `json:"member_count"`
	LogLength   int    `json:"log_length" doc:"entries that the log keeps"`
}

func roomStateOf(r store.RoomState) RoomState {
	return RoomState{Room: r.Room, Epoch: r.Epoch, Seq: r.Seq, InCall: r.InCall, MemberCount: r.Members, LogLength: r.Entries}
}

// Member is a client in a room.
type Member struct {
	User    string `json:"user"`
	Client  uint32 `json:"client" format:"int64"`
	Device  string `json:"device,omitempty"`
	Session string `json:"session"`
	Node    string `json:"node,omitempty" doc:"that holds its session, or held it last"`
	State   string `json:"state,omitempty" doc:"of its session: live, detached or ending"`
}

// Room is a room and who is in it.
type Room struct {
	RoomState
	Members []Member `json:"members"`
	More    bool     `json:"more" doc:"there are members that are not named"`
	Call    []Caller `json:"call" doc:"who is in the room's call"`
}

// Caller is a client in a room's call.
type Caller struct {
	User   string `json:"user"`
	Client uint32 `json:"client" format:"int64"`
}

// RoomName is the room that a path names.
type RoomName struct {
	Room string `path:"room" maxLength:"200" doc:"its name"`
}

func (a *api) serveRooms(h huma.API) {
	huma.Register(h, operation(http.MethodGet, "/rooms", "list-rooms", "The rooms of the fleet, by name"), a.listRooms)
	huma.Register(h, operation(http.MethodGet, "/rooms/{room}", "read-room", "One room, and who is in it"),
		func(ctx context.Context, in *RoomName) (*answer[Room], error) {
			r, err := a.fleet.Room(ctx, in.Room)
			if err != nil {
				return nil, a.failed(err)
			}
			out := Room{RoomState: roomStateOf(r.RoomState), Members: make([]Member, len(r.Members)), More: r.RoomState.Members > len(r.Members), Call: make([]Caller, len(r.Callers))}
			for i, m := range r.Members {
				out.Members[i] = Member{
					User: m.User, Client: m.Client, Device: m.Device, Session: m.Session, Node: m.At.Node, State: m.At.State,
				}
			}
			for i, m := range r.Callers {
				out.Call[i] = Caller{User: m.User, Client: m.Client}
			}
			return &answer[Room]{out}, nil
		})
	huma.Register(h, operation(http.MethodDelete, "/rooms/{room}", "close-room", "Put everybody out of a room, with one entry", done),
		func(ctx context.Context, in *RoomName) (*struct{}, error) {
			return nil, a.failed(a.fleet.CloseRoom(ctx, in.Room))
		})
	huma.Register(h, operation(http.MethodDelete, "/rooms/{room}/members/{client}", "kick-member", "Put one client out of a room", done),
		func(ctx context.Context, in *struct {
			RoomName
			Client uint32 `path:"client" format:"int64" maximum:"4294967295"`
		},
		) (*struct{}, error) {
			return nil, a.failed(a.fleet.Kick(ctx, in.Room, in.Client))
		})
}

func (a *api) listRooms(ctx context.Context, in *struct {
	Span
	Prefix string `query:"prefix" doc:"of the names that are asked for"`
},
) (*answer[list[RoomState]], error) {
	after, err := in.after()
	if err != nil {
		return nil, err
	}
	found, next, more, err := a.fleet.Rooms(ctx, in.Prefix, after, in.Limit)
	if err != nil {
		return nil, a.failed(err)
	}
	out := list[RoomState]{Items: make([]RoomState, len(found))}
	for i, r := range found {
		out.Items[i] = roomStateOf(r)
	}
	if more {
		out.Cursor = cursor(next)
	}
	return &answer[list[RoomState]]{out}, nil
}
