// Package store is everything that Godwit keeps in Redis: the names of the
// keys, one Lua script beside each atomic operation, the lanes that gather
// writes, and the subscriber that hears what other nodes wrote.
//
// It decides what is atomic and what may be repeated. It does not decide what
// anything means: scripts read, check, write and return flat values, and the
// server gives them their meaning.
//
// All keys of one script share one hash tag, so each script runs on one slot
// of a Redis Cluster. Writes go through a client that never repeats a command:
// an answer that was lost is ErrUnavailable, its outcome unknown, and only the
// caller knows whether repeating is safe. Each operation says so.
package store
