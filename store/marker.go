package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Marker reads the value that stands for this store's data, writing a new one
// where there is none. A node that finds another value than before knows that
// the store was wiped; in a Cluster, that a primary was.
func (s *Store) Marker(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	if s.cluster != nil {
		return s.markersOf(ctx)
	}
	a, err := s.run(ctx, markScript, []string{markerKey, schemaKey}, rand.Text(), Schema)
	if err != nil {
		return "", err
	}
	return a.text(1), nil
}

// pieces is how many markers a Cluster has besides, each for as many slots. A
// primary with fewer slots may have none, and then nobody sees that it was wiped.
const pieces = 64

// pieceTags are hash tags of which each has its slot in another piece.
var pieceTags = func() (tags [pieces]string) {
	for n, left := 0, pieces; left > 0; n++ {
		tag := "m:" + strconv.Itoa(n)
		if i := slotOf(tag) * pieces / slots; tags[i] == "" {
			tags[i] = tag
			left--
		}
	}
	return tags
}()

// markers are those that were read last, so that a primary which is away is not
// taken for one that was wiped.
type markers struct {
	mu    sync.Mutex
	known [pieces + 1]string // guarded by mu
}

// markersOf reads the markers of a Cluster as one.
func (s *Store) markersOf(ctx context.Context) (string, error) {
	keys := make([]string, 0, pieces+1)
	for _, tag := range pieceTags {
		keys = append(keys, pieceKey(tag))
	}
	keys = append(keys, markerKey)
	values, errs := s.marks(ctx, keys, nil)
	var missing []int
	for i := range keys {
		if errors.Is(errs[i], redis.Nil) {
			missing = append(missing, i)
		}
	}
	if len(missing) > 0 {
		// Where there is none: what no primary has lost has its layout, too.
		if err := s.rdb.HSetNX(ctx, schemaKey, "version", Schema).Err(); err != nil {
			return "", unavailable("write schema", err)
		}
		values, errs = s.marks(ctx, keys, missing)
	}
	s.markers.mu.Lock()
	defer s.markers.mu.Unlock()
	sum := sha256.New()
	for i, v := range values {
		if errs[i] == nil {
			s.markers.known[i] = v
		}
		if s.markers.known[i] == "" {
			return "", unavailable("read store marker", errs[i])
		}
		sum.Write([]byte(s.markers.known[i]))
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// marks reads markers, each with its error, after writing those that are missing.
func (s *Store) marks(ctx context.Context, keys []string, missing []int) ([]string, []error) {
	pipe := s.rdb.Pipeline()
	for _, i := range missing {
		pipe.SetNX(ctx, keys[i], rand.Text(), 0)
	}
	gets := make([]*redis.StringCmd, len(keys))
	for i, key := range keys {
		gets[i] = pipe.Get(ctx, key)
	}
	_, _ = pipe.Exec(ctx) // each has its own
	values, errs := make([]string, len(keys)), make([]error, len(keys))
	for i, get := range gets {
		values[i], errs[i] = get.Result()
	}
	return values, errs
}
