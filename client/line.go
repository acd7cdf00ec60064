package client

import (
	"slices"
	"time"

	"godwit/wire"
)

const (
	// maxWindow is how many sends of a room may be in flight: the store
	// remembers the answers to that many numbers, so a repeat gets its seq.
	maxWindow = 64
	// MaxUnanswered bounds the sends of one room that wait for an answer.
	MaxUnanswered = 1024
)

// send is one message on its way. It has no number until it is first written.
type send struct {
	body     []byte // the members of the params but cseq
	cseq     uint64
	try      int // how often it was written
	inflight bool
	open     bool // an earlier try may have been stored
	settled  bool
	sent     wire.Sent
	err      error
	done     chan struct{} // closed when settled
}

// line is the sends of one membership in the order of the calls: first those
// with a number, in order, then those that were never written. Its states are
// those of go-back-N: while all numbered sends are in flight, more follow; once
// one has come back to be repeated, nothing is written until the answers to all
// others are in, and then a new round begins at the front. Time is an argument.
type line struct {
	queue     []*send
	numbered  int    // queue[:numbered] have a cseq
	inflight  int    // of these, written and not answered
	next      uint64 // the number of the next send that has none
	expect    uint64 // the server's count, to be taken over by the next round; 0 is none
	all       bool   // with expect: numbers below it are changed too
	window    int    // how many may be in flight, less after rate_limited
	rounds    int    // since the last accepted send
	notBefore time.Time
	drained   []chan struct{} // each closed when the queue is empty
}

// take is what may be written now, in order, numbered. Each is to be written
// and reported with wrote, up to the first that cannot be.
func (l *line) take(now time.Time) []*send {
	repeat := l.numbered > l.inflight || l.expect != 0
	if len(l.queue) == 0 && l.expect == 0 || now.Before(l.notBefore) || repeat && l.inflight > 0 {
		return nil
	}
	if repeat {
		l.renumber()
		l.rounds++
	}
	from, to := l.inflight, min(l.window, len(l.queue))
	if from >= to {
		return nil
	}
	for ; l.numbered < to; l.numbered++ {
		l.queue[l.numbered].cseq = l.next
		l.next++
	}
	return slices.Clone(l.queue[from:to])
}

func (l *line) wrote(s *send) {
	s.inflight = true
	l.inflight++
}

// renumber takes over the server's count: what it has not accepted follows it.
func (l *line) renumber() {
	if l.expect == 0 {
		return
	}
	n := l.expect
	for _, s := range l.queue[:l.numbered] {
		if l.all || s.cseq >= l.expect {
			s.cseq = n
			n++
		}
	}
	l.next, l.expect, l.all = n, 0, false
}

// countFrom says which number the server expects next: of what is not
// answered, lower numbers are repeated to get their answers (after a resume) or
// get new ones too (after a reset).
func (l *line) countFrom(next uint64, all bool) {
	l.expect, l.all = next, all
	l.notBefore = time.Time{}
}

// restart begins the count of a new membership.
func (l *line) restart(next uint64) {
	l.numbered, l.next, l.expect, l.all = 0, next, 0, false
	l.rounds, l.notBefore = 0, time.Time{}
}

// back notes that s is no longer in flight.
func (l *line) back(s *send) {
	s.inflight = false
	l.inflight--
}

// recall gives up waiting for the answers on a socket that another one has
// replaced: what is in flight there is to be repeated. See late.
func (l *line) recall() {
	for _, s := range l.queue {
		if s.inflight {
			l.late(s)
			s.open = true
		}
	}
}

// late makes any answer that is still to come a late one. Late good news
// counts. Late bad news does not: the repeat is under way and may be stored, so
// its answer decides.
func (l *line) late(s *send) {
	if s.inflight {
		l.back(s)
	}
	s.try++
}

// accept settles s with its answer.
func (l *line) accept(s *send, sent wire.Sent) {
	if l.expect != 0 { // learnt before this answer: the count has gone on
		l.expect = max(l.expect, s.cseq+1)
	}
	l.rounds = 0
	l.window = min(l.window+1, maxWindow)
	s.sent = sent
	l.settle(s, nil)
}

// refuse settles s, which did not use its number. Sends pipelined behind it are
// answered gap and get new numbers by that; when there are none, the number is
// free.
func (l *line) refuse(s *send, err error) {
	if l.numbered > 0 && l.queue[l.numbered-1] == s {
		l.next = s.cseq
	}
	l.settle(s, err)
}

// gap takes the server's word that s was not accepted and which number is next.
func (l *line) gap(s *send, expect uint64) {
	s.open = false
	if expect != 0 {
		l.expect = expect
	}
}

// slow halves the window after rate_limited.
func (l *line) slow() { l.window = max(1, l.window/2) }

// pause keeps the next round back until then.
func (l *line) pause(until time.Time) {
	if until.After(l.notBefore) {
		l.notBefore = until
	}
}

// settle removes s from the queue and tells its caller.
func (l *line) settle(s *send, err error) {
	if i := slices.Index(l.queue, s); i >= 0 {
		l.queue = slices.Delete(l.queue, i, i+1)
		if i < l.numbered {
			l.numbered--
		}
	}
	s.settle(err)
	if len(l.queue) == 0 {
		for _, ch := range l.drained {
			close(ch)
		}
		l.drained = nil
	}
}

func (s *send) settle(err error) {
	if !s.settled {
		s.settled, s.err = true, err
		close(s.done)
	}
}

// drain is closed when the queue is empty.
func (l *line) drain() <-chan struct{} {
	ch := make(chan struct{})
	if len(l.queue) == 0 {
		close(ch)
	} else {
		l.drained = append(l.drained, ch)
	}
	return ch
}

// fail settles everything; where a send may have been stored, the error says so.
func (l *line) fail(err error) {
	for _, s := range slices.Clone(l.queue) {
		l.settle(s, s.failure(err))
	}
}

// failWaiting settles what is not in flight.
func (l *line) failWaiting(err error) {
	for _, s := range slices.Clone(l.queue) {
		if !s.inflight {
			l.settle(s, s.failure(err))
		}
	}
}

// startOver is for a new session, which cannot ask what the old one's sends
// have come to: those that may have been stored are settled so, the rest waits
// for the new membership's count.
func (l *line) startOver() {
	for _, s := range slices.Clone(l.queue) {
		if s.open {
			l.settle(s, s.failure(ErrSessionGone))
		}
	}
	l.numbered = 0
}
