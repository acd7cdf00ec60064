package migrations

import (
	"context"
	"errors"
	"fmt"

	"godwit/store"
)

// Step is one migration.
type Step struct {
	// Name says what it does.
	Name string
	// Needs is the Schema that a node must know once it is done.
	Needs int
	// Run goes on from a place, the zero one is the beginning, and says after
	// each part how far it is.
	Run func(ctx context.Context, st *store.Store, from Place, reached func(at Place, done int) error) error
	// Verify counts what it should have changed and has not, with an example.
	Verify func(ctx context.Context, st *store.Store) (wrong int, example string, err error)
}

// Place is how far a step is: a cursor, and the life of the server that gave it.
// In another life it means nothing.
type Place struct{ Cursor, Life string }

// Steps are all of them: the first makes version 1.
var Steps = []Step{indexRooms}

var (
	// ErrTooNew says that a store was migrated past what this binary knows.
	ErrTooNew = errors.New("the keyspace is too new for this binary")
	// ErrTooOld says that a store is older than this binary can work on.
	ErrTooOld = errors.New("the keyspace is too old for this binary")
)

// Check says whether a node of this version may work on the store, and whether
// there are steps to be done.
//
// Errors: ErrTooNew, ErrTooOld, store.ErrUnavailable.
func Check(ctx context.Context, st *store.Store) (pending bool, err error) {
	l, err := st.Layout(ctx)
	if err != nil {
		return false, err
	}
	return check(l, store.Schema, store.OldestSchema)
}

func check(l store.Layout, knows, oldest int) (pending bool, err error) {
	switch {
	case l.Needs > knows:
		return false, fmt.Errorf("%w: it needs version %d, this one knows %d; start a newer binary", ErrTooNew, l.Needs, knows)
	case l.Version < oldest:
		return false, fmt.Errorf("%w: it is at version %d, this one works from %d on; first run: godwit migrate up", ErrTooOld, l.Version, oldest)
	}
	return l.Version < knows, nil
}

// Progress is how far a step is.
type Progress struct {
	Step int
	Name string
	Done int // things looked at in this run
	Over bool
}

// Up does the steps that are to be done, and tells of each part. Two may run at
// once: each part may be done twice.
//
// Errors: ErrTooNew, store.ErrUnavailable, and what a step finds.
func Up(ctx context.Context, st *store.Store, tell func(Progress)) error {
	l, err := st.Layout(ctx)
	if err != nil {
		return err
	}
	if _, err := check(l, store.Schema, 0); err != nil {
		return err
	}
	for i := l.Version; i < len(Steps); i++ {
		number, step := i+1, Steps[i]
		var from Place
		if l.Step == number {
			from = Place{l.Cursor, l.Life}
		}
		p := Progress{Step: number, Name: step.Name}
		err := step.Run(ctx, st, from, func(at Place, done int) error {
			p.Done = done
			tell(p)
			return st.Reached(ctx, number, at.Cursor, at.Life)
		})
		if err != nil {
			return fmt.Errorf("step %d (%s): %w", number, step.Name, err)
		}
		if err := st.Migrated(ctx, number, step.Needs); err != nil {
			return err
		}
		p.Over = true
		tell(p)
	}
	return nil
}

// Verify looks at what the steps that were done have left, and returns what is
// wrong, a line each.
func Verify(ctx context.Context, st *store.Store) (wrong []string, err error) {
	l, err := st.Layout(ctx)
	if err != nil {
		return nil, err
	}
	for i := range min(l.Version, len(Steps)) {
		n, example, err := Steps[i].Verify(ctx, st)
		if err != nil {
			return nil, fmt.Errorf("step %d (%s): %w", i+1, Steps[i].Name, err)
		}
		if n > 0 {
			wrong = append(wrong, fmt.Sprintf("step %d (%s): %d left over, %s among them", i+1, Steps[i].Name, n, example))
		}
	}
	return wrong, nil
}
