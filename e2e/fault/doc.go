// Package fault stands between a node and its Redis and spoils what a network
// may spoil: it loses one fan-out message in n, exchanges two, goes deaf while
// the connection lives, stops all bytes, or cuts. And it holds a node at a step
// of its work, right before or after a command, so that a test can let something
// happen just then.
//
// Between a client and its nodes it does less: at a moment of a redirect a Line
// cuts sockets, or stops their bytes.
//
// It decides only what becomes of pub/sub messages whose channel it was told to
// spoil, and of the one command it was told to hold. It understands as much of RESP2
// and RESP3 as it takes to find where a value ends.
//
//	node --bytes--> Proxy --bytes--> redis
//	node <--values-- Proxy <--bytes-- redis
//	                   |
//	                   +-- a message of a spoiled channel: passed, lost, held back
package fault
