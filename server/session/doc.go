// Package session is one session's attachment to one socket: it takes requests
// from the socket in order, decides what they may do, writes to the store, and
// hands what the rooms say to the socket.
//
// It owns the attachment: its gen, its seats, its replay. The session itself
// (who, where, until when) is the store's, and outlives it. It does not know
// how frames look (handlers) nor how order is made (server/relay).
//
//	Open(hello) ----> attached ----> Dropped: detached in the store, grace runs
//	Open(resume) -/      |
//	                     +--> bye, token expired: ended in the store
//	                     +--> replaced, moved: another socket has it
package session
