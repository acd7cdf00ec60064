// Package wire is the client protocol, version 1, as values: the methods and
// notifications with their parameters, the JSON-RPC 2.0 envelope that carries
// them on /v1/ws, the close codes and the error reasons.
//
// It decides what a frame is and what it says. It does not decide what a
// request does (server/session) or when a frame is written (handlers/socket).
// Golden frames in testdata are the promise to old clients: they are only
// added to.
//
//	client -> server   request {jsonrpc, id, method, params} or a batch array
//	server -> client   answer  {jsonrpc, id, result | error}
//	server -> client   notice  {jsonrpc, method, params}
package wire
