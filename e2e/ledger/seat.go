package ledger

import (
	"encoding/json"
	"strconv"

	"godwit/wire"
)

// Seat is one member at a tape. What belongs to the room's stream (Joined, Saw,
// Reset, Gap, Lost) is to be told in the order that the client was told it;
// what it sent may be told from another goroutine.
type Seat struct {
	tape *Tape
	who  string

	// guarded by tape.mu
	user   string
	first  uint32 // the device of its first session
	born   uint64 // where its first span began: not before its join
	client uint32 // the device it is now
	page   *page  // nil: no member
	start  uint64 // where its span begins
	top    uint64 // the highest seq that it has passed
	// holes are the seqs up to top that it has not seen and that are not known
	// to be its own; gone are those of them that are counted lost.
	holes, gone map[uint64]bool
	count       int  // messages so far
	unsettled   int  // of these, without an outcome: they may stand anywhere
	unsure      bool // the message in flight may stand in another epoch
}

// Joined begins a span of a device: what follows seq is to be seen.
func (s *Seat) Joined(user string, client uint32, epoch string, seq uint64) {
	t := s.tape
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	s.user, s.client = user, client
	if s.first == 0 {
		s.first, s.born = client, seq
	}
	s.enter(epoch, seq)
	s.page.reach(seq, t.limit)
	t.after(s.page)
}

// Sending writes down a message before it goes out; the result is its data.
func (s *Seat) Sending() Message {
	s.tape.mu.Lock()
	defer s.tape.mu.Unlock()
	s.tape.tally.Sent++
	s.count++
	s.unsure = false
	return Message{ID: s.who + "#" + strconv.Itoa(s.count)}
}

// Full says that so much is unseen by somebody that the talk should wait.
func (s *Seat) Full() bool {
	t := s.tape
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.page == nil || len(s.page.entries) < t.limit {
		return false
	}
	t.trim(s.page) // it may be that nobody has looked
	return len(s.page.entries) >= t.limit
}

// Answered says that the last message was accepted, and stands at seq (0: too
// old to tell).
func (s *Seat) Answered(seq uint64) {
	t := s.tape
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	t.tally.Answered++
	p := s.page
	if p == nil || s.unsure { // it stands in a session or an epoch that we have yet to hear of, or had
		s.unsettled++
		return
	}
	if seq == 0 {
		return
	}
	id := s.who + "#" + strconv.Itoa(s.count)
	if seq < p.base {
		if at := p.authors[s]; at == nil || at.n != s.count || at.seq != seq {
			t.find(LostMessage, s, seq, id, "answered, and its place shows another")
		}
		return
	}
	switch e := p.reach(seq, t.limit); {
	case e == nil:
		t.find(Differs, s, seq, id, "answered with a seq far from the room's head %d", p.head())
		return
	case e.kind == unknown:
		*e = entry{kind: message, from: s.client, by: s, n: s.count}
	case e.kind != message || e.by != s || e.n != s.count:
		t.find(LostMessage, s, seq, id, "answered, and its place shows another")
		return
	}
	delete(s.holes, seq)
	if s.gone[seq] {
		delete(s.gone, seq)
		t.tally.Lost--
	}
	t.after(p)
}

// Refused says that the last message was answered with an error.
func (s *Seat) Refused(reason wire.Reason) {
	s.tape.mu.Lock()
	defer s.tape.mu.Unlock()
	s.tape.find(Denied, s, 0, s.who+"#"+strconv.Itoa(s.count), "refused with %s", reason)
}

// Unsettled says that the last message has no outcome: it may be stored or not.
func (s *Seat) Unsettled() {
	s.tape.mu.Lock()
	defer s.tape.mu.Unlock()
	s.unsettled++
	if s.page != nil {
		s.tape.after(s.page)
	}
}

// Saw tells an event that the member got. The result is the data of a message.
func (s *Seat) Saw(e *wire.RoomEvent) Message {
	var m Message
	if e.Kind == wire.KindMessage {
		_ = json.Unmarshal(e.Data, &m) // what has no id is forged
	}
	t := s.tape
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return m
	}
	t.tally.Seen++
	p := s.page
	if p == nil || e.Seq == 0 {
		t.find(Misaddressed, s, e.Seq, m.ID, "shown to one who is not in the room, or without a seq")
		return m
	}
	own := e.From.Client == s.client
	if own && e.Kind != wire.KindLeave {
		t.find(Echoed, s, e.Seq, m.ID, "its own %s", e.Kind)
	}
	it := p.reach(e.Seq, t.limit)
	if it == nil && e.Seq > p.head() {
		t.find(Differs, s, e.Seq, m.ID, "far from the room's head %d", p.head())
		return m
	}
	switch {
	case e.Seq > s.top:
		for seq := s.top + 1; seq < e.Seq; seq++ {
			if !p.at(seq).of(s) {
				s.holes[seq] = true
			}
		}
		s.top = e.Seq
	case s.holes[e.Seq]:
		delete(s.holes, e.Seq)
		t.find(Swapped, s, e.Seq, m.ID, "after %d", s.top)
	case s.gone[e.Seq]:
		delete(s.gone, e.Seq)
		t.tally.Lost--
		t.find(Swapped, s, e.Seq, m.ID, "after %d", s.top)
	case e.Seq <= s.start:
		t.find(Swapped, s, e.Seq, m.ID, "before the position %d from which it was to start", s.start)
	default:
		t.find(Doubled, s, e.Seq, m.ID, "seen twice")
	}
	if it != nil {
		t.compare(s, it, e, m)
	}
	t.after(p)
	return m
}

// Reset says that the member was told room.reset.
func (s *Seat) Reset(epoch string, seq uint64) { s.restart(epoch, seq, true) }

// Gap says that the member was told recovered:false.
func (s *Seat) Gap(epoch string, seq uint64) { s.restart(epoch, seq, false) }

func (s *Seat) restart(epoch string, seq uint64, unsure bool) {
	t := s.tape
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	s.unsure = s.unsure || unsure
	s.enter(epoch, seq)
	s.page.reach(seq, t.limit)
	t.after(s.page)
}

// Lost says that the member was told that its session, or its place in the
// room, is gone.
func (s *Seat) Lost() {
	t := s.tape
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	s.unsure = true
	s.exit()
}
