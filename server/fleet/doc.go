// Package fleet answers for any node of the fleet, whichever node is asked: how
// the nodes stand, what an operator asks of one of them, and how that goes.
//
// It owns nothing but who waits here for another node's word. What a node does
// when it is asked is package server's; what is written down on the way, the
// store's: an order stands in the record of the node it is for, and that node
// tells in a key of its own how it goes.
package fleet
