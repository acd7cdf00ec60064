package server_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/go-json-experiment/json"

	"godwit/internal/trial"
	"godwit/wire"
)

// onlooker is a session that keeps what it is told of presence.
type onlooker struct {
	*person
	pv map[string]uint64
}

// look is a new session whose device begins with that byte.
func look(t *testing.T, f *trial.Fleet, node int, user string, presence uint8) *onlooker {
	t.Helper()
	o := &onlooker{person: &person{t: t, Conn: dial(t, f, node)}, pv: map[string]uint64{}}
	if err := o.Call(t.Context(), "hello", wire.Hello{Token: "dev:" + user, Presence: &presence}, &o.session); err != nil {
		t.Fatal(err)
	}
	for _, p := range o.session.Presence {
		o.pv[p.User] = p.PV
	}
	return o
}

// online is a device that is online by itself.
const online, away = 0x80 | 3, 0x80 | 2

func (o *onlooker) set(value uint8, auto bool) {
	o.t.Helper()
	if err := o.Call(o.t.Context(), "presence.set", wire.SetPresence{Presence: &value, Auto: auto}, nil); err != nil {
		o.t.Fatal(err)
	}
}

func (o *onlooker) leave(room string) {
	o.t.Helper()
	if err := o.Call(o.t.Context(), "room.leave", wire.Leave{Room: room}, nil); err != nil {
		o.t.Fatal(err)
	}
}

// told is all that this one was told of presence since it was asked last, once
// nothing more comes: "user value", "self value". A pv that does not grow fails.
func (o *onlooker) told() []string {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), time.Second)
	defer cancel()
	var out []string
	for {
		n, err := o.Next(ctx)
		if err != nil {
			return out
		}
		if n.Method != "presence" {
			continue
		}
		var p wire.Presence
		if err := json.Unmarshal(n.Params, &p); err != nil {
			o.t.Fatal(err)
		}
		who := p.User
		if p.Self {
			who = "self"
		}
		if p.PV <= o.pv[who] {
			o.t.Errorf("of %s a pv of %d after %d: a client drops it", who, p.PV, o.pv[who])
		}
		o.pv[who] = p.PV
		out = append(out, fmt.Sprintf("%s %d", who, p.Presence))
	}
}

func (o *onlooker) is(what string, want ...string) {
	o.t.Helper()
	if got := o.told(); !slices.Equal(got, want) {
		o.t.Errorf("%s: %s was told %q, want %q", what, o.session.User, got, want)
	}
}

// dump is the session object's list.
func (o *onlooker) dump() string {
	var out []string
	for _, p := range o.session.Presence {
		out = append(out, fmt.Sprintf("%s %d", p.User, p.Presence))
	}
	return strings.Join(out, ", ")
}

func contacts(t *testing.T, f *trial.Fleet, user string, list ...string) {
	t.Helper()
	if _, err := f.Nodes[1].Core.Fleet().SetContacts(t.Context(), user, list); err != nil {
		t.Fatal(err)
	}
}

func TestPresence_IsTheUsersNotTheDevices(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		contacts(t, f, "bob", "ann")
		bob := look(t, f, 2, "bob", online)
		a := look(t, f, 1, "ann", 0x80|4)
		b := look(t, f, 2, "ann", online)
		if a.session.Self != 4 || b.session.Self != 4 {
			t.Errorf("at hello self is %d and %d, want 4: the more chatty device", a.session.Self, b.session.Self)
		}
		bob.is("ann comes with two devices", "ann 4")
		a.set(2, true)
		bob.is("A is idle, B online", "ann 3")
		a.is("A asked for 2, and is told what holds", "self 3")
		b.is("B as well", "self 3")
		a.set(1, false)
		b.set(2, true)
		bob.is("do not disturb on A, and B goes idle", "ann 1")
		a.is("do not disturb", "self 1")
		if err := a.Call(t.Context(), "bye", wire.Empty{}, nil); err != nil {
			t.Fatal(err)
		}
		bob.is("A says bye: B's value", "ann 2")
		b.is("A says bye", "self 1", "self 2")
		b.Drop()
		time.Sleep(29 * time.Second)
		bob.is("B is detached")
		time.Sleep(5 * time.Second)
		bob.is("its grace is over", "ann 0")
		time.Sleep(2 * time.Minute)
		bob.is("once")
	})
}

func TestPresence_IsForWhoHasTheUserInContactsOrInARoom(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		contacts(t, f, "contact", "ann", "nobody", "contact")
		ann := look(t, f, 1, "ann", online)
		var all []*onlooker
		for i, user := range []string{"contact", "roommate", "both", "stranger", "backer"} {
			all = append(all, look(t, f, 1+i%2, user, 0)) // invisible, so that only ann is seen
		}
		contact, roommate, both, stranger, backer := all[0], all[1], all[2], all[3], all[4]
		contacts(t, f, "both", "ann")
		contacts(t, f, "ann", "backer") // whom ann watches, does not watch ann
		if got := contact.dump(); got != "ann 3" {
			t.Errorf("at hello a contact is told %q, want ann 3", got)
		}
		both.is("a contact that is added", "ann 3")
		for _, room := range []string{"r1", "r2", "r3"} {
			roommate.join(room)
			both.join(room)
			ann.join(room)
		}
		stranger.join("r4")
		ann.is("everybody else is invisible")
		roommate.is("the first room with ann", "ann 3")
		both.is("rooms tell it nothing new")
		ann.set(1, false)
		for _, o := range []*onlooker{contact, roommate, both} {
			o.is("a change, however many ways it comes", "ann 1")
		}
		for _, room := range []string{"r1", "r2"} {
			ann.leave(room)
		}
		ann.set(2, false)
		roommate.is("one room is left", "ann 2")
		ann.leave("r3")
		ann.set(3, false)
		roommate.is("no room is left")
		contact.is("the contact", "ann 2", "ann 3")
		both.is("the contact", "ann 2", "ann 3")
		ann.join("r1")
		roommate.is("a room again", "ann 3")
		roommate.leave("r1")
		ann.set(1, false)
		roommate.is("the other one left")
		for _, o := range []*onlooker{stranger, backer} {
			o.is("who has nothing to do with ann")
		}
	})
}

func TestPresence_ContactsChangeAtOnce(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		ann, cy := look(t, f, 1, "ann", online), look(t, f, 2, "cy", online)
		bob, phone := look(t, f, 1, "bob", 0), look(t, f, 2, "bob", 0)
		both := func(what string, want ...string) {
			t.Helper()
			bob.is(what, want...)
			phone.is(what, want...)
		}
		contacts(t, f, "bob", "ann", "dan")
		both("ann is added", "ann 3")
		contacts(t, f, "bob", "ann", "dan")
		both("the same list")
		contacts(t, f, "bob", "cy")
		both2 := func(o *onlooker, what string, want ...string) {
			t.Helper()
			got := o.told()
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", what, got, want)
			}
		}
		both2(bob, "ann is removed, cy added", "ann 0", "cy 3")
		both2(phone, "ann is removed, cy added", "ann 0", "cy 3")
		ann.set(1, false)
		cy.set(1, false)
		both("who is removed, and who is added", "cy 1")
		contacts(t, f, "bob", "ann", "cy")
		both("ann is back, as she is now", "ann 1")
		bob.join("lobby")
		ann.join("lobby")
		bob.is("the room tells nothing new")
		contacts(t, f, "bob", "cy")
		bob.is("ann is removed, but in the room")
		phone.is("which is not this one's", "ann 0")
		ann.set(2, false)
		bob.is("the room tells", "ann 2")
		contacts(t, f, "bob")
		both("cy is removed", "cy 0")
		dan := look(t, f, 1, "dan", online)
		both("dan is in no list any more")
		contacts(t, f, "bob", "dan")
		both("dan is back", "dan 3")
		dan.Drop()
		time.Sleep(35 * time.Second)
		both("dan is gone", "dan 0")
		contacts(t, f, "bob")
		both("who is offline is removed without a word")
	})
}

func TestPresence_InvisibleIsNotListedAndIsThereAllTheSame(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		contacts(t, f, "bob", "ann")
		ann := look(t, f, 1, "ann", 0)
		bob := look(t, f, 2, "bob", online)
		if bob.dump() != "" || ann.session.Self != 0 {
			t.Errorf("bob is told %q, ann that she is %d", bob.dump(), ann.session.Self)
		}
		ann.join("lobby")
		bob.join("lobby")
		bob.is("a room with the invisible")
		ann.is("and she sees", "bob 3")
		if err := bob.say("hi", 1); err != nil {
			t.Fatal(err)
		}
		ann.sees("hi")
		ann.set(3, false)
		bob.is("she shows up", "ann 3")
		ann.set(0, false)
		bob.is("and hides", "ann 0")
		if again := look(t, f, 1, "bob", online); again.dump() != "" {
			t.Errorf("a session of bob's is told %q, want nobody", again.dump())
		}
	})
}

func TestPresence_AResumeARedirectAndACrashAreNoEvent(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		contacts(t, f, "bob", "ann")
		bob := look(t, f, 2, "bob", online)
		bob.join("lobby")
		ann := &onlooker{person: follower(t, f, 1, "ann"), pv: map[string]uint64{}}
		since := ann.at("lobby")
		ann.set(1, false)
		bob.is("ann comes", "ann 3", "ann 1")
		ann.told()

		c, s, err := handover(t, f, 2, ann.offered(), since)
		if err != nil {
			t.Fatal(err)
		}
		if s.Self != 1 || len(s.Presence) != 1 || s.Presence[0].User != "bob" || s.Presence[0].Presence != 3 {
			t.Errorf("handed over with self %d and %+v, want 1 and bob", s.Self, s.Presence)
		}
		s.Secret = ann.session.Secret
		one := uint8(5)
		if err := ann.Call(t.Context(), "presence.set", wire.SetPresence{Presence: &one}, nil); reason(err) != wire.Moved {
			t.Errorf("a set on the old socket answers %v, want moved", err)
		}
		now := &onlooker{person: &person{t: t, Conn: c, session: s}, pv: map[string]uint64{}}
		bob.is("a redirect")
		now.Drop()
		time.Sleep(10 * time.Second)
		again := resumed(t, f, 1, now.session, nil)
		if again.session.Self != 1 {
			t.Errorf("resumed with self %d, want 1", again.session.Self)
		}
		bob.is("a resume in the grace")
		f.Nodes[0].Cut()
		time.Sleep(5 * time.Second)
		last := resumed(t, f, 2, again.session, nil)
		bob.is("a crash in the grace")
		time.Sleep(2 * time.Minute)
		bob.is("long after")
		last.set(2, false)
		bob.is("it is set where it is", "ann 2")
		three := uint8(3)
		last.Drop()
		time.Sleep(time.Second)
		resumed(t, f, 2, again.session, &three)
		bob.is("a resume that says a value", "ann 3")
	})
}

// A login takes a while, in which another device may change what its user is.
func TestPresence_WhatOnesOwnUserBecomesDuringALoginIsToldInItsAnswer(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		contacts(t, f, "ann", "bob") // who is read before the answer
		phone := look(t, f, 1, "ann", online)
		asked, answer := make(chan struct{}), make(chan struct{})
		var once sync.Once
		f.Redis.Server().SetPreHook(func(_ *server.Peer, cmd string, args ...string) bool {
			if strings.EqualFold(cmd, "HMGET") && args[0] == "gw:{u:bob}:presence" {
				once.Do(func() { close(asked) })
				<-answer
			}
			return false
		})
		in := make(chan *onlooker)
		go func() { in <- look(t, f, 2, "ann", online) }()
		<-asked
		phone.set(1, false)
		synctest.Wait() // and node 2 has heard of it
		f.Redis.Server().SetPreHook(nil)
		close(answer)
		desk := <-in
		if desk.session.Self != 1 {
			t.Errorf("self is %d in the answer, want 1", desk.session.Self)
		}
		desk.is("and is not said again")
	})
}

// A client takes who is not named for offline: better no session object than one
// that leaves out who could not be read.
func TestPresence_AResumeThatCannotSayWhoIsThereIsRefused(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		contacts(t, f, "bob", "ann")
		look(t, f, 2, "ann", online)
		bob := look(t, f, 2, "bob", online)
		bob.Drop()
		f.Redis.Server().SetPreHook(func(p *server.Peer, cmd string, args ...string) bool {
			reads := strings.EqualFold(cmd, "HMGET") && args[0] == "gw:{u:ann}:presence"
			if reads {
				p.WriteError("LOADING not now")
			}
			return reads
		})
		var s wire.Session
		err := dial(t, f, 1).Call(t.Context(), "resume", wire.Resume{Session: bob.session.Session, Secret: bob.session.Secret}, &s)
		if reason(err) != wire.Unavailable {
			t.Errorf("answered %v with %+v, want unavailable", err, s.Presence)
		}
		f.Redis.Server().SetPreHook(nil)
		if again := resumed(t, f, 1, bob.session, nil); again.dump() != "ann 3" {
			t.Errorf("then bob is told %q, want ann", again.dump())
		}
	})
}

// resumed is the session on a new socket.
func resumed(t *testing.T, f *trial.Fleet, node int, s wire.Session, presence *uint8) *onlooker {
	t.Helper()
	o := &onlooker{person: &person{t: t, Conn: dial(t, f, node)}, pv: map[string]uint64{}}
	if err := o.Call(t.Context(), "resume", wire.Resume{Session: s.Session, Secret: s.Secret, Presence: presence}, &o.session); err != nil {
		t.Fatal(err)
	}
	o.session.Secret = s.Secret
	return o
}

// mislay has what is said on a channel be lost, until stop.
func mislay(f *trial.Fleet, channel string) (stop func()) {
	f.Redis.Server().SetPreHook(func(p *server.Peer, cmd string, args ...string) bool {
		if strings.EqualFold(cmd, "PUBLISH") && args[0] == channel {
			p.WriteInt(0)
			return true
		}
		return false
	})
	return func() { f.Redis.Server().SetPreHook(nil) }
}

// What is lost on the way, or said while nobody could hear, is found when the
// subscription is made anew.
func TestPresence_WhatADeafNodeMissedIsReadAgain(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		contacts(t, f, "bob", "ann", "cy")
		bob, dan := look(t, f, 1, "bob", online), look(t, f, 1, "dan", online)
		ann, cy, eve := look(t, f, 2, "ann", online), look(t, f, 2, "cy", online), look(t, f, 2, "eve", online)
		dan.join("lobby")
		ann.join("lobby")
		bob.told()
		dan.told()
		f.Nodes[0].Part()
		ann.set(1, false)
		cy.set(2, false)
		cy.set(3, true)
		contacts(t, f, "bob", "ann", "eve")
		eve.set(3, false)
		time.Sleep(5 * time.Second)
		f.Nodes[0].Join()
		time.Sleep(5 * time.Second)
		got := bob.told()
		slices.Sort(got)
		if want := []string{"ann 1", "cy 0", "eve 3"}; !slices.Equal(got, want) {
			t.Errorf("bob was told %q, want %q", got, want)
		}
		dan.is("by the room", "ann 1")
		ann.set(2, false)
		bob.is("and hears again", "ann 2")
	})
}

func TestPresence_AMessageThatIsLostIsFoundWithinAMinute(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		contacts(t, f, "bob", "ann")
		bob, ann := look(t, f, 1, "bob", online), look(t, f, 2, "ann", online)
		bob.is("ann comes", "ann 3")
		stop := mislay(f, "gw:{u:bob}:in")
		ann.set(1, false)
		bob.is("the message is lost")
		stop()
		time.Sleep(time.Minute)
		bob.is("the slow round", "ann 1")
	})
}

func TestPresence_AfterAWipeLiveSessionsAreWhatTheyWere(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		ann, phone, bob := look(t, f, 1, "ann", online), look(t, f, 2, "ann", away), look(t, f, 2, "bob", online)
		gone := look(t, f, 1, "gone", online)
		for _, o := range []*onlooker{ann, bob, gone} {
			o.join("lobby")
		}
		phone.set(1, false)
		ann.set(2, false)
		ann.told()
		bob.told()
		gone.Drop()
		time.Sleep(time.Second)
		f.Redis.FlushAll()
		time.Sleep(5 * time.Second)
		// Each node registers its devices by itself. Where the phone's is first,
		// its older word counts until ann's is there.
		for _, o := range []struct {
			*onlooker
			what string
		}{{bob, "ann"}, {ann, "self"}} {
			if got := o.told(); len(got) > 0 && !slices.Equal(got, []string{o.what + " 1", o.what + " 2"}) {
				t.Errorf("by the wipe %s was told %q, want nothing, or her phone's word and hers", o.session.User, got)
			}
		}
		ann.set(1, true) // of what was set before, the phone's word is left
		bob.is("a set after the wipe", "ann 1")
		time.Sleep(time.Minute)
		bob.is("who was detached is lost with the store", "gone 0")
		ann.is("as are all others", "self 1", "gone 0")
		look(t, f, 1, "gone", online)
		ann.is("who logs in again is in no room of hers")
	})
}

// Contacts are lost with the store until they are put again: whoever was seen by
// them alone is seen no more, also one of whom the store knows nothing now.
func TestPresence_AfterAWipeAContactIsSeenNoMore(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		contacts(t, f, "bob", "ann", "gone")
		bob, _, gone := look(t, f, 1, "bob", 0), look(t, f, 2, "ann", online), look(t, f, 2, "gone", online)
		bob.told()
		gone.Drop()
		time.Sleep(time.Second)
		f.Redis.FlushAll()
		time.Sleep(time.Minute)
		got := bob.told()
		slices.Sort(got)
		if want := []string{"ann 0", "gone 0"}; !slices.Equal(got, want) {
			t.Errorf("bob was told %q, want %q", got, want)
		}
	})
}

// The latest word is the latest, whichever node registers its session first.
func TestPresence_AfterAWipeTheUsersLatestWordStillCounts(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		for i, user := range []string{"ann", "eve"} {
			first, last := look(t, f, 1+i, user, online), look(t, f, 2-i, user, online)
			first.join("lobby")
			first.set(1, false)
			last.set(2, false)
		}
		time.Sleep(time.Second)
		f.Redis.FlushAll()
		time.Sleep(10 * time.Second)
		bob := look(t, f, 1, "bob", 0)
		bob.join("lobby")
		got := bob.told()
		slices.Sort(got)
		if want := []string{"ann 2", "eve 2"}; !slices.Equal(got, want) {
			t.Errorf("after the wipe bob was told %q, want %q", got, want)
		}
	})
}

func TestPresence_ANodeThatComesBackHasItsDevicesAtTheirGen(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		ann := look(t, f, 1, "ann", online)
		f.Nodes[0].Part()
		time.Sleep(10 * time.Second) // swept, and detached
		f.Nodes[0].Join()
		time.Sleep(5 * time.Second)
		row := f.Redis.HGet("gw:{u:ann}:devices", fmt.Sprint(ann.session.Client))
		if !strings.HasPrefix(row, "2 131 ") {
			t.Errorf("the device is %q, want gen 2 and its byte", row)
		}
		ann.set(1, false)
		ann.is("it is hers", "self 1")
	})
}

func TestPresence_AnInboxIsFollowedWhileItsUserIsHere(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		const inbox = "gw:{u:ann}:in"
		following := func(what string, want int) {
			t.Helper()
			time.Sleep(time.Second)
			if got := f.Redis.PubSubNumSub(inbox)[inbox]; got != want {
				t.Errorf("%s: %d nodes follow it, want %d", what, got, want)
			}
		}
		one, two, three := look(t, f, 1, "ann", online), look(t, f, 1, "ann", online), look(t, f, 2, "ann", online)
		following("three sessions at two nodes", 2)
		one.Drop()
		three.Drop()
		following("one is left", 1)
		two.Drop()
		following("none is left", 0)
	})
}

func TestPresence_MoreThanTheSessionObjectHoldsFollows(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		const many = wire.PresenceTold + 20
		var list []string
		for i := range many {
			user := fmt.Sprintf("u%03d", i)
			look(t, f, 1+i%2, user, online)
			list = append(list, user)
		}
		contacts(t, f, "bob", list...)
		bob := look(t, f, 1, "bob", online)
		seen := map[string]bool{}
		for _, p := range bob.session.Presence {
			seen[p.User+" 3"] = p.Presence == 3
		}
		if len(seen) != wire.PresenceTold {
			t.Errorf("the session object names %d, want %d", len(seen), wire.PresenceTold)
		}
		for _, p := range bob.told() {
			if seen[p] {
				t.Errorf("%s was told twice", p)
			}
			seen[p] = true
		}
		if len(seen) != many {
			t.Errorf("told of %d, want %d: %v", len(seen), many, slices.Sorted(maps.Keys(seen)))
		}
	})
}

func TestPresence_BadInputIsAnsweredAndChangesNothing(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		ann := look(t, f, 1, "ann", online)
		for _, params := range []string{
			`{}`, `{"presence":null}`, `{"presence":128}`, `{"presence":255}`, `{"presence":256}`, `{"presence":-1}`, `{"presence":1.5}`,
			`{"presence":"3"}`, `{"presence":3,"auto":"yes"}`, `{"presence":3,"auto":1}`, `{"auto":true}`,
		} {
			err := ann.Call(t.Context(), "presence.set", wire.Raw(params), nil)
			var e *wire.Error
			if !errors.As(err, &e) || e.Code != wire.CodeInvalidParams {
				t.Errorf("%s answers %v, want -32602", params, err)
			}
		}
		ann.is("nothing has changed")
		ann.set(0, true)
		ann.set(127, true)
		ann.is("the least and the most", "self 0", "self 127")
		f.Nodes[0].Part()
		time.Sleep(2 * time.Second)
		three := uint8(3)
		if err := ann.Call(t.Context(), "presence.set", wire.SetPresence{Presence: &three}, nil); reason(err) != wire.Unavailable {
			t.Errorf("at a node that is cut off: %v, want unavailable", err)
		}
		f.Nodes[0].Join()
		synctest.Wait()
	})
}
