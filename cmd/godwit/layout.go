package main

import (
	"context"
	"errors"

	"godwit/migrations"
	"godwit/store"
)

// layout reads of which version the keyspace is. Errors: one that unfit knows,
// of a keyspace that this version cannot work on; else it could not be read.
func (m *node) layout(ctx context.Context, st *store.Store) error {
	pending, err := migrations.Check(ctx, st)
	switch {
	case errors.Is(err, migrations.ErrTooNew), errors.Is(err, migrations.ErrTooOld):
		return usage{err}
	case err != nil:
		return err
	case pending:
		m.log.Warn("the keyspace is of an older version, which this one can work on; when no older node is left, run: godwit migrate up")
	}
	return nil
}

// unfit says that no node of this version may work on the keyspace.
func unfit(err error) bool {
	var u usage
	return errors.As(err, &u)
}

// allowed is what the node asks before it joins, again and again until it has:
// whether it understands the others, and whether the keyspace, if that could not be
// read at first, is one that it can work on. One that refuses goes to cannot, once,
// and the node does not join.
func (m *node) allowed(st *store.Store, read bool, cannot chan<- error) func(context.Context) error {
	said := false
	return func(ctx context.Context) error {
		if err := st.Fits(ctx); err != nil {
			if !said && !errors.Is(err, store.ErrUnavailable) {
				said = true
				m.log.Warn("not joining the fleet yet", "error", err)
			}
			return err
		}
		if read { // and told of; what failed came after it
			return nil
		}
		err := m.layout(ctx, st)
		read = err == nil
		if unfit(err) {
			select {
			case cannot <- err:
			default:
			}
		}
		return err
	}
}
