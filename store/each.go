package store

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

// readEach asks one thing of each of many names, in one round trip. That there is
// nothing is an answer, redis.Nil, and the command's own. May be repeated where
// what is asked may. The error says what it was that could not be done.
func readEach[C redis.Cmder](ctx context.Context, s *Store, what string, names []string, ask func(context.Context, redis.Pipeliner, string) C) ([]C, error) {
	if len(names) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	pipe := s.rdb.Pipeline()
	all := make([]C, len(names))
	for i, name := range names {
		all[i] = ask(ctx, pipe, name)
	}
	_, err := pipe.Exec(ctx)
	failed := func() bool { return err != nil && !errors.Is(err, redis.Nil) }
	for i := 0; !failed() && i < len(all); i++ { // behind one that has nothing, another may have
		err = all[i].Err()
	}
	if failed() {
		return nil, unavailable(what, err)
	}
	return all, nil
}
