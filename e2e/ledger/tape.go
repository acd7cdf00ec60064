package ledger

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"godwit/wire"
)

// maxFindings is how many findings a tape describes; the rest is counted.
const maxFindings = 20

// Tape holds one room to the promises of [Check] while the talk goes on, in
// memory that does not grow with it: it keeps the stretch of the room's order
// that some member has yet to pass, and a few numbers a member.
//
// It knows less than Check: every message is for everybody, and who sits at it
// sends one message after the other, each once the one before has its outcome.
// Nobody is to leave, and every join but a member's first is noise; so is every
// change of the room's call but the first of an epoch, which begins it.
type Tape struct {
	room  string
	limit int // entries of the stretch

	mu sync.Mutex
	// guarded by mu
	seats  map[string]*Seat
	pages  map[string]*page // by epoch, while a seat is in it
	last   *page            // the one begun last
	tally  Tally
	closed bool
	even   chan struct{} // closed when all have caught up; nil: nobody waits for it
}

// Tally is what a tape has counted.
type Tally struct {
	Sent, Answered, Seen int
	Lost                 int // for one member: not seen, or answered and not there
	Doubled              int // seen twice, or stored twice
	Swapped              int // out of the order of seq, or of sending
	Noise                int // joins, leaves and ends of a call that members saw and should not have
	Wrong                int // every other broken promise
	Findings             []Finding
}

// Add sums two tallies, with the findings of both.
func (a Tally) Add(b Tally) Tally {
	return Tally{
		Sent: a.Sent + b.Sent, Answered: a.Answered + b.Answered, Seen: a.Seen + b.Seen,
		Lost: a.Lost + b.Lost, Doubled: a.Doubled + b.Doubled, Swapped: a.Swapped + b.Swapped,
		Noise: a.Noise + b.Noise, Wrong: a.Wrong + b.Wrong,
		Findings: append(append([]Finding(nil), a.Findings...), b.Findings...),
	}
}

// NewTape is the tape of a room nobody is in yet. At limit entries that some
// member has not seen, Full says that the talk should wait; at twice as many
// the oldest is given up, and lost for who has not seen it.
func NewTape(room string, limit int) *Tape {
	return &Tape{room: room, limit: limit, seats: map[string]*Seat{}, pages: map[string]*page{}}
}

// Seat adds a member-to-be. Its name begins the ids of its messages and holds
// no '#'.
func (t *Tape) Seat(who string) *Seat {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &Seat{tape: t, who: who, holes: map[uint64]bool{}, gone: map[uint64]bool{}}
	t.seats[who] = s
	return s
}

// compare holds an event against what others have said of its place.
func (t *Tape) compare(s *Seat, it *entry, e *wire.RoomEvent, m Message) {
	said := t.read(e, m)
	if it.kind == message && it.sum == 0 && (it.by != said.by || it.n != said.n) {
		t.findIn(s.page, LostMessage, it.by.who, e.Seq, it.by.who+"#"+strconv.Itoa(it.n), "answered, and its place shows another")
	}
	switch {
	case it.sum == 0: // nobody has seen it yet
		t.judge(s, e, m, &said)
		*it = said
	case it.sum != said.sum:
		t.find(Differs, s, e.Seq, m.ID, "seen as %s; others have another entry there", fingerprint(e))
		return
	}
	switch it.kind {
	case leaving:
		t.find(Noise, s, e.Seq, "", "a leave of %s that it did not make", member(e.From))
	case flag:
		begins := e.InCall != nil && *e.InCall
		if begins && s.page.called == 0 {
			s.page.called = e.Seq
		}
		if !begins || s.page.called != e.Seq {
			t.find(Noise, s, e.Seq, "", "the room's call became %t", begins)
		}
	case arrival:
		j := join{it.from, e.Seq}
		if _, known := s.page.arrivals[j]; !known && len(s.page.arrivals) > 2*t.limit {
			t.find(Noise, s, e.Seq, "", "more joins than can be counted")
			return
		}
		s.page.arrivals[j]++
	}
}

// judge finds what is wrong with an entry in itself, when it is first shown.
func (t *Tape) judge(s *Seat, e *wire.RoomEvent, m Message, it *entry) {
	switch it.kind {
	case arrival, leaving, flag:
	case message:
		switch by := it.by; {
		case by == nil:
			t.find(Forged, s, e.Seq, m.ID, "a message that nobody sent, from %s", member(e.From))
		case by.first == by.client && (e.From.Client != by.client || e.From.User != by.user):
			t.find(Forged, s, e.Seq, m.ID, "sent by %s, shown from %s", by.who, member(e.From))
		case it.n > by.count:
			t.find(Forged, s, e.Seq, m.ID, "not sent yet")
		}
	default:
		t.find(Differs, s, e.Seq, "", "an entry of kind %q", e.Kind)
	}
}

// read is what an event says of its place.
func (t *Tape) read(e *wire.RoomEvent, m Message) entry {
	it := entry{kind: other, from: e.From.Client, sum: sum(e)}
	switch e.Kind {
	case wire.KindJoin:
		it.kind = arrival
	case wire.KindLeave:
		it.kind = leaving
	case wire.KindCall:
		it.kind = flag
	case wire.KindMessage:
		it.kind = message
		who, n, _ := strings.Cut(m.ID, "#")
		if it.n, _ = strconv.Atoi(n); it.n > 0 {
			it.by = t.seats[who]
		}
	}
	return it
}

// Head says how far the room's log goes, by somebody who knows. An epoch that
// no member is in is not looked at.
func (t *Tape) Head(epoch string, seq uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.pages[epoch]
	if p == nil {
		return
	}
	if p.reach(seq, t.limit) == nil && seq > p.head() {
		t.findIn(p, Torn, "log", seq, "", "the log goes to %d, and nobody saw more than %d", seq, p.head())
	}
}

// CaughtUp waits until every member has seen all that is known to be there, or
// ctx ends; the error says who has not.
func (t *Tape) CaughtUp(ctx context.Context) error {
	t.mu.Lock()
	late := t.late()
	if late == nil {
		t.mu.Unlock()
		return nil
	}
	even := make(chan struct{})
	t.even = even
	t.mu.Unlock()
	select {
	case <-even:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.even = nil
	if late = t.late(); late == nil {
		return nil
	}
	return fmt.Errorf("%s: %w: %w", t.room, late, context.Cause(ctx))
}

// late names somebody who has not seen all that is known, or is nil.
func (t *Tape) late() error {
	for _, s := range t.seats {
		if s.page == nil || s.page != t.last {
			return errors.New(s.who + " is not in the room's latest epoch")
		}
		s.pass()
		if missing := s.missing(s.page.head()); len(missing) > 0 {
			return fmt.Errorf("%s has not seen %d", s.who, missing[0])
		}
	}
	return nil
}

// Finish ends the tape and tells what was counted. With all, everybody has had
// the time to see everything: what somebody has not seen is lost. Without, only
// what somebody has seen past.
func (t *Tape) Finish(all bool) Tally {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return t.tally
	}
	for _, s := range t.seats {
		switch {
		case s.page == nil || s.page != t.last:
			if all {
				t.find(Behind, s, s.top, "", "is not in the room's latest epoch")
			}
			s.exit()
		case all:
			s.lose(s.missing(s.page.head()))
		default:
			s.lose(s.missing(s.top))
		}
	}
	for _, p := range t.pages {
		p.evict(t, p.head()+1)
		t.close(p)
	}
	t.closed = true
	return t.tally
}

// Tally tells what has been counted so far.
func (t *Tape) Tally() Tally {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tally
}

func (t *Tape) find(f Fault, s *Seat, seq uint64, id, note string, args ...any) {
	t.findIn(s.page, f, s.who, seq, id, note, args...)
}

// findIn counts a finding.
func (t *Tape) findIn(p *page, f Fault, who string, seq uint64, id, note string, args ...any) {
	switch f {
	case LostMessage:
		t.tally.Lost++
	case Doubled:
		t.tally.Doubled++
	case Swapped:
		t.tally.Swapped++
	case Noise:
		t.tally.Noise++
	default:
		t.tally.Wrong++
	}
	if len(t.tally.Findings) >= maxFindings {
		return
	}
	one := Finding{Fault: f, Who: who, Room: t.room, Seq: seq, ID: id, Note: fmt.Sprintf(note, args...)}
	if p != nil {
		one.Epoch = p.epoch
	}
	t.tally.Findings = append(t.tally.Findings, one)
}
