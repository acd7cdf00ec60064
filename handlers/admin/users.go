package admin

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"godwit/server/fleet"
)

type users interface {
	User(ctx context.Context, name string) (fleet.User, error)
	SignOut(ctx context.Context, name string) error
}

type contacts interface {
	Contacts(ctx context.Context, user string) ([]string, error)
	SetContacts(ctx context.Context, user string, contacts []string) ([]string, error)
}

// User is a user as operators see it.
type User struct {
	User     string    `json:"user"`
	Handle   string    `json:"handle" doc:"for the binary dialects"`
	Presence uint8     `json:"presence" doc:"what others see of all its devices; 0: offline, or invisible"`
	PV       uint64    `json:"pv" doc:"grows with each change of the presence; 0: none is known"`
	Devices  []Device  `json:"devices" doc:"that count for its presence"`
	Sessions []Session `json:"sessions"`
	Rooms    []string  `json:"rooms" doc:"that any of its sessions is in"`
}

// Device is a device of a user.
type Device struct {
	Client   uint32    `json:"client" format:"int64"`
	Device   string    `json:"device,omitempty" doc:"what its session calls it"`
	Session  string    `json:"session"`
	Presence uint8     `json:"presence" doc:"what it was set to"`
	Auto     bool      `json:"auto" doc:"an idle timer set it, not the user"`
	Since    time.Time `json:"since" doc:"when it was set"`
}

func userOf(u fleet.User) User {
	out := User{
		User: u.User, Handle: u.Handle, Presence: u.Value, PV: u.PV,
		Devices: make([]Device, len(u.Devices)), Sessions: make([]Session, len(u.Sessions)), Rooms: []string{},
	}
	called := make(map[string]string, len(u.Sessions))
	for i, s := range u.Sessions {
		out.Sessions[i], called[s.ID] = sessionOf(s.Session, s.Rooms), s.Device
		out.Rooms = append(out.Rooms, s.Rooms...)
	}
	slices.Sort(out.Rooms)
	out.Rooms = slices.Compact(out.Rooms)
	for i, d := range u.Devices {
		out.Devices[i] = Device{
			Client: d.Client, Device: called[d.Session], Session: d.Session, Presence: d.Value, Auto: d.Auto, Since: time.UnixMilli(d.At).UTC(),
		}
	}
	return out
}

// Contacts are whose presence a user sees.
type Contacts struct {
	Contacts []string `json:"contacts" nullable:"false" doc:"users, by name; the whole list"`
}

// UserName is the user that a path names.
type UserName struct {
	User string `path:"user" doc:"its name, the sub of its tokens"`
}

// contactMost is what a contact takes in a body at most, in bytes: 128 bytes,
// each of them escaped.
const contactMost = 6*128 + 4

func (a *api) serveUsers(h huma.API, most int) {
	huma.Register(h, operation(http.MethodGet, "/users/{user}", "read-user", "One user: its presence, devices, sessions and rooms"),
		func(ctx context.Context, in *UserName) (*answer[User], error) {
			u, err := a.fleet.User(ctx, in.User)
			if err != nil {
				return nil, a.failed(err)
			}
			return &answer[User]{userOf(u)}, nil
		})
	huma.Register(h, operation(http.MethodDelete, "/users/{user}/sessions", "sign-out-user",
		"Sign a user out everywhere: each session ends, and its socket is closed 4403", done),
		func(ctx context.Context, in *UserName) (*struct{}, error) {
			return nil, a.failed(a.fleet.SignOut(ctx, in.User))
		})
	huma.Register(h, operation(http.MethodGet, "/users/{user}/contacts", "read-contacts", "Whose presence a user sees"),
		func(ctx context.Context, in *UserName) (*answer[Contacts], error) {
			list, err := a.fleet.Contacts(ctx, in.User)
			return a.contacts(list, err)
		})
	long := func(op *huma.Operation) { op.MaxBodyBytes = max(bodyMost, int64(most)*contactMost) }
	huma.Register(h, operation(http.MethodPut, "/users/{user}/contacts", "replace-contacts", "Replace whose presence a user sees, at once", long),
		func(ctx context.Context, in *struct {
			UserName
			Body Contacts
		},
		) (*answer[Contacts], error) {
			list, err := a.fleet.SetContacts(ctx, in.User, in.Body.Contacts)
			return a.contacts(list, err)
		})
}

func (a *api) contacts(list []string, err error) (*answer[Contacts], error) {
	if err != nil {
		return nil, a.failed(err)
	}
	return &answer[Contacts]{Contacts{append([]string{}, list...)}}, nil
}
