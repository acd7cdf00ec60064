// Package fleet runs the real thing for tests: a redis-server and godwit nodes
// as processes of this machine, on free loopback ports, with an address in front
// of all where a test wants one, and does to them what a bad day does: kill, stop,
// restart, wipe, cut off.
//
// It owns its processes. Each is ended, by its pid, when the test ends, and by
// the kernel when the test process dies. Their logs are kept, and shown only
// when the test failed.
package fleet
