package presence

import (
	"iter"
	"slices"
)

// setFew is up to how many a set has in a row. Nearly all have one or two, and a map of
// one has room for eight.
const setFew = 8

// set is a set that costs little while it is small. The zero value is empty.
type set[K comparable] struct {
	few  []K
	many map[K]struct{} // from setFew+1 on, until it is empty again
}

func (s *set[K]) len() int { return len(s.few) + len(s.many) }

func (s *set[K]) has(k K) bool {
	if s.many != nil {
		_, there := s.many[k]
		return there
	}
	return slices.Contains(s.few, k)
}

func (s *set[K]) add(k K) {
	switch {
	case s.has(k):
	case s.many != nil:
		s.many[k] = struct{}{}
	case len(s.few) < setFew:
		s.few = append(s.few, k)
	default:
		s.many = make(map[K]struct{}, 2*setFew)
		for _, each := range append(s.few, k) {
			s.many[each] = struct{}{}
		}
		s.few = nil
	}
}

func (s *set[K]) remove(k K) {
	if s.many != nil {
		if delete(s.many, k); len(s.many) == 0 {
			s.many = nil
		}
		return
	}
	if i := slices.Index(s.few, k); i >= 0 {
		last := len(s.few) - 1
		s.few[i] = s.few[last]
		clear(s.few[last:])
		s.few = s.few[:last]
	}
}

// all is each of the set, in no order. That one may be removed meanwhile, and no other
// be added or removed.
func (s *set[K]) all() iter.Seq[K] {
	return func(yield func(K) bool) {
		for k := range s.many {
			if !yield(k) {
				return
			}
		}
		for i := len(s.few) - 1; i >= 0; i-- { // who takes the place of one removed had its turn
			if !yield(s.few[i]) {
				return
			}
		}
	}
}
