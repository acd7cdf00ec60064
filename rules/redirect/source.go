package redirect

// State is where a session stands at its source.
type State int

// The states of a session at its source.
const (
	Active  State = iota // no offer
	Offered              // it serves as usual; the offer may be claimed
	Fenced               // it lives at the target; the old socket only listens
	Closed               // the old socket has no use any more
)

// Source is one session at its source. The zero value is Active. Its owner
// guards it.
type Source struct {
	state State
	id    string
}

// State tells where the session stands.
func (s *Source) State() State { return s.state }

// Offer begins an offer. It says false while another one stands, and when the
// session is not this node's any more.
func (s *Source) Offer(id string) bool {
	if s.state != Active {
		return false
	}
	s.state, s.id = Offered, id
	return true
}

// Ended says that the offer was refused, cancelled or is over. It says whether
// that was news: a step of another offer changes nothing.
func (s *Source) Ended(id string) bool {
	if s.state != Offered || s.id != id {
		return false
	}
	s.state, s.id = Active, ""
	return true
}

// Claimed says that the store committed the offer. It says whether that was news.
func (s *Source) Claimed(id string) bool {
	if s.state != Offered || s.id != id {
		return false
	}
	s.state = Fenced
	return true
}

// Done says that the client needs the old socket no more, or that FencedFor is
// over. It says whether that was news.
func (s *Source) Done(id string) bool {
	if s.state != Fenced || s.id != id {
		return false
	}
	s.state = Closed
	return true
}
