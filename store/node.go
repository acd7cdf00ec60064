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
	Sessions int    // attached to it
	Started  time.Time
	// Key is the public half of what this life of the node signs offers with.
	Key string
	// Alive says whether the lease stands; read by Nodes alone.
	Alive bool
}

// Node states.
const (
	NodeJoining  = "joining"
	NodeReady    = "ready"
	NodeDraining = "draining"
)

// Renew writes a node's record and lease, and lists the node. The record stands
// for two lives of an offer longer than the lease, so that what the node has
// signed can still be checked. The lease counts from before the call at the
// latest. May be repeated.
func (s *Store) Renew(ctx context.Context, n Node) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	if err := s.rdb.SAdd(ctx, nodesKey, n.String()).Err(); err != nil {
		return unavailable("list node", err)
	}
	lease := s.cfg.Lease.Milliseconds()
	_, err := s.run(ctx, renewScript, []string{n.recordKey(), n.leaseKey()},
		lease, lease+2*s.cfg.OfferTTL.Milliseconds(),
		"url", n.URL, "revision", n.Revision, "state", n.State,
		"sessions", n.Sessions, "started", n.Started.UnixMilli(), "key", n.Key)
	return err
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
	leases := make([]*redis.IntCmd, len(names))
	records := make([]*redis.MapStringStringCmd, len(names))
	refs := make([]Ref, len(names))
	for i, name := range names {
		node, boot, _ := strings.Cut(name, " ")
		refs[i] = Ref{node, boot}
		leases[i] = pipe.Exists(ctx, refs[i].leaseKey())
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
		out[i] = Node{
			Ref: ref, URL: f["url"], Revision: f["revision"], State: f["state"],
			Sessions: sessions, Started: time.UnixMilli(started), Key: f["key"], Alive: leases[i].Val() == 1,
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
	Node    string `json:"node,omitempty"`  // who speaks, and its
	Boot    string `json:"boot,omitempty"`
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
)

// Tell sends a word to a node. It may be lost; what depends on it is checked
// again by the node itself.
func (s *Store) Tell(ctx context.Context, to Ref, w Word) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	b, err := json.Marshal(w)
	if err != nil {
		return fmt.Errorf("encode word: %w", err)
	}
	return unavailable("tell node", s.rdb.Publish(ctx, to.channel(), "w "+string(b)).Err())
}
