package ledger

import (
	"cmp"
	"hash/maphash"
	"maps"
	"slices"
	"strconv"

	"godwit/wire"
)

const (
	// patience is how many seqs a member may be past a hole before it is
	// counted lost. One that is filled later is counted swapped instead.
	patience = 256
	// leastKept is how many entries are kept before it is worth a look whether
	// all have passed them.
	leastKept = 64
)

// kind is what an entry is, as far as a tape cares.
type kind uint8

const (
	unknown kind = iota // nobody has told of it
	message
	arrival
	leaving
	flag
	other
)

// entry is one place of a room's order.
type entry struct {
	kind kind
	from uint32 // the device; 0 where the kind is unknown
	n    int    // which of its author's messages
	by   *Seat  // its author
	sum  uint64 // of all that must be the same for all who see it; 0: nobody has
}

// of says whether a seat is not shown the entry, for it made it.
func (e *entry) of(s *Seat) bool { return e != nil && (e.from == s.client || e.by == s) }

// page is the stretch of one epoch's order that some seat has yet to pass.
// Guarded by Tape.mu.
type page struct {
	epoch    string
	base     uint64 // the seq of entries[0]
	entries  []entry
	later    bool // not the first epoch: its authors' counts begin anywhere
	seats    int
	look     int // the number of entries at which to look for what all have passed
	cut      bool
	called   uint64       // where the room's call began; 0: it has not
	arrivals map[join]int // and by how many each was seen
	authors  map[*Seat]*author
}

// join is a join of a device.
type join struct {
	client uint32
	seq    uint64
}

// author is how far the messages of a seat have been read in the room's order.
type author struct {
	n       int
	seq     uint64
	skipped map[int]bool
}

func (p *page) head() uint64 { return p.base + uint64(len(p.entries)) - 1 }

// at is the entry at seq, or nil.
func (p *page) at(seq uint64) *entry {
	if seq < p.base || seq > p.head() {
		return nil
	}
	return &p.entries[seq-p.base]
}

// reach is the entry at seq, made if it is not there yet. It is nil for what
// all have passed, and for what is too far away to be true.
func (p *page) reach(seq uint64, limit int) *entry {
	far := 4*uint64(limit) + leastKept
	switch {
	case seq < p.base && (p.cut || p.base-seq > far), seq > p.head() && seq-p.head() > far:
		return nil
	case seq < p.base: // joined before the one that we heard of first
		p.entries = slices.Insert(p.entries, 0, make([]entry, p.base-seq)...)
		p.base = seq
	case seq > p.head():
		p.entries = append(p.entries, make([]entry, seq-p.head())...)
	}
	return p.at(seq)
}

// enter puts a seat at a position.
func (s *Seat) enter(epoch string, seq uint64) {
	t := s.tape
	p := t.pages[epoch]
	if p == nil {
		p = &page{
			epoch: epoch, base: seq + 1, look: leastKept, later: t.last != nil,
			arrivals: map[join]int{}, authors: map[*Seat]*author{},
		}
		t.pages[epoch], t.last = p, p
	}
	p.seats++ // before the seat leaves its old one, which may be the same
	s.exit()
	s.page, s.start, s.top = p, seq, seq
}

// exit takes a seat from its page: what it has seen past is lost, what it has
// not come to is excused.
func (s *Seat) exit() {
	t, p := s.tape, s.page
	if p == nil {
		return
	}
	s.pass()
	s.lose(s.missing(s.top))
	clear(s.holes)
	clear(s.gone)
	s.page = nil
	if p.seats--; p.seats == 0 {
		p.evict(t, p.head()+1)
		t.close(p)
		delete(t.pages, p.epoch)
	}
}

// close counts what is known of a page's joins at its end: a join is noise for
// each who saw it, unless it is the one that brought a seat here.
func (t *Tape) close(p *page) {
	born := make(map[uint32]uint64, len(t.seats))
	for _, s := range t.seats {
		born[s.first] = s.born
	}
	made := make(map[uint32]bool, len(t.seats))
	order := slices.SortedFunc(maps.Keys(p.arrivals), func(a, b join) int { return cmp.Compare(a.seq, b.seq) })
	for _, j := range order {
		at, ours := born[j.client]
		if ours && !made[j.client] && (p.later || j.seq <= at) {
			made[j.client] = true
			continue
		}
		n := p.arrivals[j]
		t.findIn(p, Noise, "log", j.seq, "", "a join of the device %d that it did not make, seen by %d", j.client, n)
		t.tally.Noise += n - 1
	}
	clear(p.arrivals)
}

// pass moves a seat over what is its own, and forgets holes that are.
func (s *Seat) pass() {
	p := s.page
	for p.at(s.top + 1).of(s) {
		s.top++
	}
	for seq := range s.holes {
		if p.at(seq).of(s) {
			delete(s.holes, seq)
		}
	}
}

// missing lists what a seat has not seen up to an end. What nobody knows
// anything of may be a message of its own that has no outcome.
func (s *Seat) missing(end uint64) []uint64 {
	var all []uint64
	mine := s.unsettled
	note := func(seq uint64) {
		switch e := s.page.at(seq); {
		case e.of(s):
		case (e == nil || e.kind == unknown) && mine > 0:
			mine--
		default:
			all = append(all, seq)
		}
	}
	for _, seq := range slices.Sorted(maps.Keys(s.holes)) {
		note(seq)
	}
	for seq := s.top + 1; seq <= end; seq++ {
		note(seq)
	}
	return all
}

// lose counts what a seat will not see any more.
func (s *Seat) lose(seqs []uint64) {
	for _, seq := range seqs {
		delete(s.holes, seq)
		if len(s.gone) < patience {
			s.gone[seq] = true
		}
		what := "an entry that nobody saw"
		if e := s.page.at(seq); e != nil && e.by != nil {
			what = "message " + strconv.Itoa(e.n) + " of " + e.by.who
		}
		s.tape.find(LostMessage, s, seq, "", "%s; has seen up to %d", what, s.top)
	}
}

// low is the first seq that a seat still needs.
func (s *Seat) low() uint64 {
	low := s.top + 1
	for seq := range s.holes {
		low = min(low, seq)
	}
	return low
}

// after lets go of what all have passed, and wakes who waits for all to have
// passed everything.
func (t *Tape) after(p *page) {
	if len(p.entries) >= p.look {
		t.trim(p)
	}
	if t.even != nil && t.late() == nil {
		close(t.even)
		t.even = nil
	}
}

func (t *Tape) trim(p *page) {
	low := p.head() + 1
	for _, s := range t.seats {
		if s.page != p {
			continue
		}
		s.pass()
		var lost []uint64
		for seq := range s.holes {
			if e := p.at(seq); e != nil && e.kind != unknown && s.top-seq > patience {
				lost = append(lost, seq)
			}
		}
		slices.Sort(lost)
		s.lose(lost)
		low = min(low, s.low())
	}
	if most := 2 * t.limit; len(p.entries) > most { // nobody may hold up the rest for ever
		low = max(low, p.head()+1-uint64(most))
		for _, s := range t.seats {
			if s.page == p && s.low() < low {
				s.giveUp(low)
			}
		}
	}
	p.evict(t, low)
	p.look = max(2*len(p.entries), leastKept)
}

// giveUp counts lost what a seat has not seen below low.
func (s *Seat) giveUp(low uint64) {
	var lost []uint64
	for _, seq := range s.missing(low - 1) {
		if seq < low {
			lost = append(lost, seq)
		}
	}
	s.lose(lost)
	for seq := range s.holes {
		if seq < low {
			delete(s.holes, seq)
		}
	}
	s.top = max(s.top, low-1)
}

// evict reads the entries below low in their order, for what their authors'
// counts say, and lets go of them.
func (p *page) evict(t *Tape, low uint64) {
	if low <= p.base {
		return
	}
	n := min(int(low-p.base), len(p.entries))
	for i := range p.entries[:n] {
		if e := &p.entries[i]; e.kind == message && e.by != nil {
			p.placed(t, e, p.base+uint64(i))
		}
	}
	p.entries = p.entries[:copy(p.entries, p.entries[n:])]
	p.base += uint64(n)
	p.cut = true
}

// placed reads one message in the room's order.
func (p *page) placed(t *Tape, e *entry, seq uint64) {
	at := p.authors[e.by]
	if at == nil {
		at = &author{skipped: map[int]bool{}}
		if p.later {
			at.n = e.n - 1
		}
		p.authors[e.by] = at
	}
	switch {
	case e.n > at.n:
		for n := at.n + 1; n < e.n && len(at.skipped) < patience; n++ {
			at.skipped[n] = true
		}
		at.n, at.seq = e.n, seq
	case at.skipped[e.n]:
		delete(at.skipped, e.n)
		t.findIn(p, Swapped, e.by.who, seq, e.by.who+"#"+strconv.Itoa(e.n), "stands after message %d", at.n)
	default:
		t.findIn(p, Doubled, e.by.who, seq, e.by.who+"#"+strconv.Itoa(e.n), "stands twice, or after message %d", at.n)
	}
}

var sums = maphash.MakeSeed()

// sum is a hash of all that must be the same for all who see an entry.
func sum(e *wire.RoomEvent) uint64 {
	var h maphash.Hash
	h.SetSeed(sums)
	for _, s := range []string{string(e.Kind), e.From.User, e.Reason, strconv.FormatUint(uint64(e.From.Client), 10), strconv.FormatInt(e.TS, 10)} {
		_, _ = h.WriteString(s)
		_ = h.WriteByte(0)
	}
	if e.InCall != nil && *e.InCall {
		_ = h.WriteByte(1)
	}
	_, _ = h.Write(e.Data)
	return max(h.Sum64(), 1)
}
