// Package raw is a websocket client for tests that knows the protocol's words
// and nothing of its promises: it numbers no sends, resumes nothing and drops
// nothing. It is written on plain frames, apart from the client library and
// from the websocket library of the server, so that a mistake of theirs is not
// its own; and it can stop reading, which a library does not let one do.
package raw
