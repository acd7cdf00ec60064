package store

import (
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// proto is an error that a server answers.
type proto string

func (e proto) Error() string { return string(e) }
func (proto) RedisError()     {}

const primaryA, primaryB = "10.0.0.1:6379", "10.0.0.2:6379"

// unconnected is a subscriber to sharded channels whose followers are told what a
// server would answer.
func unconnected(t *testing.T) (*Subscriber, *ear) {
	t.Helper()
	s, err := Open(Config{URL: "redis+cluster://127.0.0.1:1", Sharded: ShardedOn}) // it is not dialled
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	e := &ear{heard: make(map[string][]uint64), wake: make(chan struct{}, 1)}
	return s.NewSubscriber(Ref{"n", "b"}, e), e
}

// fed is a follower without a connection.
type fed struct {
	*follower
	t *testing.T
}

// feed is a follower at an address, which hears.
func feed(t *testing.T, sub *Subscriber, addr string) fed {
	t.Helper()
	f := fed{sub.newFollower("own of " + addr), t}
	f.shard = addr
	sub.hears(f.follower, false)
	f.connects()
	return f
}

// connects is a connection that has just come about.
func (f fed) connects() {
	f.t.Helper()
	f.anew()
	f.must(f.says("ssubscribe", f.own))
}

// asks is what the follower asks of the server now.
func (f fed) asks() (add, drop []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.channels.next(subscribeChunk)
}

func (f fed) says(kind, name string) error {
	return f.confirm(&redis.Subscription{Kind: kind, Channel: name})
}

func (f fed) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// followed has a channel followed.
func (f fed) followed(name string) {
	f.t.Helper()
	f.sub.shards.at[name] = f.follower
	f.follow(name, wish{})
	f.asks()
	f.must(f.says("ssubscribe", name))
}

func elsewhere(name string) error { return proto(fmt.Sprintf("MOVED %d %s", slotOf(name), primaryB)) }

// What a server answers of a slot that is elsewhere brings its channel there, and
// nothing else is taken for that.
func TestFollower_AnswersAboutSlotsThatAreElsewhere(t *testing.T) {
	room := keysOfRoom("r").channel()
	for name, tc := range map[string]struct {
		followed bool // before, else it is asked for
		answer   func(f fed) error
		parked   bool
		owed     debt
		to       string
		fails    bool
	}{
		"refused":                     {answer: func(f fed) error { return f.refused(elsewhere(room)) }, parked: true, to: primaryB},
		"of another slot":             {answer: func(f fed) error { return f.refused(elsewhere("another")) }},
		"refused as such":             {answer: func(f fed) error { return f.refused(proto("NOPERM no")) }, fails: true},
		"an old server":               {answer: func(f fed) error { return f.refused(proto("ERR unknown command 'ssubscribe'")) }, fails: true},
		"nothing was asked":           {followed: true, answer: func(f fed) error { return f.refused(elsewhere(room)) }},
		"ended":                       {followed: true, answer: func(f fed) error { return f.says("sunsubscribe", room) }, parked: true, owed: owesLook},
		"ended while it is asked for": {answer: func(f fed) error { return f.says("sunsubscribe", room) }, fails: true},
		"followed twice":              {followed: true, answer: func(f fed) error { return f.says("ssubscribe", room) }, fails: true},
		"its own":                     {answer: func(f fed) error { return f.says("sunsubscribe", f.own) }, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			sub, _ := unconnected(t)
			f := feed(t, sub, primaryA)
			when := newLatch(1)
			if tc.followed {
				f.followed(room)
			} else {
				sub.shards.at[room] = f.follower
				f.follow(room, wish{waiters: []*latch{when}})
				f.asks()
			}
			if err := tc.answer(f); tc.fails != (err != nil) {
				t.Fatalf("error %v", err)
			}
			p, parked := sub.shards.parked[room]
			switch {
			case parked != tc.parked:
				t.Fatalf("parked %t", parked)
			case parked && (p.owed != tc.owed || p.to != tc.to || (len(p.waiters) == 1) == tc.followed):
				t.Errorf("parked as %+v, want owed %d, to %q", p, tc.owed, tc.to)
			case parked && f.channels.all[room] != nil:
				t.Errorf("its follower keeps it")
			}
		})
	}
}

// A server ends what it is just asked to end, and answers that with an error.
func TestFollower_AnEndThatCrossesTheWishToEndIsNoFault(t *testing.T) {
	sub, e := unconnected(t)
	f := feed(t, sub, primaryA)
	room, other := keysOfRoom("r").channel(), keysOfRoom("other").channel()
	f.followed(room)
	sub.shards.drop(room)
	f.asks()
	f.must(f.says("sunsubscribe", room)) // by itself
	f.sub.shards.at[other] = f.follower
	f.follow(other, wish{})
	f.asks()
	f.must(f.refused(elsewhere(room))) // the answer
	f.must(f.says("ssubscribe", other))
	if len(f.channels.all) != 2 || len(f.channels.asked) != 0 || e.resets+e.suspects > 0 {
		t.Errorf("it keeps %v, asked %v; %d resets, %d suspicions", f.channels.all, f.channels.asked, e.resets, e.suspects)
	}
}

// What was missed is told when the channel is followed again, wherever that is.
func TestFollower_WhatMovesWhileNobodyHearsIsResetWhereItIsFollowed(t *testing.T) {
	sub, e := unconnected(t)
	a, b := feed(t, sub, primaryA), feed(t, sub, primaryB)
	room := keysOfRoom("r").channel()
	a.followed(room)
	sub.hears(a.follower, false) // its connection is lost
	a.connects()
	a.asks()
	a.must(a.refused(elsewhere(room)))
	resets := e.resets
	p := sub.shards.parked[room]
	b.follow(room, p.wish)
	if !b.deaf.Load() {
		t.Error("who takes it over says that it hears everything")
	}
	b.asks()
	b.must(b.says("ssubscribe", room))
	if e.resets != resets+1 || b.deaf.Load() {
		t.Errorf("%d resets when it is followed again, want 1; deaf %t", e.resets-resets, b.deaf.Load())
	}
}

// The first connection of all has missed nothing; one that breaks before it was
// whole has, of what it did follow.
func TestFollower_AConnectionOwesAResetForWhatTheLastOneFollowed(t *testing.T) {
	sub, e := unconnected(t)
	f := feed(t, sub, primaryA)
	if e.resets != 0 {
		t.Errorf("%d resets at the start", e.resets)
	}
	f.followed(keysOfRoom("r").channel())
	if e.resets != 0 {
		t.Errorf("%d resets for a room that is new", e.resets)
	}
	f.follow(keysOfRoom("late").channel(), wish{}) // it is not told before the connection is lost
	sub.hears(f.follower, false)
	f.connects()
	add, _ := f.asks()
	if e.resets != 0 || len(add) != 2 {
		t.Fatalf("%d resets before everything is followed again, asks for %v", e.resets, add)
	}
	for _, name := range add {
		f.must(f.says("ssubscribe", name))
	}
	if e.resets != 1 || f.deaf.Load() {
		t.Errorf("%d resets, deaf %t; want one and that it hears", e.resets, f.deaf.Load())
	}
}

// A channel that lacked may be dropped before the server was asked for it: nothing
// is answered then, but the next probe.
func TestFollower_IsNotDeafForWhatNobodyWantsAnyMore(t *testing.T) {
	sub, e := unconnected(t)
	f := feed(t, sub, primaryA)
	room := keysOfRoom("r").channel()
	sub.shards.at[room] = f.follower
	f.follow(room, wish{owed: owesReset})
	sub.shards.drop(room)
	if add, drop := f.asks(); len(add)+len(drop) > 0 || !f.deaf.Load() {
		t.Fatalf("asks for %v, not for %v, deaf %t", add, drop, f.deaf.Load())
	}
	f.settle() // as its probe does
	if f.deaf.Load() || sub.Deaf(sub.since) != 0 {
		t.Errorf("deaf, after %d resets", e.resets)
	}
}

func TestFollower_KeepsNothingOfWhatIsInVain(t *testing.T) {
	sub, _ := unconnected(t)
	f := feed(t, sub, primaryA)
	room := keysOfRoom("r").channel()
	sub.shards.follow(room, wish{waiters: []*latch{newLatch(1)}})
	for range 100 {
		f.anew() // and the dial fails
		p := sub.shards.parked[room]
		sub.shards.at[room] = f.follower
		delete(sub.shards.parked, room)
		f.follow(room, p.wish)
		f.mu.Lock()
		f.channels.asked = nil // the own channel's
		f.mu.Unlock()
		f.asks()
		f.must(f.refused(elsewhere(room)))
	}
	p := sub.shards.parked[room]
	if len(p.waiters) != 1 || p.tries != 100 || p.after.IsZero() {
		t.Errorf("%d wait for it, %d tries, again after %s; want 1, 100 and a while", len(p.waiters), p.tries, p.after)
	}
	if own := f.channels.all[f.own]; len(own.waiters) != 0 {
		t.Errorf("%d wait for the own channel", len(own.waiters))
	}
}

// A classic channel may have been deaf to what a sharded one lacked, and each sharded one
// hears of its own primary alone.
func TestSubscriber_KnowsBehindWhatNothingWasMissed(t *testing.T) {
	sub, _ := unconnected(t)
	classic, a, b := sub.classic, feed(t, sub, primaryA), feed(t, sub, primaryB)
	is := func(what string, byClassic, byA, byB bool) {
		t.Helper()
		if c, x, y := sub.whole(classic), sub.whole(a.follower), sub.whole(b.follower); c != byClassic || x != byA || y != byB {
			t.Errorf("%s: whole %t, %t, %t; want %t, %t, %t", what, c, x, y, byClassic, byA, byB)
		}
	}
	is("all hear", true, true, true)
	sub.hears(a.follower, false)
	is("one primary's channels do not", false, false, true)
	sub.hears(a.follower, true)
	sub.hears(classic, false)
	is("the classic ones do not", false, false, false)
}

// What came back too late, of the connection before, is no answer to the same number.
func TestFollower_AProbeIsAnsweredByItselfAlone(t *testing.T) {
	s := open(t, Config{})
	e := &ear{heard: make(map[string][]uint64), wake: make(chan struct{}, 1)}
	f := s.NewSubscriber(Ref{"n", "b"}, e).classic
	f.heard <- "1"
	if err := f.probe(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "deaf") {
		t.Errorf("the probe of a follower that hears nothing: %v, want that it is deaf", err)
	}
}
