package session

import (
	"slices"
	"strings"
)

// row is some things by their names, in the names' order. Most sessions are in few
// rooms, and a map of one has room for eight. The zero value is empty.
type row[T interface{ Name() string }] []T

func (r row[T]) find(name string) (at int, there bool) {
	return slices.BinarySearchFunc(r, name, func(t T, name string) int { return strings.Compare(t.Name(), name) })
}

// of is the thing of that name, or none.
func (r row[T]) of(name string) (t T) {
	if i, there := r.find(name); there {
		t = r[i]
	}
	return t
}

// put adds a thing, instead of another of its name.
func (r *row[T]) put(t T) {
	i, there := r.find(t.Name())
	if there {
		(*r)[i] = t
		return
	}
	*r = slices.Insert(*r, i, t)
}

// drop takes the thing of that name away.
func (r *row[T]) drop(name string) {
	if i, there := r.find(name); there {
		*r = slices.Delete(*r, i, i+1)
	}
}
