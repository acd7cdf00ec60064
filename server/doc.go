// Package server is one living node: it joins the fleet, opens sessions for
// the sockets that handlers bring, hears what other nodes wrote, and leaves.
//
// It owns the node's place in the fleet and puts the parts together; what each
// decides stands in its own package below. It knows nothing of HTTP or frames.
//
//	New --Run--> joining --lease held--> ready --Drain--> draining --ctx ends--> gone
package server
