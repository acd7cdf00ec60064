// Package raw are websocket clients for tests that know the protocol's words
// and nothing of its promises: they number no sends, resume nothing and drop
// nothing. They are written on plain frames, apart from the client library and
// from the websocket library and the codecs of the server, so that a mistake of
// theirs is not their own; and they can stop reading, which a library does not
// let one do.
package raw
