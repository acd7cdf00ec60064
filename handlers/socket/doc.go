// Package socket is the way in for JSON-RPC over websocket: the upgrade, the
// frames in and out, and the clock of each connection.
//
// It decides who may come in by Origin, what a frame is answered with, when a
// socket is too slow or too silent, and how what waits is written. What a
// request does is the session's; a node says whether it takes sockets at all.
//
//	reader (gws)  -> wire.ParseFrame -> Session.Call -> answer
//	rooms, answers -> outbox -> one write for all that waits -> kernel
//	wheel         -> hello timeout, ping, token expiry
package socket
