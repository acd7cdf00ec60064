package wait

import "context"

// Scope is how long something lasts, as a context that is made for the first who asks:
// most of what may end has nothing that waits for it, and a context holds more memory
// than a socket that is idle should. The zero value has not ended. Its owner's lock
// guards it.
type Scope struct {
	ctx   context.Context
	end   context.CancelFunc
	ended bool
}

// Context ends with the scope, or with the parent; the parent of the first who asks
// counts.
func (s *Scope) Context(parent context.Context) context.Context {
	if s.ctx == nil {
		s.ctx, s.end = context.WithCancel(parent)
		if s.ended {
			s.end()
		}
	}
	return s.ctx
}

// End ends it.
func (s *Scope) End() {
	s.ended = true
	if s.end != nil {
		s.end()
	}
}

// Ended says whether it has been ended.
func (s *Scope) Ended() bool { return s.ended }
