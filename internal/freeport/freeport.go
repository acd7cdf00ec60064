// Package freeport finds ports for processes that have to be told one: a node
// whose peers are to know its address before it runs, a Redis server.
//
// Between the search and the process that listens there is a moment in which
// anybody may take the port. A system hands out ports of a range of its own, to
// who listens on port 0 and to who dials; so one outside that range, chosen by
// chance, is taken by nobody but a process that was told the same one.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Where ports are looked for: above what services are known by, and below what
// Linux, by its default, and others hand out by themselves.
const (
	first = 10000
	end   = 32768
)

// tries is how many ports are looked at for each that is to be found.
const tries = 200

// Find is n different ports of a host that are free. Offsets are how far from each
// there are others that it needs, too.
func Find(host string, n int, offsets ...int) ([]int, error) {
	var held []net.Listener
	defer func() { // at the end: none is found twice
		for _, l := range held {
			l.Close()
		}
	}()
	var found []int
	for range n * tries {
		if len(found) == n {
			break
		}
		port := first + rand.IntN(end-first)
		taken, err := take(host, port, offsets)
		held = append(held, taken...)
		if err == nil {
			found = append(found, port)
		}
	}
	if len(found) < n {
		return nil, fmt.Errorf("find a free port of %s: %d of %d found from %d to %d", host, len(found), n, first, end-1)
	}
	return found, nil
}

// take listens on a port and on those it needs, too, as far as they are free.
func take(host string, port int, offsets []int) (taken []net.Listener, err error) {
	for _, off := range append([]int{0}, offsets...) {
		if port+off >= end {
			return taken, errors.New("out of range")
		}
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port+off)))
		if err != nil {
			return taken, err
		}
		taken = append(taken, l)
	}
	return taken, nil
}
