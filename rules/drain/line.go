package drain

// Line is the sessions that have yet to begin to move: in the order in which
// they came, but who is in a call comes last, for a move is a moment of its
// media. The zero value is empty.
type Line[S any] struct {
	first, last []S
}

// Add puts somebody at the end.
func (l *Line[S]) Add(s S) { l.first = append(l.first, s) }

// Len is how many there are.
func (l *Line[S]) Len() int { return len(l.first) + len(l.last) }

// Next takes the one who is to move now, of at least one; calling says whether
// somebody is in a call by now.
func (l *Line[S]) Next(calling func(S) bool) S {
	for len(l.first) > 0 {
		s := l.first[0]
		l.first = l.first[1:]
		if !calling(s) {
			return s
		}
		l.last = append(l.last, s)
	}
	s := l.last[0]
	l.last = l.last[1:]
	return s
}
