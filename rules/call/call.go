// Package call decides who is in a room's call, and whether the room is in a
// call at all: while clients of two users say so, each again within a time.
//
// It knows no clock and no members: when a beat came, and whose client it is,
// are arguments. The store's scripts do the same at Redis, where it must be
// decided atomically; this is what they are held against.
//
//	       the second user's beat
//	quiet ------------------------> in a call
//	  ^                                 |
//	  +---------------------------------+
//	   left, gone or late, all but one user's
package call

import (
	"maps"
	"slices"
	"time"
)

// Call is a room's call. The zero value is that of a room nobody calls in.
type Call struct {
	callers map[uint32]caller
	on      bool
}

// caller is a client in the call.
type caller struct {
	user string
	late time.Time // it is out from then on, unless it beats again
}

// Beat is a client's word that it is in the call, or has left it.
type Beat struct {
	Client uint32
	User   string
	In     bool
	At     time.Time // when it came
}

// Take takes beats, in the order in which they came, and says whether the flag
// has changed. Who is late is out only after that: a beat counts from when it
// came, however long it was on its way here.
func (c *Call) Take(now time.Time, timeout time.Duration, beats ...Beat) (changed bool) {
	for _, b := range beats {
		if !b.In {
			delete(c.callers, b.Client)
			continue
		}
		if c.callers == nil {
			c.callers = make(map[uint32]caller)
		}
		if late := b.At.Add(timeout); late.After(c.callers[b.Client].late) {
			c.callers[b.Client] = caller{b.User, late}
		}
	}
	return c.Expire(now)
}

// Leave takes a client out that is no member any more, and says whether the flag
// has changed.
func (c *Call) Leave(now time.Time, client uint32) (changed bool) {
	delete(c.callers, client)
	return c.Expire(now)
}

// Expire takes out who is late, and says whether the flag has changed.
func (c *Call) Expire(now time.Time) (changed bool) {
	maps.DeleteFunc(c.callers, func(_ uint32, one caller) bool { return !now.Before(one.late) })
	was := c.on
	c.on = c.twoUsers()
	return c.on != was
}

func (c *Call) twoUsers() bool {
	var first string
	for _, one := range c.callers {
		switch first {
		case "":
			first = one.user
		case one.user:
		default:
			return true
		}
	}
	return false
}

// On says whether the room is in a call.
func (c *Call) On() bool { return c.on }

// Clients are the clients in the call, in their order.
func (c *Call) Clients() []uint32 { return slices.Sorted(maps.Keys(c.callers)) }

// Next is when the first of them is late; the zero time when nobody is in.
func (c *Call) Next() (next time.Time) {
	for _, one := range c.callers {
		if next.IsZero() || one.late.Before(next) {
			next = one.late
		}
	}
	return next
}
