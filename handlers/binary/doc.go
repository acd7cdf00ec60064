// Package binary is the two binary ways in: chatd, one room a connection, and
// statusd, presence. Both are views of the same rooms and users as /v1/ws.
//
// It decides what stands for what: which session call a command is, which
// command an event is, how opaque bytes and JSON stand for each other, and which
// reason a refusal has. How commands look is wire/chatd and wire/statusd; the
// connections are handlers/socket's, and what a call does is server/session's.
//
//	GET /v1/chatd/{room}, /v1/statusd
//	  token good?    no: 401 before the upgrade
//	  HELLO          -> a session, and chatd's is in the room
//	  RTMSG          -> room.send          room.event (message) -> RTMSG
//	  IN_CALL        -> call.beat          room.event (call)    -> IN_CALL
//	  SETPRES        -> presence.set       presence             -> PRES
package binary
