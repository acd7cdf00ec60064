// Package client is the Go SDK: one session of a user, kept alive over any
// number of sockets.
//
// It owns what a client must remember so that nothing is lost, doubled or
// reordered: the session and its secret, each room's position (the last event
// received), and the sends that are not answered yet. It decides when to dial
// again, how long to wait, and what to repeat. It does not decide what a
// message means, and it stores nothing on disk.
//
// A session's states:
//
//	            Dial                       Close, 1000, 1003, 1007, 1009, 41xx, 44xx
//	offline ------------> attached ----------------------------------------> ended
//	                      |     ^                                              ^
//	       any other code |     | resume; hello when the session is gone       |
//	                      v     | (4300, 4301, no_session, token_expired)      |
//	                      detached --------------------------------------------+
//
// The application sees one ordered stream of events over all rooms (Next,
// Events). Where the stream of a room cannot be whole, it says so: Gap,
// wire.Reset, Lost. There is no silent hole.
//
// Files: conn.go and gather.go are one socket; client.go, attach.go and
// policy.go are the session over its sockets; request.go, room.go and sends.go
// are what is repeated until it is answered; events.go is the stream.
package client
