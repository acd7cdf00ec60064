package watch

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"godwit/server/hub"
	"godwit/server/session"
	"godwit/server/wait"
	"godwit/store"
	"godwit/wire"
)

const (
	custodyLimit = 32 // sessions looked at at once
	custodyRetry = 200 * time.Millisecond
	// reclaimEvery renews the client ids of this node's sessions.
	reclaimEvery = store.ClaimTTL / 4
	reclaimBatch = 500
	// compareEvery holds the node's list in the store against its sockets.
	compareEvery = 30 * time.Second
)

// Custody looks at whether the sessions attached to this node are still its
// own, and tells a wiped store of them again.
type Custody struct {
	Store *store.Store
	Ref   store.Ref
	Hub   *hub.Registry[*session.Session]
	Log   *slog.Logger
	// Renew writes the node's record; Suspect has every room and user compared.
	Renew   func(context.Context) error
	Suspect func()

	wholeMu sync.Mutex // held over the round trips: registration is done once
	marker  string     // guarded by wholeMu

	socketless map[string]uint64 // owned by Run: gens of listed sessions that had no socket

	mu    sync.Mutex
	queue map[*session.Session]bool // guarded by mu
	kick  chan struct{}             // cap 1
}

// Init makes the custody ready; call it before anything else.
func (c *Custody) Init() {
	c.queue = make(map[*session.Session]bool)
	c.kick = make(chan struct{}, 1)
}

// Look asks to look at some sessions soon. It does not wait.
func (c *Custody) Look(sessions ...*session.Session) {
	c.mu.Lock()
	for _, s := range sessions {
		c.queue[s] = true
	}
	c.mu.Unlock()
	wait.Ring(c.kick)
}

// Run works until ctx ends.
func (c *Custody) Run(ctx context.Context) error {
	renew := time.NewTicker(reclaimEvery)
	defer renew.Stop()
	compare := time.NewTicker(compareEvery)
	defer compare.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-renew.C:
			err = c.claims(ctx)
		case <-compare.C:
			err = c.compare(ctx)
		case <-c.kick:
			c.mu.Lock()
			all := make([]*session.Session, 0, len(c.queue))
			for s := range c.queue {
				all = append(all, s)
			}
			clear(c.queue)
			c.mu.Unlock()
			if err = c.look(ctx, all); err != nil {
				c.Look(all...)
			}
		}
		if err != nil {
			c.Log.Debug("look at own sessions", "error", err)
			wait.Pause(ctx, custodyRetry)
		}
	}
}

// All looks at every session now, and waits for it.
func (c *Custody) All(ctx context.Context) error { return c.look(ctx, c.Hub.All()) }

func (c *Custody) look(ctx context.Context, sessions []*session.Session) error {
	var group errgroup.Group
	group.SetLimit(custodyLimit)
	for _, s := range sessions {
		group.Go(func() error { return c.one(ctx, s) })
	}
	return group.Wait()
}

func (c *Custody) one(ctx context.Context, s *session.Session) error {
	if current, ok := c.Hub.Find(s.ID()); !ok || current != s {
		return nil
	}
	before := c.known()
	gen, taken, err := c.Store.Retake(ctx, c.Ref, s.ID(), s.Gen())
	switch {
	case err == nil && taken:
		c.Log.Info("session taken back", "session", s.ID(), "gen", gen)
		if err := s.Moved(ctx, gen); err != nil {
			return err
		}
		if current, ok := c.Hub.Find(s.ID()); !ok || current != s {
			// Its socket dropped meanwhile, and was detached at the gen before.
			return c.Store.Detach(ctx, c.Ref, s.ID(), gen)
		}
		return nil
	case err == nil:
		return nil
	case errors.Is(err, store.ErrMoved) && s.Doubt():
		return c.Store.Disown(ctx, c.Ref, s.ID()) // it looks itself, and comes again
	case errors.Is(err, store.ErrMoved):
		if now, ok := c.Hub.Find(s.ID()); ok && now == s {
			s.Quit(wire.CloseReplaced, "the session lives on another socket")
		}
		return c.Store.Disown(ctx, c.Ref, s.ID())
	case errors.Is(err, store.ErrGone):
		if err := c.Whole(ctx); err != nil {
			return err
		}
		if c.known() != before { // all were registered again since: the look was too early
			c.Look(s)
			return nil
		}
		s.Gone()
		return c.Store.Disown(ctx, c.Ref, s.ID())
	}
	return err
}

// compare mends what an answer that was lost left behind. A session that the
// store holds to be live here, and that had no socket at the last look either,
// is detached, so that its grace runs. One that the list does not name, so that
// nobody would find it after a crash of this node, is looked at.
func (c *Custody) compare(ctx context.Context) error {
	attached := make(map[string]*session.Session)
	for _, s := range c.Hub.All() {
		attached[s.ID()] = s
	}
	listed, err := c.Store.Listed(ctx, c.Ref)
	if err != nil {
		return err
	}
	before, now := c.socketless, make(map[string]uint64)
	for _, sid := range listed {
		delete(attached, sid)
		if _, ok := c.Hub.Find(sid); ok {
			continue
		}
		rec, _, err := c.Store.Peek(ctx, sid)
		switch {
		case errors.Is(err, store.ErrGone):
			err = c.Store.Disown(ctx, c.Ref, sid)
		case err != nil:
		case before[sid] == rec.Gen:
			c.Log.Info("session without a socket detached", "session", sid)
			if err = c.Store.Detach(ctx, c.Ref, sid, rec.Gen); errors.Is(err, store.ErrMoved) || errors.Is(err, store.ErrGone) {
				err = nil
			}
		default:
			now[sid] = rec.Gen
		}
		if err != nil {
			return err
		}
	}
	c.socketless = now
	for _, s := range attached {
		c.Look(s)
	}
	return nil
}

// known is the marker of the store in which the sessions are registered.
func (c *Custody) known() string {
	c.wholeMu.Lock()
	defer c.wholeMu.Unlock()
	return c.marker
}

// Whole registers the node and its sessions again if the store was wiped.
func (c *Custody) Whole(ctx context.Context) error {
	c.wholeMu.Lock()
	defer c.wholeMu.Unlock()
	marker, err := c.Store.Marker(ctx)
	if err != nil {
		return err
	}
	if c.marker == marker {
		return nil
	}
	if c.marker == "" {
		c.marker = marker
		return nil
	}
	c.Log.Warn("store wiped", "sessions", c.Hub.Len())
	if err := c.Renew(ctx); err != nil {
		return err
	}
	var group errgroup.Group
	group.SetLimit(custodyLimit)
	for _, s := range c.Hub.All() {
		if s.Elsewhere() {
			continue // its own node tells of it
		}
		group.Go(func() error {
			rec, rooms := s.Record()
			err := c.Store.Create(ctx, rec, rooms)
			if errors.Is(err, store.ErrMoved) {
				c.Look(s)
				return nil
			}
			if err != nil {
				return err
			}
			return s.Present(ctx)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := c.claims(ctx); err != nil {
		return err
	}
	c.marker = marker
	c.Suspect()
	return nil
}

// claims renews the client ids and handles of this node's sessions, or writes
// them again.
func (c *Custody) claims(ctx context.Context) error {
	batch := make([]store.Identity, 0, reclaimBatch)
	for _, s := range c.Hub.All() {
		batch = append(batch, s.Identity())
		if len(batch) == reclaimBatch {
			if err := c.Store.Reclaim(ctx, batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	return c.Store.Reclaim(ctx, batch)
}
