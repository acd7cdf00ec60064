// Package move takes sessions from node to node: it chooses targets, asks them
// for a place, signs offers, and keeps places for the offers of others.
//
// It owns what is under way from and to this node. What an offer does to its
// session is server/session's; whether it was claimed, the store's; who may be
// a target, rules/drain's; how often a session may move, rules/redirect's.
package move
