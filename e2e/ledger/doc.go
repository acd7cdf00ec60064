// Package ledger decides whether a conversation that ran through faults kept
// the promises of the protocol. Each client writes down what it sent, what it
// was answered and what it saw, in the order it happened to it; [Check] lays
// the ledgers beside each other and beside the rooms' logs.
//
// It does not talk to a server and has no clock. What it holds a fleet to, for
// each client and room:
//
//   - what was answered with a seq stands at that seq, once, and was seen
//     exactly once by everyone it was addressed to while they were members
//   - what is seen comes in the order of seq, and one (epoch, seq) is one
//     message for all
//   - nobody sees its own messages, nor what is addressed to another
//   - the sender that is shown is the sender
//   - a join or a leave that nobody made is seen by nobody
//   - what was refused is not there; a member is not told that it is none
//
// A client's time in a room is cut into spans:
//
//	joined(seq) --saw...saw--> reset | gap | lost | left
//	                             |
//	                             +--> the next span begins at the seq it names
//
// Inside a span there is no excuse. Between the last event of a span and the
// start of the next lies what a reset, a gap (recovered:false) or a lost
// session excuses, and nothing more.
//
// [Check] wants the whole of a talk. A [Tape] does the same for one room while
// it is talked in, for a talk that is too long to be kept.
package ledger
