package migrations

import (
	"context"
	"fmt"
	"strconv"

	"godwit/store"
)

// roomsPart is how many keys one part of the walk looks at.
const roomsPart = 500

// indexRooms lists the rooms that were there before joins did so.
var indexRooms = Step{
	Name: "list every room in the index",
	Run: func(ctx context.Context, st *store.Store, cursor string, reached func(string, int) error) error {
		return walk(ctx, st, cursor, func(rooms []string, next string, done int) error {
			if err := st.IndexRooms(ctx, rooms); err != nil {
				return err
			}
			return reached(next, done)
		})
	},
	Verify: func(ctx context.Context, st *store.Store) (wrong int, example string, err error) {
		err = walk(ctx, st, "", func(rooms []string, _ string, _ int) error {
			missing, err := st.Unindexed(ctx, rooms)
			if wrong += len(missing); len(missing) > 0 {
				example = fmt.Sprintf("%q", missing[0])
			}
			return err
		})
		return wrong, example, err
	},
}

// walk walks over every room from a cursor on.
func walk(ctx context.Context, st *store.Store, cursor string, part func(rooms []string, next string, done int) error) error {
	at, err := strconv.ParseUint(cursor, 10, 64)
	if cursor != "" && err != nil {
		return fmt.Errorf("a cursor that this step has not written: %q", cursor)
	}
	for done := 0; ; {
		rooms, next, err := st.ScanRooms(ctx, at, roomsPart)
		if err != nil {
			return err
		}
		done += len(rooms)
		if err := part(rooms, strconv.FormatUint(next, 10), done); err != nil {
			return err
		}
		if at = next; at == 0 {
			return nil
		}
	}
}
