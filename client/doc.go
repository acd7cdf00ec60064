// Package client is the Go SDK: one session of a user, kept alive over any
// number of sockets.
//
// It owns what a client must remember so that nothing is lost, doubled or
// reordered: the session and its secret, each room's position (the last event
// received), the sends that are not answered yet, and who is how present. It decides when to dial
// again, how long to wait, and what to repeat. It does not decide what a
// message means, and it stores nothing on disk.
//
// A session's states:
//
//	            Dial                  Close, 1000, 1003, 1007, 1009, 41xx but 4100, 44xx
//	offline ------------> attached ------------------------------------------> ended
//	                      |     ^                                                ^
//	       any other code |     | resume; hello when the session is gone         |
//	                      v     | (4300, 4301, no_session, token_expired)        |
//	                      detached ----------------------------------------------+
//
// An attached session may be led to another node, make before break:
//
//	CONNECTED --redirect--> CONSIDERS --> DIALING --handover--> HANDSHAKE --answer--> DUAL --> CONNECTED
//	    ^                      |           |                      |                        at the other
//	    +----------------------+-----------+----------------------+
//	                  whatever fails, with the old socket as it was
//
// From the answer on the new socket has the session; the old one is read until
// it ends, for 10 s at most. Each event is taken once, from whichever socket is
// ahead; what was not answered is repeated on the new one. What the client does
// on what:
//
//	offer of a foreign origin, or from wss to ws   redirect.refuse "url"
//	offer while another is dialled                 redirect.refuse "busy"; before that, the later one counts
//	dial fails, in 8 s                             redirect.refuse "dial"
//	handover answered same_node, HTTP 503          dials again, 6 times at most, while the offer lives
//	handover answered any other error              redirect.refuse with its reason
//	handover not answered in 5 s, or closed        redirect.refuse "closed"
//	redirect.cancel before the answer              drops the new socket
//	old socket ends, handover said                 waits for the answer; resume without one
//	old socket ends before                         resume
//	new socket ends after the answer               drops the old one; resume
//	moved, or 4100, with no handover under way     resume: the answer to handover was lost
//	4101                                           ends: another client has the session
//	answer of an earlier gen                       drops the socket it came on
//
// The application sees one ordered stream of events over all rooms (Next,
// Events). Where the stream of a room cannot be whole, it says so: Gap,
// wire.Reset, Lost. There is no silent hole. A redirect does not show in it;
// OnState tells of it.
//
// Files: conn.go and gather.go are one socket; client.go, run.go, attach.go and
// policy.go are the session over its sockets, redirect.go and origin.go its way
// to another node; request.go, room.go and sends.go are what is repeated until
// it is answered, call.go what is said again and again; notice.go and events.go
// are the stream; presence.go and idle.go are who is how present.
package client
