package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"godwit/wire"
)

// table is a room that keeps every promise, with a tape that hears of it in the
// order of the dice: what is said, what is answered and what is shown.
type table struct {
	t     *testing.T
	dice  *rand.Rand
	tape  *Tape
	log   []*wire.RoomEvent
	epoch string
	at    []*sitter
}

type sitter struct {
	*Seat
	user   string
	device uint32
	heard  int // entries of the log
	asleep bool
	answer uint64 // on its way; 0: none
}

func sit(t *testing.T, people int, dice uint64, limit int) *table {
	tb := &table{t: t, dice: rand.New(rand.NewPCG(dice, 0)), tape: NewTape("r", limit), epoch: "e"}
	for i := range people {
		p := &sitter{Seat: tb.tape.Seat(fmt.Sprintf("p%d", i)), user: fmt.Sprintf("u%d", i), device: uint32(100 + i)}
		tb.at = append(tb.at, p)
	}
	for _, i := range tb.dice.Perm(people) {
		p := tb.at[i]
		p.heard = len(tb.put(p, wire.KindJoin, "", nil))
	}
	for _, i := range tb.dice.Perm(people) { // told in another order than they joined
		p := tb.at[i]
		p.Joined(p.user, p.device, tb.epoch, uint64(p.heard))
	}
	return tb
}

func (tb *table) put(p *sitter, kind wire.Kind, reason string, data []byte) []*wire.RoomEvent {
	tb.log = append(tb.log, &wire.RoomEvent{
		Room: "r", Seq: uint64(len(tb.log) + 1), Kind: kind, Reason: reason, TS: int64(len(tb.log)),
		From: wire.Member{User: p.user, Client: p.device}, Data: data,
	})
	return tb.log
}

// flag changes whether the room is in a call.
func (tb *table) flag(on bool) *wire.RoomEvent {
	log := tb.put(&sitter{}, wire.KindCall, "", nil)
	log[len(log)-1].InCall = &on
	return log[len(log)-1]
}

// say sends a message that is stored; its answer is on its way.
func (tb *table) say(p *sitter) *wire.RoomEvent {
	m, err := json.Marshal(p.Sending())
	if err != nil {
		tb.t.Fatal(err)
	}
	log := tb.put(p, wire.KindMessage, "", m)
	p.answer = uint64(len(log))
	return log[len(log)-1]
}

func (p *sitter) answered() {
	if p.answer != 0 {
		p.Answered(p.answer)
		p.answer = 0
	}
}

// hear shows the next entry that is for the sitter.
func (tb *table) hear(p *sitter) {
	for p.heard < len(tb.log) {
		e := tb.log[p.heard]
		p.heard++
		if e.From.Client != p.device {
			p.Saw(e)
			return
		}
	}
}

// talk lets n things happen.
func (tb *table) talk(n int) {
	for range n {
		p := tb.at[tb.dice.IntN(len(tb.at))]
		switch tb.dice.IntN(len(tb.at) + 2) {
		case 0:
			if p.answer == 0 && !p.Full() {
				tb.say(p)
			}
		case 1:
			p.answered()
		default:
			if !p.asleep {
				tb.hear(p)
			}
		}
	}
}

// end lets everybody hear everything, and is the tally.
func (tb *table) end() Tally {
	tb.t.Helper()
	for _, p := range tb.at {
		p.answered()
		for p.heard < len(tb.log) {
			tb.hear(p)
		}
	}
	tb.tape.Head(tb.epoch, uint64(len(tb.log)))
	return tb.tape.Finish(true)
}

// faults are the counts of a tally: lost, doubled, swapped, noise, wrong.
func faults(t Tally) [5]int { return [5]int{t.Lost, t.Doubled, t.Swapped, t.Noise, t.Wrong} }

func TestTape_AcceptsATalkThatKeepsEveryPromise(t *testing.T) {
	for dice := range uint64(60) {
		tb := sit(t, 1+int(dice%7), dice, 1<<12)
		tb.talk(400)
		sleeper := tb.at[0]
		sleeper.asleep = true
		tb.talk(400)
		sleeper.asleep = false
		tb.talk(400)
		got := tb.end()
		if faults(got) != [5]int{} || got.Sent == 0 || got.Sent != got.Answered {
			t.Fatalf("dice %d: %+v, want no fault, and all answered", dice, got)
		}
	}
}

func TestTape_FindsEachPlantedFaultOnce(t *testing.T) {
	const people = 4
	others := people - 1
	for _, c := range []struct {
		name  string
		plant func(tb *table, p *sitter) // p has heard everything
		want  [5]int                     // lost, doubled, swapped, noise, wrong
	}{
		{"a message that one does not see", func(tb *table, p *sitter) {
			tb.say(tb.at[1])
			p.heard++
		}, [5]int{1, 0, 0, 0, 0}},
		{"the last message is not seen by one", func(tb *table, p *sitter) {
			tb.say(tb.at[1])
			tb.at[1].answered()
			for _, q := range tb.at {
				if q != p {
					tb.hear(q)
				}
			}
			p.heard = len(tb.log)
		}, [5]int{1, 0, 0, 0, 0}},
		{"a message that nobody sees", func(tb *table, _ *sitter) {
			tb.say(tb.at[1])
			for _, q := range tb.at {
				q.heard = len(tb.log)
			}
		}, [5]int{others, 0, 0, 0, 0}},
		{"a message that nobody sees, and that is not answered", func(tb *table, _ *sitter) {
			tb.say(tb.at[1])
			tb.at[1].answer = 0
			tb.at[1].Unsettled()
			for _, q := range tb.at {
				q.heard = len(tb.log)
			}
		}, [5]int{others, 0, 0, 0, 0}},
		{"one is answered, and another stands there", func(tb *table, _ *sitter) {
			tb.say(tb.at[1])
			tb.say(tb.at[2])
			tb.at[1].answer++
			tb.at[2].answer = 0
			tb.at[2].Unsettled()
		}, [5]int{1, 0, 0, 0, 0}},
		{"a message is seen twice", func(tb *table, p *sitter) {
			tb.say(tb.at[1])
			tb.hear(p)
			p.heard--
		}, [5]int{0, 1, 0, 0, 0}},
		{"a message is seen again much later", func(tb *table, p *sitter) {
			e := tb.say(tb.at[1])
			tb.hear(p)
			tb.at[1].answered()
			tb.talk(9000)
			p.Saw(e)
		}, [5]int{0, 1, 0, 0, 0}},
		{"a message is stored twice", func(tb *table, _ *sitter) {
			e := tb.say(tb.at[1])
			tb.put(tb.at[1], wire.KindMessage, "", e.Data)
		}, [5]int{0, 1, 0, 0, 0}},
		{"two messages are seen in the other order", func(tb *table, p *sitter) {
			one, two := tb.say(tb.at[1]), tb.say(tb.at[2])
			p.Saw(two)
			p.Saw(one)
			p.heard = len(tb.log)
		}, [5]int{0, 0, 1, 0, 0}},
		{"a message is seen long after the next ones", func(tb *table, p *sitter) {
			e := tb.say(tb.at[1])
			tb.at[1].answered()
			p.heard++
			tb.talk(9000)
			p.Saw(e)
		}, [5]int{0, 0, 1, 0, 0}},
		{"two messages of one sender stand in the other order", func(tb *table, _ *sitter) {
			one := tb.say(tb.at[1])
			tb.at[1].answer = 0
			tb.at[1].Unsettled()
			two := tb.say(tb.at[1])
			one.Data, two.Data = two.Data, one.Data
			tb.at[1].answer = one.Seq
		}, [5]int{0, 0, 1, 0, 0}},
		{"somebody seems to leave", func(tb *table, _ *sitter) {
			tb.put(tb.at[1], wire.KindLeave, wire.LeftLost, nil)
		}, [5]int{0, 0, 0, others, 0}},
		{"somebody seems to join again", func(tb *table, _ *sitter) {
			tb.put(tb.at[1], wire.KindJoin, "", nil)
		}, [5]int{0, 0, 0, others, 0}},
		{"a call that begins is none", func(tb *table, _ *sitter) {
			tb.flag(true)
		}, [5]int{0, 0, 0, 0, 0}},
		{"a call seems to end", func(tb *table, _ *sitter) {
			tb.flag(true)
			tb.flag(false)
		}, [5]int{0, 0, 0, people, 0}},
		{"a call ends and begins again", func(tb *table, _ *sitter) {
			tb.flag(true)
			tb.flag(false)
			tb.flag(true)
		}, [5]int{0, 0, 0, 2 * people, 0}},
		{"the beginning of a call is not seen by one", func(tb *table, p *sitter) {
			tb.flag(true)
			p.heard++
		}, [5]int{1, 0, 0, 0, 0}},
		{"one is shown another state of the call", func(tb *table, p *sitter) {
			e := tb.flag(true)
			tb.hear(tb.at[2])
			no := false
			p.Saw(&wire.RoomEvent{Room: e.Room, Seq: e.Seq, Kind: e.Kind, InCall: &no, TS: e.TS})
			p.heard++
		}, [5]int{0, 0, 0, 0, 1}},
		{"a stranger joins", func(tb *table, _ *sitter) {
			tb.put(&sitter{user: "who", device: 7}, wire.KindJoin, "", nil)
		}, [5]int{0, 0, 0, people, 0}},
		{"a session is lost, and joins as another", func(tb *table, p *sitter) {
			tb.put(p, wire.KindLeave, wire.LeftLost, nil)
			p.Lost()
			p.device += 1000
			p.heard = len(tb.put(p, wire.KindJoin, "", nil))
			p.Joined(p.user, p.device, tb.epoch, uint64(p.heard))
		}, [5]int{0, 0, 0, 2 * others, 0}},
		{"one is shown its own message", func(tb *table, _ *sitter) {
			tb.at[1].Saw(tb.say(tb.at[1]))
		}, [5]int{0, 0, 0, 0, 1}},
		{"one is shown another text", func(tb *table, p *sitter) {
			e := tb.say(tb.at[1])
			tb.hear(tb.at[2])
			p.Saw(&wire.RoomEvent{Room: e.Room, Seq: e.Seq, Kind: e.Kind, From: e.From, Data: []byte(`{"id":"p1#1","pad":"x"}`), TS: e.TS})
			p.heard++
		}, [5]int{0, 0, 0, 0, 1}},
		{"another is shown as the sender", func(tb *table, _ *sitter) {
			e := tb.say(tb.at[1])
			e.From = wire.Member{User: "who", Client: 7}
			tb.at[1].answer, tb.at[1].heard = 0, len(tb.log)
			tb.at[1].Unsettled()
		}, [5]int{0, 0, 0, 0, 1}},
		{"a message that nobody sent", func(tb *table, _ *sitter) {
			tb.put(&sitter{user: "who", device: 7}, wire.KindMessage, "", []byte(`"hi"`))
		}, [5]int{0, 0, 0, 0, 1}},
		{"a member is refused", func(tb *table, _ *sitter) {
			tb.at[1].Sending()
			tb.at[1].Refused(wire.NotMember)
		}, [5]int{0, 0, 0, 0, 1}},
		{"an event without a room", func(tb *table, p *sitter) {
			e := tb.say(tb.at[1])
			p.heard++
			p.Lost()
			p.Saw(e)
			p.Joined(p.user, p.device, tb.epoch, e.Seq)
		}, [5]int{0, 0, 0, 0, 1}},
		{"an event far from the head", func(tb *table, p *sitter) {
			p.Saw(&wire.RoomEvent{Room: "r", Seq: 1 << 60, Kind: wire.KindMessage, From: wire.Member{Client: tb.at[1].device}})
		}, [5]int{0, 0, 0, 0, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for dice := range uint64(6) {
				tb := sit(t, people, dice, 1<<12)
				tb.talk(int(dice) * 100)
				for _, p := range tb.at {
					p.answered()
					for p.heard < len(tb.log) {
						tb.hear(p)
					}
				}
				c.plant(tb, tb.at[0])
				for _, p := range tb.at[1:] {
					p.answered()
				}
				if c.name != "the last message is not seen by one" {
					tb.talk(int(dice) * 100)
				}
				got := tb.end()
				if faults(got) != c.want || (len(got.Findings) == 0) != (c.want == [5]int{}) {
					t.Fatalf("dice %d: lost, doubled, swapped, noise, wrong: %v, want %v\n%v", dice, faults(got), c.want, got.Findings)
				}
			}
		})
	}
}

func TestTape_KeepsOnlyWhatSomebodyHasYetToSee(t *testing.T) {
	tb := sit(t, 5, 1, 1<<12)
	most := 0
	for range 800 {
		tb.talk(100)
		for _, p := range tb.at {
			for p.heard < len(tb.log) {
				tb.hear(p)
			}
		}
		most = max(most, cap(tb.tape.last.entries))
	}
	got := tb.end()
	if faults(got) != [5]int{} {
		t.Errorf("%+v, want no fault", got)
	}
	if got.Sent < 4_000 || most > 1000 {
		t.Errorf("%d messages, and at most %d entries kept; want many, and few", got.Sent, most)
	}
}

func TestTape_WhoNeverComesBackIsGivenUp(t *testing.T) {
	const limit = 100
	tb := sit(t, 3, 1, limit)
	tb.at[0].asleep = true
	p := tb.at[1]
	for range limit { // full, and somebody goes on all the same
		tb.say(p)
		p.answered()
	}
	if !p.Full() {
		t.Errorf("not full with %d entries unseen, want the talk to wait", limit)
	}
	for range 10 * limit {
		tb.say(p)
		p.answered()
		tb.hear(tb.at[2])
	}
	if n := len(tb.tape.last.entries); n > 4*limit {
		t.Errorf("%d entries kept, want it bounded", n)
	}
	if got := tb.tape.Tally(); got.Lost == 0 {
		t.Errorf("%+v, want what one never saw counted lost", got)
	}
}

func TestTape_ABreakThatIsToldExcusesWhatItHides(t *testing.T) {
	for _, c := range []struct {
		name string
		tell func(tb *table, p *sitter)
	}{
		{"a gap", func(tb *table, p *sitter) {
			p.Gap(tb.epoch, uint64(len(tb.log)))
		}},
		{"a reset", func(tb *table, _ *sitter) {
			tb.epoch, tb.log = "f", nil
			for _, q := range tb.at {
				q.answer = 0
				q.Reset(tb.epoch, 0)
				q.heard = 0
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tb := sit(t, 4, 1, 1<<12)
			tb.talk(500)
			p := tb.at[0]
			p.asleep = true
			tb.talk(500)
			for _, q := range tb.at[1:] {
				for q.heard < len(tb.log) {
					tb.hear(q)
				}
				q.answered()
			}
			c.tell(tb, p)
			p.heard, p.asleep = len(tb.log), false
			tb.talk(500)
			if got := tb.end(); faults(got) != [5]int{} {
				t.Errorf("%+v, want no fault", got)
			}
		})
	}
}

func TestTape_WhatIsAnsweredAcrossALossIsNotMissedByItsSender(t *testing.T) {
	tb := sit(t, 2, 1, 1<<12)
	for _, p := range tb.at {
		for p.heard < len(tb.log) {
			tb.hear(p)
		}
		p.Lost()
	}
	p, q := tb.at[0], tb.at[1]
	p.Sending()
	tb.put(p, wire.KindJoin, "", nil)
	p.Joined(p.user, p.device, tb.epoch, uint64(len(tb.log)))
	p.Lost() // and the answer is of the session after
	p.Joined(p.user, p.device, tb.epoch, uint64(len(tb.log)))
	tb.put(p, wire.KindMessage, "", []byte(`{"id":"p0#1"}`))
	p.Answered(uint64(len(tb.log)))
	q.heard = len(tb.put(q, wire.KindJoin, "", nil))
	q.Joined(q.user, q.device, tb.epoch, uint64(q.heard))
	p.Saw(tb.log[q.heard-1])
	if got := tb.tape.Finish(true); got.Lost != 0 {
		t.Errorf("%+v, want nothing lost", got)
	}
}

func TestTape_WaitsUntilTheLastHasSeenTheLast(t *testing.T) {
	tb := sit(t, 3, 1, 1<<12)
	tb.say(tb.at[0])
	tb.at[0].answered()
	for _, p := range tb.at[:2] {
		for p.heard < len(tb.log) {
			tb.hear(p)
		}
	}
	soon, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	if err := tb.tape.CaughtUp(soon); err == nil {
		t.Error("all have caught up, want the last to be late")
	}
	got := make(chan error)
	go func() { got <- tb.tape.CaughtUp(t.Context()) }()
	for tb.at[2].heard < len(tb.log) {
		tb.hear(tb.at[2])
	}
	if err := <-got; err != nil {
		t.Error(err)
	}
	if n := faults(tb.tape.Finish(true)); n != [5]int{} {
		t.Errorf("%v, want no fault", n)
	}
}

func TestTape_EndedEarlyCountsOnlyWhatIsSeenPast(t *testing.T) {
	tb := sit(t, 3, 1, 1<<12)
	tb.at[1].heard = len(tb.log) // and never saw a join: a hole once it sees more
	tb.say(tb.at[0])
	tb.at[0].answered()
	tb.hear(tb.at[1])
	tb.say(tb.at[0])
	holes := len(tb.at[1].holes)
	if got := tb.tape.Finish(false); got.Lost != holes {
		t.Errorf("%+v, want %d lost: the rest may be on its way", got, holes)
	}
	tb.at[2].Saw(tb.log[len(tb.log)-1])
	if got := tb.tape.Tally(); got.Seen != 1 {
		t.Errorf("%d seen, want what comes after the end not to count", got.Seen)
	}
}
