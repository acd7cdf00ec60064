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
	Run: func(ctx context.Context, st *store.Store, from Place, reached func(Place, int) error) error {
		return walk(ctx, st, from, func(rooms []string, next Place, done int) error {
			if err := st.IndexRooms(ctx, rooms); err != nil {
				return err
			}
			return reached(next, done)
		})
	},
	Verify: func(ctx context.Context, st *store.Store) (wrong int, example string, err error) {
		life := ""
		err = walk(ctx, st, Place{}, func(rooms []string, next Place, _ int) error {
			if next.Life != life { // whatever was counted is counted again
				wrong, example, life = 0, "", next.Life
			}
			missing, err := st.Unindexed(ctx, rooms)
			if wrong += len(missing); len(missing) > 0 {
				example = fmt.Sprintf("%q", missing[0])
			}
			return err
		})
		return wrong, example, err
	},
}

// walk walks over every room from a place on. When the server is another process
// than the one that gave the place, restarted or a replica that took its part, it
// begins anew: a cursor leads nowhere there, and passes rooms over.
func walk(ctx context.Context, st *store.Store, from Place, part func(rooms []string, next Place, done int) error) error {
	at, err := strconv.ParseUint(from.Cursor, 10, 64)
	if from.Cursor != "" && err != nil {
		return fmt.Errorf("a cursor that this step has not written: %q", from.Cursor)
	}
	life, err := st.Life(ctx)
	if err != nil {
		return err
	}
	if life != from.Life {
		at = 0
	}
	for done := 0; ; {
		rooms, next, err := st.ScanRooms(ctx, at, roomsPart)
		if err != nil {
			return err
		}
		now, err := st.Life(ctx)
		if err != nil {
			return err
		}
		if now != life {
			life, at, done = now, 0, 0
			continue
		}
		done += len(rooms)
		if err := part(rooms, Place{strconv.FormatUint(next, 10), life}, done); err != nil {
			return err
		}
		if at = next; at == 0 {
			return nil
		}
	}
}
