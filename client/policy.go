package client

import (
	"math/rand/v2"
	"time"

	"godwit/wire"
)

// verdict is what the client does after a socket or a login failed.
type verdict uint8

const (
	again verdict = iota // resume, or hello when there is no session yet
	hello                // the session is gone: a new one
	stop                 // the application must act
)

// afterClose reads a close code by its range, so that a new code is handled.
func afterClose(code wire.CloseCode) verdict {
	switch {
	case code.Final():
		return stop
	case code == wire.CloseMoved: // this was the only socket: the answer to handover was lost
		return again
	case code >= 4100 && code < 4200: // another client has the session
		return stop
	case code.Ended():
		return hello
	}
	return again
}

// afterRefusal reads the error of a first frame. A fresh login is a hello.
func afterRefusal(e *wire.Error, fresh bool) verdict {
	switch e.Reason() {
	case wire.Unavailable, wire.RateLimited, wire.Moved:
		return again
	case wire.NoSession, wire.TokenExpired:
		if fresh { // hello needs a better token, not another hello
			return stop
		}
		return hello
	}
	if e.Data != nil && e.Data.Retry {
		return again
	}
	return stop
}

// repeatable says whether the same request may succeed later.
func repeatable(e *wire.Error) bool {
	switch e.Reason() {
	case wire.Unavailable, wire.RateLimited:
		return true
	}
	return false
}

// retryAfter is the wait that the server asked for.
func retryAfter(e *wire.Error) time.Duration {
	if e == nil || e.Data == nil {
		return 0
	}
	return time.Duration(max(0, e.Data.RetryAfterMS)) * time.Millisecond
}

// ceiling is the longest wait before try n (0 is the first).
func ceiling(low, high time.Duration, n int) time.Duration {
	for ; n > 0 && low < high; n-- {
		low *= 2
	}
	return min(low, high)
}

// backoff is the wait before try n: what the server asked for, then a random
// part of the ceiling, so that clients that were told the same time, or lost
// the same node, do not come back together.
func (o *Options) backoff(n int, floor time.Duration) time.Duration {
	return floor + rand.N(ceiling(o.MinBackoff, o.MaxBackoff, n)+1)
}
