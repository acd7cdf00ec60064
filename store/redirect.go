package store

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"
)

// Offer is a session's offered move to another node.
type Offer struct {
	ID      string
	TokenID string
	Session string
	Gen     uint64 // of the session when it was offered
	Source  Ref
	// Target may claim it; its Node is Anyone for any node but the source.
	Target Ref
}

// Anyone as an offer's target is every node but its source.
const Anyone = "*"

// OfferState is what has become of an offer.
type OfferState string

// The states of an offer. From offered, the first step wins; the others are
// final.
const (
	Offered        OfferState = "offered"
	OfferCommitted OfferState = "committed" // the session lives at the target
	OfferRefused   OfferState = "refused"   // by the client
	OfferCancelled OfferState = "cancelled" // by the source
	OfferExpired   OfferState = "expired"
)

// Why a claim of an offer is refused, besides ErrGone and ErrExpired (it came
// after the offer's time).
var (
	ErrUsed          = errors.New("offer was claimed before")
	ErrCancelled     = errors.New("offer was withdrawn")
	ErrWrongAudience = errors.New("offer is for another node")
	ErrSameNode      = errors.New("offer comes from this node")
	ErrGenMismatch   = errors.New("session has moved since the offer")
	ErrBusy          = errors.New("another offer stands")
)

const (
	// movesKept is how many moves of a session are remembered.
	movesKept = 4
	// offerOutlives is how long an offer's record stands, in lives of the
	// offer: so that a token shown late is told why it is of no use.
	offerOutlives = 4
)

// WriteOffer writes an offer, which holds for the store's OfferTTL by Redis's
// clock. May be repeated.
//
// Errors: ErrBusy, ErrMoved, ErrGone, ErrUnavailable.
func (s *Store) WriteOffer(ctx context.Context, o Offer) error {
	ms := s.cfg.OfferTTL.Milliseconds()
	a, err := s.run(ctx, offerScript, []string{sessionKey(o.Session), redirectKey(o.Session)},
		o.ID, o.TokenID, o.Gen, o.Source.Node, o.Source.Boot, o.Target.Node, o.Target.Boot, ms, offerOutlives*ms)
	if err != nil {
		return err
	}
	return verdict(a)
}

// Handover claims an offer for a node: the session is its own, gen + 1. It is
// the one commit of a redirect. Do not repeat it: the second says ErrUsed.
//
// Errors: ErrGone, ErrUsed, ErrCancelled, ErrExpired, ErrWrongAudience,
// ErrSameNode, ErrGenMismatch, ErrUnavailable (the outcome is unknown).
func (s *Store) Handover(ctx context.Context, o Offer, claimant Ref, caps string) (Claimed, error) {
	steps, err := s.chain(ctx, ownHandover, ownCall(claimant, o.Session),
		call{
			handoverScript,
			[]string{sessionKey(o.Session), sessionRoomsKey(o.Session), redirectKey(o.Session)},
			[]any{o.ID, o.TokenID, o.Gen, claimant.Node, claimant.Boot, caps, movesKept},
		})
	if err == nil {
		err = verdict(last(steps))
	}
	if err != nil {
		return Claimed{}, errors.Join(err, s.disownFailed(ctx, claimant, o.Session, err))
	}
	return s.claimed(ctx, claimant, o.Session, last(steps))
}

// disownFailed takes a session off the list of a node that did not get it. Of a
// claim whose outcome is unknown the name stays, for the node to look at.
func (s *Store) disownFailed(ctx context.Context, owner Ref, sid string, why error) error {
	if errors.Is(why, ErrUnavailable) {
		return nil
	}
	return s.Disown(ctx, owner, sid)
}

// claimed reads what claim and handover answer.
func (s *Store) claimed(ctx context.Context, owner Ref, sid string, a answer) (Claimed, error) {
	if s.cluster != nil {
		// Once more: a late Disown may have come between the list and the claim.
		if err := s.own(ctx, owner, sid); err != nil {
			return Claimed{}, err
		}
	}
	r, err := sessionOf(sid, a.fields(4))
	return Claimed{Session: r, Rooms: a.list(5), Previous: Ref{a.text(1), a.text(2)}, WasLive: a.text(3) == StateLive}, err
}

// Withdraw ends an offer as refused, cancelled or expired, unless it was
// claimed or withdrawn before, and tells what has become of it. May be repeated.
func (s *Store) Withdraw(ctx context.Context, sid, id string, as OfferState) (OfferState, error) {
	a, err := s.run(ctx, withdrawScript, []string{redirectKey(sid)}, id, string(as))
	return OfferState(a.status()), err
}

// OfferOf reads what has become of an offer. May be repeated.
func (s *Store) OfferOf(ctx context.Context, sid, id string) (OfferState, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	v, err := s.rdb.HMGet(ctx, redirectKey(sid), "id", "state").Result()
	if err != nil {
		return "", unavailable("read offer", err)
	}
	if a := answer(v); a.text(0) == id {
		return OfferState(a.text(1)), nil
	}
	return OfferExpired, nil
}

// Move is one move of a session, as its record remembers it.
type Move struct {
	At   time.Time // by the store's clock
	From Ref
}

// parseMoves reads "ms boot node" lines, newest first. What it cannot read is
// left out: it is a later version's.
func parseMoves(text string) []Move {
	var out []Move
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 3)
		if len(f) != 3 {
			continue
		}
		ms, err := strconv.ParseInt(f[0], 10, 64)
		if err != nil {
			continue
		}
		out = append(out, Move{At: time.UnixMilli(ms), From: Ref{Node: f[2], Boot: f[1]}})
	}
	return out
}
