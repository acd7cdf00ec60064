// Package watch is what time does to a node: the lease it lives by, the
// sessions its sockets have left, the sweep of those whose grace is over and of
// those whose node is dead, and the look at whether its own are still its own.
//
// Each duty has a Run(ctx). None of them decides what may be written: that is
// the store's, by gen. A duty that fails is tried again; a store that is away
// delays it and never changes its outcome.
package watch
