package session

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"godwit/rules/redirect"
	"godwit/server/wait"
	"godwit/store"
	"godwit/wire"
)

// Moves is what a session asks of the node's moves to and from other nodes.
type Moves interface {
	// Request offers a session another node, as its client has asked. after follows
	// the answer, an error too; nil: nothing does, as where an offer stands already.
	Request(ctx context.Context, s *Session, node string) (after func(), _ *wire.Error)
	// Check reads the token that a client shows, and says whether this node
	// takes the session up.
	Check(ctx context.Context, id, token string) (store.Offer, *wire.Error)
	// Taken says that an offer was claimed here, and hands its place over. An
	// offer that was not claimed keeps it: the client may come again.
	Taken(id string) redirect.Target
}

// arrival is the offer that brought a session here.
type arrival struct {
	store.Offer
	place redirect.Target
}

// Offering is an offer on its way to a client.
type Offering struct {
	store.Offer
	URL    string
	Token  string
	Life   time.Duration // of its record, from when that is written
	Until  time.Time     // of the token, which was signed before
	Reason string
	Final  bool
	// Over is called once, when the session has moved, the offer is withdrawn,
	// or the socket is gone; with "" when what became of it is not known. Of one
	// that was refused it tells why, in the client's word.
	Over func(state store.OfferState, why string)
}

// offer is an offer that stands, at its source.
type offer struct {
	Offering
	// asked wakes who watches the offer: it may have been claimed.
	asked chan struct{} // cap 1
	// settled is what has become of it, as the session itself found.
	settled chan store.OfferState // cap 1
	// cancel withdraws it.
	cancel chan struct{} // cap 1
	// done says that the client needs the old socket no more.
	done chan struct{} // cap 1
	// refusal is the client's word for why it refuses; guarded by Session.mu.
	refusal string
}

// Caps is what the client can do, as it said at its login.
func (s *Session) Caps() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record.Caps
}

func capsOf(caps []string) string {
	if slices.Contains(caps, "redirect") {
		return "redirect" // the others mean nothing to this version
	}
	return ""
}

// Offer writes an offer. after is what follows, to be run once, and soon, behind the
// answer to who has asked: it has the client told, and the offer stands meanwhile. On
// an error there is no offer, Over is not called, and after, unless it is nil, looks
// where the session lives.
//
// Errors: store.ErrBusy, also of a session that is not greeted yet, and those of
// store.WriteOffer.
func (s *Session) Offer(ctx context.Context, what Offering) (after func(), _ error) {
	o := &offer{
		Offering: what, asked: make(chan struct{}, 1), settled: make(chan store.OfferState, 1),
		cancel: make(chan struct{}, 1), done: make(chan struct{}, 1),
	}
	s.mu.Lock()
	if s.over || !s.Greeted() || !s.move.Offer(o.ID) {
		s.mu.Unlock()
		return nil, store.ErrBusy
	}
	s.offer = o
	s.mu.Unlock()
	err := s.door.Store.WriteOffer(ctx, o.Offer)
	if err != nil {
		// Nobody has its token: whether it was written does not matter.
		s.mu.Lock()
		s.move.Ended(o.ID)
		s.mu.Unlock()
		if errors.Is(err, store.ErrMoved) || errors.Is(err, store.ErrGone) {
			return s.suspect, err
		}
		return nil, err
	}
	return func() { s.tellOffer(o) }, nil
}

// tellOffer tells the client of an offer before it is watched, so that its end does
// not overtake it.
func (s *Session) tellOffer(o *offer) {
	s.sock.Notify("redirect", wire.Redirect{
		ID: o.ID, URL: o.URL, Token: o.Token, ExpiresInMS: max(0, time.Until(o.Until).Milliseconds()), Reason: o.Reason, Final: o.Final,
	})
	if !s.begin(func() { s.watchOffer(o) }) {
		o.Over("", "") // the socket went meanwhile
	}
}

// watchOffer stays with an offer until it is known what has become of it.
func (s *Session) watchOffer(o *offer) {
	state := s.outcome(o)
	switch state {
	case store.OfferCommitted:
		s.fence(o)
	case "":
	default:
		s.mu.Lock()
		s.move.Ended(o.ID)
		s.mu.Unlock()
		if state == store.OfferCancelled {
			s.sock.Notify("redirect.cancel", wire.RedirectCancel{ID: o.ID})
		}
		s.door.Leaving.Suspect(s) // it may have been found elsewhere meanwhile
	}
	s.mu.Lock()
	why := o.refusal
	s.mu.Unlock()
	o.Over(state, why)
}

// offerSlack is how much longer than its life an offer is waited for: the
// store's clock decides.
const offerSlack = 100 * time.Millisecond

// outcome waits until an offer is claimed or withdrawn; "" if the socket goes first.
func (s *Session) outcome(o *offer) store.OfferState {
	ctx := s.attached()
	over := time.NewTimer(o.Life + offerSlack)
	defer over.Stop()
	end := store.Offered // what the offer is to become; offered: only look
	for {
		select {
		case <-ctx.Done():
			return ""
		case state := <-o.settled:
			return state
		case <-o.asked:
		case <-o.cancel:
			end = store.OfferCancelled
		case <-over.C:
			end = store.OfferExpired
		}
		var state store.OfferState
		var err error
		if end == store.Offered {
			state, err = s.door.Store.OfferOf(ctx, s.id, o.ID)
		} else {
			state, err = s.door.Store.Withdraw(ctx, s.id, o.ID, end)
		}
		switch {
		case err != nil:
			s.door.Log.Debug("offer waits for the store", "session", s.id, "error", err)
			wait.Pause(ctx, replayRetry)
			wait.Ring(o.asked)
		case state != store.Offered:
			return state
		}
	}
}

// fence is what follows the claim: every request answers moved, events go on,
// until the client needs the socket no more.
func (s *Session) fence(o *offer) {
	s.mu.Lock()
	s.move.Claimed(o.ID)
	s.over = true
	s.mu.Unlock()
	t := time.NewTimer(redirect.FencedFor)
	defer t.Stop()
	select {
	case <-s.attached().Done():
	case <-o.done:
	case <-t.C:
	}
	s.mu.Lock()
	s.move.Done(o.ID)
	s.mu.Unlock()
	s.sock.Notify("moved", wire.MovedAway{ID: o.ID})
	s.Quit(wire.CloseMoved, "the session lives on another socket")
}

// standing is the last offer, and where the session stands with it.
func (s *Session) standing() (*offer, redirect.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.offer, s.move.State()
}

// Told takes a target's word about an offer of this session: that it was
// claimed, and maybe that the client needs the old socket no more. The store is
// asked before anything follows from it.
func (s *Session) Told(id string, done bool) {
	o, state := s.standing()
	if o == nil || o.ID != id || state != redirect.Offered && state != redirect.Fenced {
		return
	}
	if done {
		wait.Ring(o.done)
	}
	wait.Ring(o.asked)
}

// Cancel withdraws the offer that stands, if any.
func (s *Session) Cancel() {
	o, state := s.standing()
	if state == redirect.Offered {
		wait.Ring(o.cancel)
	}
}

// Moving says whether an offer stands or was claimed.
func (s *Session) Moving() bool {
	_, state := s.standing()
	return state != redirect.Active
}

// Doubt says that the session was found to live elsewhere. It says whether that
// is an offer's affair: one that stands ends now, for it was claimed, or is of
// no use.
func (s *Session) Doubt() bool {
	s.Cancel()
	return s.Moving()
}

// Elsewhere says that the session is known to live at another node.
func (s *Session) Elsewhere() bool {
	_, state := s.standing()
	return state >= redirect.Fenced
}

// suspect has it looked at whether the session still lives here.
func (s *Session) suspect() {
	if !s.Doubt() {
		s.door.Leaving.Suspect(s)
	}
}

// refuse declines an offer.
func (s *Session) refuse(ctx context.Context, params jsontext.Value) Reply {
	var p wire.RedirectRefuse
	if err := wire.Decode(params, &p); err != nil {
		return Reply{Err: err}
	}
	o, state := s.standing()
	if state != redirect.Offered || o.ID != p.ID {
		return Reply{Result: wire.Empty{}} // it is over already
	}
	s.mu.Lock()
	o.refusal = clip(p.Reason) // before anybody finds it refused
	s.mu.Unlock()
	become, err := s.door.Store.Withdraw(ctx, s.id, o.ID, store.OfferRefused)
	if err != nil {
		return s.fail("redirect.refuse", err)
	}
	s.door.Log.Debug("redirect refused", "session", s.id, "reason", clip(p.Reason))
	if become != store.OfferCommitted {
		s.mu.Lock()
		s.move.Ended(o.ID) // before the answer: who has it may ask for another
		s.mu.Unlock()
	}
	// After the answer: a drain says bye, and closes the socket, at once.
	settle := func() {
		select {
		case o.settled <- become:
		default: // known already
		}
	}
	if become == store.OfferCommitted {
		return Reply{Err: movedAway(), After: settle}
	}
	return Reply{Result: wire.Empty{}, After: settle}
}

// clip bounds what a client says of itself in a log.
func clip(s string) string { return s[:min(len(s), 64)] }

func movedAway() *wire.Error {
	return wire.Errorf(wire.Moved, "the session lives on another socket")
}

// request asks for an offer.
func (s *Session) request(ctx context.Context, params jsontext.Value) Reply {
	var p wire.RedirectRequest
	if err := wire.Decode(params, &p); err != nil {
		return Reply{Err: err}
	}
	after, err := s.door.Moves.Request(ctx, s, p.Node)
	if err != nil {
		return Reply{Err: err, After: after}
	}
	return Reply{Result: wire.Empty{}, After: after}
}

// handover is a first request that takes an offer up.
func (d *Door) handover(ctx context.Context, sock Socket, params jsontext.Value) (*Session, Reply) {
	var p wire.Handover
	if err := wire.Decode(params, &p); err != nil {
		return nil, Reply{Err: err}
	}
	if p.ID == "" {
		return nil, Reply{Err: wire.ErrParams("id is missing")}
	}
	o, bad := d.Moves.Check(ctx, p.ID, p.Token)
	if bad != nil {
		return nil, Reply{Err: bad}
	}
	rec, rooms, err := d.Store.Peek(ctx, o.Session)
	if d.Fenced() || errors.Is(err, store.ErrUnavailable) {
		d.Log.Debug("no handover now", "session", o.Session, "error", err)
		return nil, Reply{Err: wire.Errorf(wire.Capacity, "this node cannot take the session now")}
	}
	if err != nil {
		return nil, d.unclaimed(err)
	}
	came := &arrival{Offer: o}
	s, reply := d.take(ctx, sock, rec, rooms, taking{
		claim: func() (store.Claimed, error) {
			claimed, err := d.Store.Handover(ctx, o, d.Config.Node, capsOf(p.Caps))
			if err == nil {
				came.place = d.Moves.Taken(o.ID)
			}
			return claimed, err
		},
		word:      store.Word{What: store.WordClaimed, Offer: o.ID},
		positions: p.Positions,
		failed:    func(err error) Reply { return d.unclaimed(err) },
	})
	if s != nil {
		s.came = came
	}
	return s, reply
}

// unclaimed is the reply to a handover that failed.
func (d *Door) unclaimed(err error) Reply {
	for _, c := range []struct {
		err    error
		reason wire.Reason
		text   string
	}{
		{store.ErrGone, wire.NoSession, "the session has ended"},
		{store.ErrUsed, wire.Used, "the offer was taken up before"},
		{store.ErrCancelled, wire.Cancelled, "the offer was withdrawn"},
		{store.ErrExpired, wire.Expired, "the offer is over"},
		{store.ErrWrongAudience, wire.WrongAudience, "the offer is for another node"},
		{store.ErrSameNode, wire.SameNode, "the offer comes from this node; dial again"},
		{store.ErrGenMismatch, wire.GenMismatch, "the session has moved since the offer"},
		{store.ErrMoved, wire.GenMismatch, "the session has moved since the offer"},
	} {
		if errors.Is(err, c.err) {
			return Reply{Err: wire.Errorf(c.reason, "%s", c.text)}
		}
	}
	return d.closed("handover", err)
}

// handoverDone lets the source close the old socket.
func (s *Session) handoverDone(ctx context.Context, params jsontext.Value) Reply {
	var p wire.HandoverDone
	if err := wire.Decode(params, &p); err != nil {
		return Reply{Err: err}
	}
	if s.came == nil || !s.came.place.Done(p.ID) {
		return Reply{Err: wire.ErrParams("id is not that of this socket's handover")}
	}
	w := store.Word{What: store.WordDone, Session: s.id, Offer: p.ID}
	if err := s.door.Store.Tell(ctx, s.came.Source, w); err != nil {
		s.door.Log.Debug("source not told", "session", s.id, "error", err) // its timer closes the socket
	}
	return Reply{Result: wire.Empty{}}
}
