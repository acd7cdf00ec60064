// Package socket is the way in over websocket: the upgrade, the frames in and
// out, the clock of each connection; and JSON-RPC, which is spoken on /v1/ws.
//
// It decides who may come in by Origin, what a frame of JSON-RPC is answered
// with, when a socket is too slow or too silent, and how what waits is written.
// Other dialects (handlers/binary) speak over the same connections. What a
// request does is the session's; a node says whether it takes sockets at all.
//
//	reader (gws)  -> Dialect -> Session.Call -> answer
//	rooms, answers -> Dialect -> outbox -> one write for all that waits -> kernel
//	wheel         -> hello timeout, ping, token expiry
package socket
