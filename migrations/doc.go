// Package migrations changes the keyspace from one version of the code to the
// next, in numbered steps, while nodes of both versions work on it.
//
// It owns the order of the steps, how far they are, and whether a node may work
// on a store. What a step does to keys is package store's.
//
// A change that both versions cannot read goes in three releases: expand (the
// new form is written beside the old one), move (a step here rewrites what is
// stored), contract (the old form is dropped; a node that only knows that one
// refuses to start). Each step may be killed anywhere and run again.
package migrations
