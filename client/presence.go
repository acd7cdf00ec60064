package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"godwit/wire"
)

// PresenceChanged says how present somebody is from now on: another user, or
// with Self the session's own, of all its devices. 0 is offline or invisible.
// What the first login tells is in Present and Self at once, with no event. Nor
// is there one for users who are forgotten because the last room shared with
// them was left, by them or by us.
type PresenceChanged struct {
	User     string
	Self     bool
	Presence uint8
}

// sightings is what the client knows of presence. Guarded by Client.mu.
type sightings struct {
	of   map[string]sighting
	self sighting
	set  *uint8 // the presence byte that the application set last; nil: none
	// setting is the request that says it, answered or not. There is one at most:
	// two that are repeated each for itself could end in the older one.
	setting *request
	// begun: the first login has told all, and from now on changes are events.
	begun bool
}

// sighting is what was told of a user last.
type sighting struct {
	value uint8
	pv    uint64
	// contact says that we do not see the user by a room alone.
	contact bool
	// doubtful says that the last session object was cut and did not name the user:
	// it is among those who follow, or offline.
	doubtful bool
}

const (
	// auto is the bit of a presence byte that an idle timer sets.
	auto uint8 = 0x80
	// atFirst is how a device stands that has set nothing.
	atFirst = auto | 3
)

// SetPresence sets how present this device is, as its user wants it: 0, offline
// or invisible, to 127. It holds over idle timers and over the user's other
// devices until one of them says otherwise. What others see, and what an
// application shows of its own user, comes as PresenceChanged with Self: it may
// be another device's. The client says it again by itself when it has to begin a
// new session, and only then. It is repeated until it is answered, or until a
// later one takes its place: the error is nil then, too.
func (c *Client) SetPresence(ctx context.Context, value uint8) error {
	return c.setPresence(ctx, value, byUser)
}

// SetAutoPresence is SetPresence for an idle timer: it counts only where the
// user has said nothing on any device, and the greatest of all devices counts.
// It takes back what the user has said on this one. See Idle.
func (c *Client) SetAutoPresence(ctx context.Context, value uint8) error {
	return c.setPresence(ctx, value, byTimer)
}

// setter is who sets the device.
type setter int

const (
	byUser setter = iota
	byTimer
	byIdle // as byTimer, unless the device stands so already, or its user has set it
)

func (c *Client) setPresence(ctx context.Context, value uint8, who setter) error {
	if value > wire.MostPresence {
		return fmt.Errorf("set presence: %d is over %d", value, wire.MostPresence)
	}
	b := value
	if who != byUser {
		b |= auto
	}
	r := ask("presence.set", wire.SetPresence{Presence: &value, Auto: who != byUser}, new(wire.Empty))
	c.mu.Lock()
	if who == byIdle && c.seen.keepsLocked(b) {
		c.mu.Unlock()
		return nil
	}
	c.seen.set = &b
	err := c.askLocked(ctx, r)
	if err == nil {
		c.overtakenLocked(c.seen.setting)
		c.seen.setting = r
	}
	c.mu.Unlock()
	if err == nil {
		err = c.outcome(ctx, r)
	}
	if err != nil {
		return fmt.Errorf("set presence: %w", err)
	}
	return nil
}

// keepsLocked says whether the device is left as it is by an idle timer that
// would set it to a byte.
func (s *sightings) keepsLocked(b uint8) bool {
	now := atFirst
	if s.set != nil {
		now = *s.set
	}
	return now&auto == 0 || now == b && (s.setting == nil || s.setting.settled && s.setting.err == nil)
}

// Presence is how present a user is, as far as this session sees it: 0 also for
// one that it does not see.
func (c *Client) Presence(user string) uint8 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen.of[user].value
}

// Present is everybody who is not offline, of those whom this session sees.
func (c *Client) Present() map[string]uint8 {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[string]uint8)
	for user, s := range c.seen.of {
		if s.value != 0 {
			out[user] = s.value
		}
	}
	return out
}

// Self is how present others see the session's own user.
func (c *Client) Self() uint8 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen.self.value
}

// presence takes one notification. It comes from one socket only: of two the
// newer one, whose session object has told all and which tells what follows.
// What is not newer is dropped.
func (c *Client) presence(k *conn, p *wire.Presence) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k != c.conn {
		return
	}
	if p.Self {
		if p.PV > c.seen.self.pv {
			c.seen.self.pv = p.PV
			c.selfLocked(p.Presence)
		}
		return
	}
	c.sightLocked(p.User, p.Presence, p.PV)
}

func (c *Client) selfLocked(value uint8) {
	if value != c.seen.self.value {
		c.seen.self.value = value
		c.changedLocked(PresenceChanged{Self: true, Presence: value})
	}
}

func (c *Client) changedLocked(p PresenceChanged) {
	if c.seen.begun {
		c.emitLocked(p, nil, wire.Position{})
	}
}

// sightLocked notes what was told of a user.
func (c *Client) sightLocked(user string, value uint8, pv uint64) {
	s, there := c.seen.of[user]
	if there && s.doubtful {
		s.doubtful = false
		c.seen.of[user] = s
	}
	if there && pv <= s.pv {
		return
	}
	changed := value != s.value
	s.value, s.pv = value, pv
	s.contact = s.contact || !c.sharesLocked(user)
	c.seen.of[user] = s
	if changed {
		c.changedLocked(PresenceChanged{User: user, Presence: value})
	}
}

// attachedLocked takes what the session object that came on k says of presence: it
// names all who are not offline, or, cut, the others follow. It is as old as its
// rooms' seqs: of who joined after that it says nothing yet.
func (c *Client) attachedLocked(k *conn, s *wire.Session) {
	named := make(map[string]bool, len(s.Presence))
	for _, p := range s.Presence {
		named[p.User] = true
	}
	cut := len(s.Presence) >= wire.PresenceTold
	for user, was := range c.seen.of {
		switch {
		case named[user], c.joinedSinceLocked(user, s.Rooms):
		case cut && was.value != 0:
			was.doubtful = true
			c.seen.of[user] = was
		default:
			c.unseenLocked(user, was)
		}
	}
	for _, p := range s.Presence {
		c.sightLocked(p.User, p.Presence, p.PV)
	}
	c.seen.self.pv = 0 // of what it was told under, a session object says nothing
	c.selfLocked(s.Self)
	if cut && c.seen.begun {
		c.awaitRestLocked(k)
	}
	c.seen.begun = true
}

// unseenLocked notes that a user is offline, as a session object says by not
// naming it.
func (c *Client) unseenLocked(user string, was sighting) {
	delete(c.seen.of, user)
	if was.value != 0 {
		c.changedLocked(PresenceChanged{User: user})
	}
}

// awaitRestLocked finds out when all have come whom a session object was cut to leave
// out: the node writes them right behind it, before the answer to any later
// request, whatever that is. Refusing an offer that there is not changes nothing.
func (c *Client) awaitRestLocked(k *conn) {
	frame, err := appendCall(nil, "redirect.refuse", wire.RedirectRefuse{})
	if err != nil {
		return
	}
	k.call(frame, func(_ jsontext.Value, err error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if k != c.conn || errors.Is(err, errLost) {
			return // the next session object tells
		}
		for user, was := range c.seen.of {
			if was.doubtful {
				c.unseenLocked(user, was)
			}
		}
	})
}

// sharesLocked says whether a user is in a room with us, as far as we know.
func (c *Client) sharesLocked(user string) bool {
	for _, r := range c.rooms {
		if r.member && r.users[user] > 0 {
			return true
		}
	}
	return false
}

// joinedSinceLocked says whether a user was told of by a join that a session object
// does not know of: the old socket of a redirect is heard until it comes.
func (c *Client) joinedSinceLocked(user string, rooms []wire.SessionRoom) bool {
	for _, s := range rooms {
		if r := c.rooms[s.Room]; r != nil && r.member && r.pos.Epoch == s.Epoch && r.joins[user] > s.Seq {
			return true
		}
	}
	return false
}

// unseeLocked forgets users whom we saw by a room alone that is shared no more.
func (c *Client) unseeLocked(user string) {
	if s, there := c.seen.of[user]; there && !s.contact && !c.sharesLocked(user) {
		delete(c.seen.of, user)
	}
}

// people says who is in a room, as an answer tells.
func (r *room) people(members []wire.Member) {
	r.clients, r.users = make(map[uint32]string, len(members)), make(map[string]int, len(members))
	r.joins = make(map[string]uint64)
	for _, m := range members {
		r.enters(m)
	}
}

func (r *room) enters(m wire.Member) {
	if _, there := r.clients[m.Client]; !there {
		r.clients[m.Client] = m.User
		r.users[m.User]++
	}
}

func (r *room) leaves(client uint32) {
	user, there := r.clients[client]
	if !there {
		return
	}
	delete(r.clients, client)
	if r.users[user]--; r.users[user] == 0 {
		delete(r.users, user)
		delete(r.joins, user)
	}
}

// movedLocked notes who enters or leaves a room, by an event of it.
func (c *Client) movedLocked(r *room, e *wire.RoomEvent) {
	switch e.Kind {
	case wire.KindJoin:
		r.enters(e.From)
		r.joins[e.From.User] = e.Seq
	case wire.KindLeave:
		r.leaves(e.From.Client)
		c.unseeLocked(e.From.User)
	}
}

// unsharedLocked forgets whom we saw by a room alone that we are no longer in.
func (c *Client) unsharedLocked(r *room) {
	for user := range r.users {
		c.unseeLocked(user)
	}
}
