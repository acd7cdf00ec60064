package client

import (
	"errors"
	"fmt"

	"godwit/wire"
)

var (
	// ErrClosed says that the application has closed the client.
	ErrClosed = errors.New("client is closed")
	// ErrUnsettled says that the outcome of a send, or of a request for a
	// redirect, is not known: it may have been taken or not, and whether it is
	// still being repeated is told by the method that returned it.
	ErrUnsettled = errors.New("outcome is unknown")
	// ErrQueueFull says that a room has MaxUnanswered sends waiting. The send was
	// not queued.
	ErrQueueFull = errors.New("too many unanswered sends in the room")
	// ErrNoTarget says that no other node can take the session now.
	ErrNoTarget = errors.New("no node to move to")
	// ErrInCall says that the session is in the room's call already.
	ErrInCall = errors.New("already in the call")
	// ErrSessionGone is the cause in Lost when the server no longer knew the
	// session and the client said hello again.
	ErrSessionGone = errors.New("session is gone")
)

var (
	// errLost answers a call whose socket ended first.
	errLost = errors.New("connection lost before the answer")
	// errOldGen is a session object of an attachment that came before this one.
	errOldGen = errors.New("the answer is of an earlier attachment")
	// errMovedAway ends a socket that has answered moved, with none to follow.
	errMovedAway = errors.New("the session has moved to another socket")
)

// CloseError says why a socket ended. Code is 1006 when there was no close
// frame; Cause is then what was seen instead.
type CloseError struct {
	Code   wire.CloseCode
	Reason string
	Cause  error
}

// Error tells the code and the peer's reason.
func (e *CloseError) Error() string {
	switch {
	case e.Reason != "":
		return fmt.Sprintf("connection closed (%s): %s", e.Code, e.Reason)
	case e.Cause != nil:
		return fmt.Sprintf("connection closed (%s): %v", e.Code, e.Cause)
	}
	return fmt.Sprintf("connection closed (%s)", e.Code)
}

// Unwrap is the cause, if there is one.
func (e *CloseError) Unwrap() error { return e.Cause }

// HTTPError says that a node answered the upgrade with another status than 101.
type HTTPError struct {
	Status int
}

// Error tells the status.
func (e *HTTPError) Error() string { return fmt.Sprintf("upgrade refused: http status %d", e.Status) }

// Is reports whether err is an answer of the server with that reason.
func Is(err error, reason wire.Reason) bool {
	var e *wire.Error
	return errors.As(err, &e) && e.Reason() == reason
}
