// Package presence knows who on this node may see whose presence, and tells
// them of each change once.
//
// It owns the view of each attached session: its user's contacts, and who is in
// its rooms, kept up with the rooms' logs. What a value is, is the store's
// (rules/presence); how the rooms' order is made, server/relay's.
//
//	            +-- attached here, with U in its contacts (fans)
//	sees U <----+-- in a room here that U is in (rosters)
//	            +-- attached here as U (self)
//
// Of each user that somebody here sees the board holds one value and its pv.
// Whoever sees the user was told exactly that value, so a change is told once,
// however many ways it comes by: all who see the user are found, and what is not
// newer is dropped. A user whom nobody sees any more is forgotten.
//
// What is not known yet is read by one loader, in batches: the contacts of a
// user that attaches, the roster of a room, the value of a user that somebody
// has come to see. A value may be read once the way by which its changes come is
// heard; so none is missed in between.
package presence
