package main

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"godwit/client"
	"godwit/wire"
)

// staged is a crowd of one room without a fleet: the test says what its clients
// are told, and when.
type staged struct {
	*crowd
	t   *testing.T
	now time.Time
	log []*wire.RoomEvent
	ids []uint32 // of the people's sessions
}

const stagedEpoch = "e"

func stage(t *testing.T, people int) *staged {
	s := &staged{t: t, crowd: newCrowd(soakOptions{clients: people, rooms: 1, rate: 1}, "run", "")}
	t.Cleanup(s.close)
	s.now = s.began
	for i, p := range s.people {
		s.ids = append(s.ids, uint32(100+i))
		p.session = func() wire.Session { return wire.Session{User: p.user, Client: s.ids[i], Node: "n1"} }
		p.state(client.Connected{Session: p.session()}, s.now)
		e := s.put(i, wire.KindJoin, nil)
		p.hear(client.Joined{Room: e.Room, Epoch: stagedEpoch, Seq: e.Seq}, s.now)
		s.show(e, i)
	}
	for _, p := range s.people {
		s.meets(p)
	}
	return s
}

// meets tells somebody that all others are online.
func (s *staged) meets(p *person) {
	for _, other := range s.people {
		if other != p {
			p.hear(client.PresenceChanged{User: other.user, Presence: soakOnline}, s.now)
		}
	}
}

func (s *staged) put(by int, kind wire.Kind, data wire.Raw) *wire.RoomEvent {
	e := &wire.RoomEvent{
		Room: s.rooms[0], Seq: uint64(len(s.log) + 1), Kind: kind, Data: data,
		From: wire.Member{User: s.people[by].user, Client: s.ids[by]},
	}
	if kind == wire.KindLeave {
		e.Reason = wire.LeftLost
	}
	s.log = append(s.log, e)
	return e
}

// flag changes whether the room is in a call.
func (s *staged) flag(on bool) *wire.RoomEvent {
	e := s.put(0, wire.KindCall, nil)
	e.From, e.InCall = wire.Member{}, &on
	return e
}

// say stores an answered message of somebody, which nobody is shown yet.
func (s *staged) say(by int) *wire.RoomEvent {
	seat := s.people[by].seats[s.rooms[0]]
	m := seat.Sending()
	m.At = int64(s.now.Sub(s.began)) + 1
	data, err := json.Marshal(m)
	if err != nil {
		s.t.Fatal(err)
	}
	e := s.put(by, wire.KindMessage, data)
	seat.Answered(e.Seq)
	return e
}

// show shows an entry to everybody there but some.
func (s *staged) show(e *wire.RoomEvent, but ...int) {
	for i, p := range s.people {
		hidden := p.client == nil && !p.seats[e.Room].in
		for _, b := range but {
			hidden = hidden || b == i
		}
		if !hidden {
			p.hear(e, s.now)
		}
	}
}

// after lets time pass.
func (s *staged) after(d time.Duration) { s.now = s.now.Add(d) }

// ends is the result, as the command prints it, and its exit code.
func (s *staged) ends() (r *soakResult, code int) {
	s.t.Helper()
	k := &soak{o: s.o, crowd: s.crowd}
	sum := s.tapes[0].Finish(true)
	r = k.report(sum, s.began, nil)
	var out bytes.Buffer
	if err := r.print(&out, false); err != nil {
		s.t.Fatal(err)
	}
	if marked := strings.Contains(out.String(), "must be 0"); marked != (len(r.broken()) > 0) {
		s.t.Errorf("broken %v, printed:\n%s", r.broken(), &out)
	}
	if r.verdict() == nil {
		return r, 0
	}
	if errors.As(r.verdict(), new(usage)) {
		return r, 2
	}
	return r, 1
}

func TestSoak_FindsEachPlantedFault(t *testing.T) {
	for _, c := range []struct {
		name  string
		plant func(s *staged)
		want  string // what is broken; empty: nothing
	}{
		{"nothing", func(*staged) {}, ""},
		{"a resumed session", func(s *staged) {
			s.people[0].state(client.Disconnected{Code: 1012}, s.now)
			s.people[0].hear(client.Resumed{Node: "n2"}, s.now)
			s.people[0].state(client.Connected{Session: s.people[0].session(), Resumed: true}, s.now)
		}, ""},
		{"a session that is handed over", func(s *staged) {
			s.people[0].state(client.Redirected{From: "n1", To: "n2", Reason: wire.ForDrain, Took: time.Millisecond}, s.now)
			if at, n := s.people[0].at(), s.handed.Load(); at != "n2" || n != 1 {
				s.t.Errorf("at %s after %d hand-overs, want n2 after 1", at, n)
			}
		}, ""},
		{"a lost message", func(s *staged) {
			s.show(s.say(1), 0, 1)
		}, "[messages lost: 1]"},
		{"a doubled message", func(s *staged) {
			e := s.say(1)
			s.show(e, 1)
			s.people[0].hear(e, s.now)
		}, "[messages doubled: 1]"},
		{"a message that is stored twice", func(s *staged) {
			e := s.say(1)
			s.show(e, 1)
			s.show(s.put(1, wire.KindMessage, e.Data), 1)
		}, "[messages doubled: 1]"},
		{"two messages swapped", func(s *staged) {
			one, two := s.say(1), s.say(2)
			s.show(one, 0, 1)
			s.show(two, 2)
			s.people[0].hear(one, s.now)
		}, "[messages reordered: 1]"},
		{"an extra leave", func(s *staged) {
			s.show(s.put(1, wire.KindLeave, nil), 1)
		}, "[extra joins, leaves and calls seen: 2]"},
		{"an extra join", func(s *staged) {
			s.show(s.put(1, wire.KindJoin, nil), 1)
		}, "[extra joins, leaves and calls seen: 2]"},
		{"a call that begins", func(s *staged) {
			s.show(s.flag(true))
		}, ""},
		{"a call that ends", func(s *staged) {
			s.show(s.flag(true))
			s.show(s.flag(false))
		}, "[extra joins, leaves and calls seen: 3]"},
		{"a lost session", func(s *staged) {
			s.show(s.put(0, wire.KindLeave, nil), 0)
			s.people[0].state(client.Disconnected{Code: 4301}, s.now)
			s.people[0].hear(client.Lost{Rooms: s.rooms, Err: client.ErrSessionGone}, s.now)
			for _, other := range s.people[1:] { // as a client forgets whom it knew
				s.people[0].hear(client.PresenceChanged{User: other.user}, s.now)
			}
			s.ids[0] += 1000
			s.people[0].state(client.Connected{Session: s.people[0].session()}, s.now)
			s.meets(s.people[0])
			e := s.put(0, wire.KindJoin, nil)
			s.people[0].hear(client.Joined{Room: e.Room, Epoch: stagedEpoch, Seq: e.Seq}, s.now)
			s.show(e, 0)
		}, "[sessions lost: 1 extra joins, leaves and calls seen: 4]"},
		{"somebody who seems to go and to come back", func(s *staged) {
			s.people[0].hear(client.PresenceChanged{User: s.people[1].user}, s.now)
			s.people[0].hear(client.PresenceChanged{User: s.people[1].user, Presence: soakOnline}, s.now)
		}, "[extra changes of presence seen: 2]"},
		{"somebody who seems to be away", func(s *staged) {
			s.people[0].hear(client.PresenceChanged{User: s.people[1].user, Presence: 2}, s.now)
		}, "[extra changes of presence seen: 1]"},
		{"a presence that is told again", func(s *staged) {
			s.people[0].hear(client.PresenceChanged{User: s.people[1].user, Presence: soakOnline}, s.now)
		}, "[extra changes of presence seen: 1]"},
		{"somebody who seems to go itself", func(s *staged) {
			s.people[0].hear(client.PresenceChanged{Self: true}, s.now)
		}, "[extra changes of presence seen: 1]"},
		{"a reset", func(s *staged) {
			for _, p := range s.people {
				p.hear(&wire.Reset{Room: s.rooms[0], Epoch: "f"}, s.now)
			}
			s.log = nil
		}, "[room resets: 3]"},
		{"a gap", func(s *staged) {
			e := s.say(1)
			s.show(e, 0, 1)
			s.people[0].hear(client.Gap{Room: e.Room, Epoch: stagedEpoch, Seq: e.Seq}, s.now)
		}, "[recovered:false: 1]"},
		{"a message without an answer", func(s *staged) {
			seat := s.people[1].seats[s.rooms[0]]
			seat.Sending()
			seat.Unsettled()
		}, "[messages without an answer: 1]"},
		{"a foreign text", func(s *staged) {
			s.show(s.put(1, wire.KindMessage, wire.Raw(`"hi"`)), 1)
		}, "[wrong senders, texts, refusals: 1]"},
		{"a refusal", func(s *staged) {
			seat := s.people[1].seats[s.rooms[0]]
			seat.Sending()
			seat.Refused(wire.NotMember)
			seat.Unsettled()
		}, "[wrong senders, texts, refusals: 1 messages without an answer: 1]"},
		{"a place that is lost", func(s *staged) {
			s.people[0].hear(client.Lost{Rooms: s.rooms, Err: wire.Errorf(wire.NotMember, "no")}, s.now)
			s.people[0].hear(client.Joined{Room: s.rooms[0], Epoch: stagedEpoch, Seq: uint64(len(s.log))}, s.now)
		}, "[other flaws: 1]"},
		{"a room that nobody joined", func(s *staged) {
			s.people[0].hear(client.Joined{Room: "elsewhere", Epoch: stagedEpoch, Seq: 1}, s.now)
		}, "[other flaws: 1]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := stage(t, 3)
			for range 5 {
				s.show(s.say(2), 2)
			}
			c.plant(s)
			s.show(s.say(2), 2)
			r, code := s.ends()
			got, want := "", 0
			if len(r.broken()) > 0 {
				got = fmt.Sprint(r.broken())
			}
			if c.want != "" {
				want = 1
			}
			if got != c.want || code != want || r.Clean != (want == 0) {
				t.Errorf("broken %s, exit %d, clean %v; want %s and %d\n%v\n%v", got, code, r.Clean, c.want, want, r.Findings, r.Flaws)
			}
		})
	}
}

func TestSoak_MeasuresTheQuietAroundAMove(t *testing.T) {
	s := stage(t, 3)
	p := s.people[0]
	talk := func() { s.show(s.say(1), 1) }
	talk()
	s.after(100 * time.Millisecond)
	talk()
	s.after(50 * time.Millisecond)
	p.state(client.Disconnected{Code: 1012}, s.now)
	missed := s.say(1)
	s.show(missed, 0, 1)
	s.after(200 * time.Millisecond)
	p.state(client.Disconnected{}, s.now) // a try that failed
	s.after(250 * time.Millisecond)
	p.hear(client.Resumed{Node: "n2", Rooms: []wire.SessionRoom{{Room: s.rooms[0], Seq: missed.Seq}}}, s.now)
	p.state(client.Connected{Session: wire.Session{Node: "n2"}, Resumed: true}, s.now)
	p.hear(missed, s.now)
	s.after(300 * time.Millisecond)
	talk()
	s.after(time.Hour) // not around a move
	talk()
	r, code := s.ends()
	if code != 0 {
		t.Errorf("exit %d: %v", code, r.broken())
	}
	// 500 ms without an event; what was missed was sent at the move's begin.
	for name, c := range map[string]struct {
		got  quantiles
		want quantiles
	}{
		"any event":   {r.Pause, quantiles{Count: 1, P50: 500, P99: 500, Max: 500}},
		"of a move":   {r.Around, quantiles{Count: 1, P50: 450, P99: 450, Max: 450}},
		"of anything": {quantiles{Max: r.Latency.Max}, quantiles{Max: 450}},
	} {
		if c.got != c.want {
			t.Errorf("%s: %+v, want %+v", name, c.got, c.want)
		}
	}
	if p.at() != "n2" || r.Resumed != 1 {
		t.Errorf("at %s after %d resumes, want n2 after 1", p.at(), r.Resumed)
	}
}

func TestSilence_IsTheLongestThatTouchesTheMove(t *testing.T) {
	at := func(n int) time.Time { return time.Unix(0, 0).Add(time.Duration(n) * time.Second) }
	for _, c := range []struct {
		name string
		do   func(s *silence) // before the event at 100
		want time.Duration    // around the move; 0: none
	}{
		{"no move", func(s *silence) { s.hears(at(90)) }, 0},
		{"quiet from before to after", func(s *silence) {
			s.hears(at(90))
			s.leaves(at(95))
			s.arrives(at(96))
		}, 10 * time.Second},
		{"events on the old socket meanwhile", func(s *silence) {
			s.hears(at(80))
			s.leaves(at(81))
			s.hears(at(95))
			s.arrives(at(96))
		}, 15 * time.Second},
		{"told when it is over", func(s *silence) {
			s.hears(at(10))
			s.hears(at(70)) // before it
			s.hears(at(90)) // within
			s.leaves(at(80))
			s.arrives(at(95))
		}, 20 * time.Second},
		{"not back yet", func(s *silence) {
			s.hears(at(90))
			s.leaves(at(95))
		}, 0},
		{"lost again", func(s *silence) {
			s.hears(at(90))
			s.leaves(at(91))
			s.arrives(at(92))
			s.leaves(at(93))
			s.arrives(at(94))
		}, 10 * time.Second},
		{"nothing to measure from", func(s *silence) {
			s.leaves(at(95))
			s.arrives(at(96))
		}, 0},
	} {
		s := new(silence)
		c.do(s)
		if _, got, done := s.hears(at(100)); got != c.want || done != (c.want != 0) {
			t.Errorf("%s: %s, %v; want %s", c.name, got, done, c.want)
		}
	}
}

func TestPassage_IsOfWhatWasOnItsWayDuringTheMove(t *testing.T) {
	at := func(n int) time.Time { return time.Unix(0, 0).Add(time.Duration(n) * time.Second) }
	p := new(passage)
	tell := func(sent, came int, want bool) {
		t.Helper()
		if got := p.hears(delivery{sent: at(sent), came: at(came)}); got != want {
			t.Errorf("sent at %d, came at %d: %v, want %v", sent, came, got, want)
		}
	}
	tell(1, 2, false)
	tell(3, 10, false)
	tell(9, 11, false)
	// A hand-over is told when it is over; what came meanwhile is told then, once.
	if late := p.leaves(at(10)); !slices.Equal(late, []time.Duration{7 * time.Second, 2 * time.Second}) {
		t.Errorf("came since: %v", late)
	}
	p.arrives(at(12))
	tell(12, 13, true)
	tell(13, 14, false)
	if late := p.leaves(at(13)); !slices.Equal(late, []time.Duration{time.Second}) { // of the two, one was told
		t.Errorf("came since the next one: %v", late)
	}
	tell(14, 20, true)
	p.leaves(at(21)) // a try that failed
	p.arrives(at(25))
	tell(15, 26, true)
	tell(26, 27, false)
}

func TestSpread_TellsQuantilesWithinThreeInAHundred(t *testing.T) {
	s := new(spread)
	const n = 100_000
	for i := range n {
		s.add(time.Duration(i+1)*time.Millisecond, 1)
	}
	q := s.quantiles()
	near := func(got, want float64) bool { return math.Abs(got-want) <= want*0.035 }
	if !near(q.P50, n/2) || !near(q.P99, n/100*99) || q.Max != n || q.Count != n {
		t.Errorf("%+v, want 50%%, 99%% and all of %d", q, n)
	}
	for _, v := range []uint64{0, 1, 63, 64, 65, 1000, 1 << 40, math.MaxUint64} {
		top := spreadTop(spreadPart(v))
		if top < v || float64(top-v) > float64(v)/spreadParts {
			t.Errorf("%d is told as %d", v, top)
		}
		if v > 0 && spreadPart(v) < spreadPart(v-1) {
			t.Errorf("%d is counted below %d", v, v-1)
		}
	}
	w := new(spread)
	w.add(time.Second, 1)
	w.add(time.Minute, 99)
	if q := w.quantiles(); q.P50 != 60_000 || q.Count != 2 {
		t.Errorf("%+v, want weights to count", q)
	}
	if q := new(spread).quantiles(); q != (quantiles{}) {
		t.Errorf("%+v, want nothing of nothing", q)
	}
}
