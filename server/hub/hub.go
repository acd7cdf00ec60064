// Package hub knows who is on this node: the registry of attached sessions,
// and the local members of each room with the fan-out to them.
//
// It decides nothing about order (server/relay) or about what a session may
// do (server/session), and it never waits for a socket.
package hub

import "sync"

// Registry holds the attached sessions of a node by id. The zero value is not
// ready: use NewRegistry.
type Registry[S comparable] struct {
	mu  sync.RWMutex
	all map[string]S // guarded by mu
}

// NewRegistry makes an empty registry.
func NewRegistry[S comparable]() *Registry[S] { return &Registry[S]{all: make(map[string]S)} }

// Put registers a session and returns the one that it takes the place of.
func (r *Registry[S]) Put(id string, s S) (previous S, replaced bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	previous, replaced = r.all[id]
	r.all[id] = s
	return previous, replaced
}

// Advance is Put, unless the session that is there is not older: then it stays.
func (r *Registry[S]) Advance(id string, s S, older func(there S) bool) (previous S, replaced, newest bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	previous, there := r.all[id]
	if there && !older(previous) {
		return previous, false, false
	}
	r.all[id] = s
	return previous, there, true
}

// Remove takes exactly this session away; one that took its place stays.
func (r *Registry[S]) Remove(id string, s S) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all[id] == s {
		delete(r.all, id)
	}
}

// Find returns the session with this id.
func (r *Registry[S]) Find(id string) (S, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	s, ok := r.all[id]
	return s, ok
}

// All is every session, in no order.
func (r *Registry[S]) All() []S {
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := make([]S, 0, len(r.all))
	for _, s := range r.all {
		out = append(out, s)
	}
	return out
}

// Len is the number of sessions.
func (r *Registry[S]) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.all)
}
