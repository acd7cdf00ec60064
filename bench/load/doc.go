// Package load is the clients of a measurement: many websockets in one process
// that say and hear what a work asks for, count it, and time it.
//
// It decides what is said when, and what was expected to be heard. What a
// server spent on it, the measurer looks up at the marks that the load sets.
// The clients are no example: they read of a frame no more than they count, so
// that they take little of a machine that they share with what they load. Of
// the protocol they know what each work needs, from its page.
//
//	enter (everybody logs in and joins) -> warm up -> mark begin -> the work
//	  -> settle (what was accepted has arrived) -> mark end -> result
package load
