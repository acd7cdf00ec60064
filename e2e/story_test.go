package e2e

import (
	"math/rand/v2"
	"testing"
	"time"

	"godwit/e2e/fault"
	"godwit/e2e/fleet"
	"godwit/e2e/ledger"
)

// catchUp bounds how long after the talk the last client may see the last
// message: two seconds to notice a hole, a resume with its back-off, and room
// for a busy machine.
const catchUp = 20 * time.Second

// slowRound bounds the same where both a room's newest message and the word
// that says its head again may be lost: the node's slow round of comparing all
// heads with the log is a minute.
const slowRound = time.Minute + catchUp

// story is a crowd in a fleet, and what befalls it.
type story struct {
	t     *testing.T
	fleet *fleet.Fleet
	crowd *crowd
	rng   *rand.Rand
	// some is a number of answers that shows that the talk goes on.
	some int64
}

func tell(t *testing.T, o fleet.Options) *story {
	t.Helper()
	if *long {
		return tellTo(t, o, manyPeople)
	}
	return tellTo(t, o, fewPeople)
}

func tellTo(t *testing.T, o fleet.Options, people size) *story {
	t.Helper()
	rng, s := choices(t)
	o.Seed = s
	st := &story{t: t, rng: rng, some: int64(5 * people.people)}
	if people == manyPeople {
		st.some = 600
	}
	st.fleet = fleet.Start(t, o)
	st.crowd = gather(t, stage{
		urls: st.fleet.URLs, redis: st.fleet.Store,
		token: func(user string) string { return fleet.Token(user, time.Hour) },
	}, people, rng)
	st.crowd.hear(st.some)
	return st
}

// longOnly skips the stories that take their time, unless they are asked for.
func longOnly(t *testing.T) {
	t.Helper()
	if !*long {
		t.Skip("only with -story")
	}
}

// whole ends the story where nobody has an excuse: no session was lost, no
// room's stream was broken, and nobody seemed to leave.
func (s *story) whole(within time.Duration) ledger.Report {
	s.t.Helper()
	r := s.crowd.settle(within)
	if r.Excused != 0 {
		s.t.Errorf("%d times a client was told of a gap, a reset or a lost session; this fault excuses none", r.Excused)
	}
	if stirs := s.crowd.stirs(); len(stirs) > 0 {
		s.t.Errorf("nobody's presence has changed, and %q", stirs)
	}
	return r
}

// keptSockets says that no client has lost a socket.
func (s *story) keptSockets() {
	s.t.Helper()
	if n := s.crowd.dropped.Load(); n != 0 {
		s.t.Errorf("%d sockets were lost, want none", n)
	}
}

func (s *story) pick() *fleet.Node { return s.fleet.Nodes[s.rng.IntN(len(s.fleet.Nodes))] }

func TestStory_NodeKilledLosesNothingAndNobodySeemsToLeave(t *testing.T) {
	s := tell(t, fleet.Options{})
	victim := s.pick()
	victim.Kill()
	s.crowd.hear(s.some)
	victim.Start()
	if *long {
		s.crowd.hear(s.some)
		s.pick().Kill()
	}
	s.crowd.hear(s.some)
	s.whole(catchUp)
	if s.crowd.dropped.Load() == 0 {
		t.Error("no client lost its socket: the kill hit nobody")
	}
}

func TestStory_SubscriptionsKilledLoseNothing(t *testing.T) {
	s := tell(t, fleet.Options{})
	for range 3 {
		if n := s.fleet.Redis.KillPubSub(); n < int64(len(s.fleet.Nodes)) {
			t.Errorf("%d subscriptions were killed, want one a node at least", n)
		}
		s.crowd.hear(s.some / 2)
	}
	s.whole(catchUp)
	s.keptSockets()
}

func TestStory_FanOutMessagesLostOnTheWayAreFilledFromTheLog(t *testing.T) {
	s := tell(t, fleet.Options{Proxied: true})
	one := 100
	if !*long {
		one = 10 // few messages: lose more of them
	}
	s.spoils(s.fleet.Proxies[:2], one)
	for _, p := range s.fleet.Proxies {
		if n := p.Counts().Unread; n != 0 {
			t.Errorf("%d connections were not understood by the proxy", n)
		}
	}
}

// spoils has messages of rooms lost on the way, one in so many, and others
// exchanged, and ends the story.
func (s *story) spoils(at []*fault.Proxy, one int) {
	s.t.Helper()
	for i, p := range at {
		p.Set(fault.Spoil{Channel: fault.Rooms, LoseOneIn: one, SwapOneIn: one * (1 + i)})
	}
	s.crowd.hear(4 * s.some)
	s.whole(slowRound)
	var lost, swapped int64
	for _, p := range at {
		n := p.Counts()
		lost, swapped = lost+n.Lost, swapped+n.Swapped
	}
	if lost == 0 || swapped == 0 {
		s.t.Errorf("%d messages lost and %d exchanged: the fault did not happen", lost, swapped)
	}
	s.keptSockets()
}

func TestStory_DeafSubscriptionsAreNoticedAndReplaced(t *testing.T) {
	longOnly(t)
	s := tell(t, fleet.Options{Proxied: true})
	for i := range s.fleet.Nodes {
		s.deafens(s.fleet.Proxies[i:i+1], s.fleet.Nodes[i:i+1])
	}
	s.whole(catchUp)
}

func TestStory_NodeStoppedForLongComesBackFenced(t *testing.T) {
	longOnly(t)
	tell(t, fleet.Options{Env: map[string]string{"GODWIT_PING": "1s", "GODWIT_GRACE": "30s"}}).stopsOneForLong()
}

// stopsOneForLong stops a node for longer than its lease, and ends the story.
// Clients notice the silence by their pings and go on elsewhere.
func (s *story) stopsOneForLong() {
	s.t.Helper()
	victim := s.pick()
	victim.Stop()
	awake := time.After(15 * time.Second)
	s.crowd.hear(s.some)
	<-awake
	victim.Cont()
	victim.Ready()
	s.crowd.hear(s.some)
	s.whole(catchUp)
	if s.crowd.dropped.Load() == 0 {
		s.t.Error("no client lost its socket: the stop hit nobody")
	}
}

func TestStory_RedisRestartedWithItsDataLosesNothing(t *testing.T) {
	longOnly(t)
	s := tell(t, fleet.Options{})
	for range 2 {
		s.fleet.Redis.Kill()
		away := time.After(3 * time.Second)
		<-away
		s.fleet.Redis.Start()
		s.crowd.hear(s.some)
	}
	s.whole(catchUp)
	s.keptSockets()
}

func TestStory_RedisWipedResetsRoomsAndKeepsSessions(t *testing.T) {
	longOnly(t)
	s := tell(t, fleet.Options{})
	for range 2 {
		s.fleet.Redis.Wipe()
		s.crowd.hear(s.some)
	}
	r := s.crowd.settle(catchUp)
	places := 0
	for _, p := range s.crowd.people {
		places += len(p.home)
	}
	if r.Excused < places {
		t.Errorf("%d breaks were told, want one a member and wipe at least (%d members)", r.Excused, places)
	}
	s.keptSockets()
	if n := s.crowd.lost.Load(); n != 0 {
		t.Errorf("%d sessions were lost, want none", n)
	}
}
