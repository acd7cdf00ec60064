// Package fault stands between a node and its Redis and spoils what a network
// may spoil: it loses one fan-out message in n, exchanges two, goes deaf while
// the connection lives, stops all bytes, or cuts.
//
// It decides only what becomes of pub/sub messages whose channel it was told
// to spoil; every other byte passes unread. It understands as much of RESP2
// and RESP3 as it takes to find where a value ends.
//
//	node --bytes--> Proxy --bytes--> redis
//	node <--values-- Proxy <--bytes-- redis
//	                   |
//	                   +-- a message of a spoiled channel: passed, lost, held back
package fault
