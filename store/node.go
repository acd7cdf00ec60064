package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/redis/go-redis/v9"
)

// Node is a node's record.
type Node struct {
	Ref
	URL      string
	Revision string
	State    string // joining, ready, draining
	Sessions int    // attached to it, and places kept for those on their way
	Owned    int    // on its list: attached now; read by Nodes alone
	Rooms    int    // it has members in
	// Started is by the node's clock for Renew, and by the store's from Nodes.
	Started time.Time
	// Key is the public half of what this life of the node signs offers with.
	Key string
	// Knows names the orders that the node obeys, with a space between them.
	Knows string
	// Alive says whether the lease stands, Lease for how long yet; read by Nodes
	// alone.
	Alive bool
	Lease time.Duration
}

// Node states.
const (
	NodeJoining  = "joining"
	NodeReady    = "ready"
	NodeDraining = "draining"
	// NodeLost is no record's: the lease is over, and the node not swept yet.
	NodeLost = "lost"
)

// recordLife is how long a node's record stands, in ms: two lives of an offer
// longer than the lease, so that what the node has signed can still be checked.
func (s *Store) recordLife() int64 { return (s.cfg.Lease + 2*s.cfg.OfferTTL).Milliseconds() }

// Renew writes a node's record and lease, and lists the node. The lease counts
// from before the call at the latest. May be repeated.
func (s *Store) Renew(ctx context.Context, n Node) error {
	within, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	listed := s.rdb.SAdd(within, nodesKey, n.String()).Err()
	if listed != nil {
		if !s.mayStay(n.Ref) {
			return unavailable("list node", listed)
		}
		within = ctx // the list's primary has had its time, and the lease's may be another
	}
	began := time.Now()
	a, err := s.run(within, renewScript, []string{n.recordKey(), n.leaseKey()},
		s.cfg.Lease.Milliseconds(), s.recordLife(), time.Since(n.Started).Milliseconds(),
		"url", n.URL, "revision", n.Revision, "state", n.State,
		"sessions", n.Sessions, "key", n.Key,
		"rooms", n.Rooms, "knows", n.Knows)
	if err == nil {
		s.clocked(began, a.uint(1))
	}
	if err == nil && listed == nil {
		s.listed.Store(&n.Ref)
	}
	return err
}

// mayStay says that a node is on the fleet's list, from before, though its primary
// of a Cluster is away: only who finds the lease over takes it off.
func (s *Store) mayStay(ref Ref) bool {
	last := s.listed.Load()
	return s.cluster != nil && last != nil && *last == ref
}

// Nodes reads every node that is listed, dead ones too. May be repeated.
func (s *Store) Nodes(ctx context.Context) ([]Node, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	names, err := s.rdb.SMembers(ctx, nodesKey).Result()
	if err != nil {
		return nil, unavailable("list nodes", err)
	}
	pipe := s.rdb.Pipeline()
	owned := make([]*redis.IntCmd, len(names))
	leases := make([]*redis.DurationCmd, len(names))
	records := make([]*redis.MapStringStringCmd, len(names))
	refs := make([]Ref, len(names))
	for i, name := range names {
		node, boot, _ := strings.Cut(name, " ")
		refs[i] = Ref{node, boot}
		owned[i] = pipe.SCard(ctx, refs[i].sessionsKey())
		leases[i] = pipe.PTTL(ctx, refs[i].leaseKey())
		records[i] = pipe.HGetAll(ctx, refs[i].recordKey())
	}
	if len(names) > 0 {
		if _, err := pipe.Exec(ctx); err != nil {
			return nil, unavailable("read nodes", err)
		}
	}
	out := make([]Node, len(names))
	for i, ref := range refs {
		f := records[i].Val()
		sessions, _ := strconv.Atoi(f["sessions"]) // absent in a record that has expired
		started, _ := strconv.ParseInt(f["started"], 10, 64)
		rooms, _ := strconv.Atoi(f["rooms"])
		lease := max(0, leases[i].Val()) // below 0: there is none
		out[i] = Node{
			Ref: ref, URL: f["url"], Revision: f["revision"], State: f["state"],
			Sessions: sessions, Started: time.UnixMilli(started), Key: f["key"],
			Owned: int(owned[i].Val()), Rooms: rooms, Knows: f["knows"], Alive: lease > 0, Lease: lease,
		}
	}
	return out, nil
}

// NodeKey reads the public half of what a node signs offers with, also of one
// that has just died; empty when the store knows no such node. May be repeated.
func (s *Store) NodeKey(ctx context.Context, ref Ref) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	v, err := s.rdb.HGet(ctx, ref.recordKey(), "key").Result()
	if errors.Is(err, redis.Nil) {
		return "", nil
	}
	return v, unavailable("read node's key", err)
}

// Alive says whether a node's lease stands.
func (s *Store) Alive(ctx context.Context, ref Ref) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	n, err := s.rdb.Exists(ctx, ref.leaseKey()).Result()
	return n == 1, unavailable("read lease", err)
}

// Owned reads some of the sessions on a node's list. May be repeated.
func (s *Store) Owned(ctx context.Context, owner Ref, most int) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	sids, err := s.rdb.SRandMemberN(ctx, owner.sessionsKey(), int64(most)).Result()
	return sids, unavailable("read node's sessions", err)
}

// Listed reads all sessions on a node's list, some maybe twice. May be repeated.
func (s *Store) Listed(ctx context.Context, owner Ref) ([]string, error) {
	var all []string
	for cursor := uint64(0); ; {
		within, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
		page, next, err := s.rdb.SScan(within, owner.sessionsKey(), cursor, "", listPage).Result()
		cancel()
		if err != nil {
			return nil, unavailable("read node's sessions", err)
		}
		if all = append(all, page...); next == 0 {
			return all, nil
		}
		cursor = next
	}
}

// listPage is about how many sessions one step of Listed reads.
const listPage = 1000

// Expel takes a node that owns nothing any more off the fleet's list, and
// deletes its lease. May be repeated.
func (s *Store) Expel(ctx context.Context, ref Ref) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	if err := s.rdb.Del(ctx, ref.leaseKey()).Err(); err != nil {
		return unavailable("delete lease", err)
	}
	return unavailable("unlist node", s.rdb.SRem(ctx, nodesKey, ref.String()).Err())
}

// Word is what one node tells another on its control channel. Names are only
// added; a node ignores what it does not know.
type Word struct {
	What    string `json:"what"`
	Session string `json:"session,omitempty"`
	Gen     uint64 `json:"gen,omitzero"`
	Offer   string `json:"offer,omitempty"` // its id
	Sum     string `json:"sum,omitempty"`   // of the token that its client will show
	Node    string `json:"node,omitempty"`  // who speaks, and its
	Boot    string `json:"boot,omitempty"`
	Target  string `json:"target,omitempty"` // a node's name
	Why     string `json:"why,omitempty"`    // one of No...; empty: it was done
}

// What a word says.
const (
	WordReplaced = "replaced" // to the old owner: Session is at Gen elsewhere
	WordPrepare  = "prepare"  // to a target: keep a place for Offer of Session
	WordPrepared = "prepared" // to the source: a place is kept
	WordDenied   = "denied"   // to the source: there is none
	WordRelease  = "release"  // to a target: nobody comes for Offer
	WordClaimed  = "claimed"  // to the source: Offer was claimed, Session is at Gen
	WordDone     = "done"     // to the source: the client needs the old socket no more
	WordOrder    = "order"    // to a node: its record has an order for it
	WordMove     = "move"     // to an owner: offer Session the node Target, as Offer
	WordEnded    = "ended"    // to the owner: an operator has ended Session
	WordOffered  = "offered"  // to who asked for that: it was done, or Why not
)

// Why a session was not offered another node.
const (
	NoSession = "session"  // it is not attached there
	NoCaps    = "caps"     // its client follows no redirect
	NoTarget  = "target"   // no node can take it
	NoOther   = "standing" // another offer stands
	NoStore   = "store"    // the store did not answer, or something failed
)

// Tell sends a word to a node. It may be lost; what depends on it is checked
// again by the node itself.
func (s *Store) Tell(ctx context.Context, to Ref, w Word) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	text, err := w.encode()
	if err != nil {
		return err
	}
	return unavailable("tell node", s.rdb.Publish(ctx, to.channel(), text).Err())
}

func (w Word) encode() (string, error) {
	b, err := json.Marshal(w)
	if err != nil {
		return "", fmt.Errorf("encode word: %w", err)
	}
	return "w " + string(b), nil
}
