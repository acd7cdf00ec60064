package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"godwit/store"
)

// Wrong says what is wrong with what is asked for.
type Wrong struct{ Why string }

func (w *Wrong) Error() string { return w.Why }

// userMost is the longest name of a user, in bytes.
const userMost = 128

// checkUser says what is wrong with a user's name.
func checkUser(what, name string) error {
	switch {
	case name == "":
		return &Wrong{what + " is empty"}
	case len(name) > userMost:
		return &Wrong{fmt.Sprintf("%s has %d bytes, at most %d are allowed", what, len(name), userMost)}
	case !utf8.ValidString(name):
		return &Wrong{what + " is not UTF-8"}
	}
	return nil
}

// Contacts are a user's contacts, sorted; a user that has never logged in has
// none.
//
// Errors: Wrong, store.ErrUnavailable.
func (f *Fleet) Contacts(ctx context.Context, user string) ([]string, error) {
	if err := checkUser("the user", user); err != nil {
		return nil, err
	}
	got, err := f.store.Contacts(ctx, []string{user})
	if err != nil {
		return nil, err
	}
	slices.Sort(got[0])
	return got[0], nil
}

// SetContacts replaces a user's contacts, and returns them as Contacts does. The
// user's sessions see whom it adds at once. May be repeated.
//
// Errors: Wrong, store.ErrUnavailable.
func (f *Fleet) SetContacts(ctx context.Context, user string, contacts []string) ([]string, error) {
	if err := checkUser("the user", user); err != nil {
		return nil, err
	}
	for i, c := range contacts {
		if err := checkUser(fmt.Sprintf("contact %d", i), c); err != nil {
			return nil, err
		}
	}
	list := slices.Clone(contacts)
	slices.Sort(list)
	list = slices.Compact(list)
	err := f.store.PutContacts(ctx, user, list)
	if errors.Is(err, store.ErrTooManyContacts) {
		return nil, &Wrong{fmt.Sprintf("%d contacts, at most %d are allowed (GODWIT_MAX_CONTACTS)", len(list), f.store.MaxContacts())}
	}
	return list, err
}
