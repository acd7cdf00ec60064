package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

type contacts interface {
	Contacts(ctx context.Context, user string) ([]string, error)
	SetContacts(ctx context.Context, user string, contacts []string) ([]string, error)
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
