package wire

import (
	"fmt"
	"time"
)

// Error is a JSON-RPC error object.
type Error struct {
	Code    int        `json:"code"`
	Message string     `json:"message"`
	Data    *ErrorData `json:"data,omitempty"`
}

// ErrorData is the machine-readable part of an application error.
type ErrorData struct {
	Reason Reason `json:"reason"`
	// Retry says that the same request may succeed later.
	Retry bool `json:"retry"`
	// RetryAfterMS is how long to wait first, in milliseconds.
	RetryAfterMS int64 `json:"retry_after_ms,omitzero"`
	// Expect is the next client sequence, with reason gap.
	Expect uint64 `json:"expect,omitzero"`
}

// Error tells the message and, for an application error, its reason.
func (e *Error) Error() string {
	if e.Data != nil {
		return fmt.Sprintf("%s (%s)", e.Message, e.Data.Reason)
	}
	return fmt.Sprintf("%s (%d)", e.Message, e.Code)
}

// Reason is the error's reason, or empty for a standard JSON-RPC error.
func (e *Error) Reason() Reason {
	if e == nil || e.Data == nil {
		return ""
	}
	return e.Data.Reason
}

// Errorf makes an application error. The message says what to do about it.
func Errorf(reason Reason, format string, args ...any) *Error {
	return &Error{
		Code:    CodeApplication,
		Message: fmt.Sprintf(format, args...),
		Data:    &ErrorData{Reason: reason, Retry: reason == Unavailable || reason == RateLimited || reason == Gap},
	}
}

// ErrUnavailable says that the store cannot be reached. Whether a write took
// effect is unknown: repeat it with the same cseq.
func ErrUnavailable() *Error {
	return Errorf(Unavailable, "the store cannot be reached now; repeat the request with the same cseq")
}

// ErrRateLimited says when the next request is welcome.
func ErrRateLimited(after time.Duration) *Error {
	e := Errorf(RateLimited, "too many requests; wait and repeat")
	e.Data.RetryAfterMS = max(1, after.Milliseconds())
	return e
}

// ErrGap says which client sequence the room expects next.
func ErrGap(expect uint64) *Error {
	e := Errorf(Gap, "cseq is past the next one; send from %d again", expect)
	e.Data.Expect = expect
	return e
}

// ErrParams is -32602 with what is wrong.
func ErrParams(format string, args ...any) *Error {
	return &Error{Code: CodeInvalidParams, Message: "invalid params: " + fmt.Sprintf(format, args...)}
}

// ErrRequest is -32600 with what is wrong.
func ErrRequest(format string, args ...any) *Error {
	return &Error{Code: CodeInvalidRequest, Message: "invalid request: " + fmt.Sprintf(format, args...)}
}

// ErrMethod is -32601.
func ErrMethod(method string) *Error {
	return &Error{Code: CodeNoMethod, Message: "no such method: " + clip(method)}
}

// ErrInternal is -32603; the node's log has the cause.
func ErrInternal() *Error {
	return &Error{Code: CodeInternal, Message: "internal error; the node's log tells more"}
}

func clip(s string) string {
	if len(s) > 64 {
		return fmt.Sprintf("%q...", s[:64])
	}
	return fmt.Sprintf("%q", s)
}
