package ledger

import (
	"encoding/json"
	"slices"
	"testing"

	"godwit/wire"
	"pgregory.net/rapid"
)

// people of the planted talk, by what happens to them.
const (
	ann, annPhone, bob, bobPhone = 0, 1, 2, 3
)

// planted is a talk of four devices of two users in two rooms. Each says three
// things to all; then ann says one to bob's phone alone.
func planted() *talk {
	t := newTalk(2, 4)
	room := t.rooms["room0"]
	for _, p := range t.people {
		t.join(p, room)
	}
	t.join(t.people[ann], t.rooms["room1"])
	for range 3 {
		for _, p := range t.people {
			t.say(p, room, nil, false)
		}
	}
	t.say(t.people[ann], room, &wire.To{Client: &t.people[bobPhone].client}, false)
	t.say(t.people[ann], room, nil, true)
	t.say(t.people[bob], room, nil, false)
	return t
}

// messages are the indexes in l of the stored messages it saw.
func messages(l *Ledger) []int {
	var at []int
	for i, e := range l.lines {
		if e.what == saw && e.event.Kind == wire.KindMessage && e.event.Seq != 0 {
			at = append(at, i)
		}
	}
	return at
}

// with is a copy of the event, changed.
func with(e *wire.RoomEvent, change func(*wire.RoomEvent)) *wire.RoomEvent {
	c := &wire.RoomEvent{
		Room: e.Room, Seq: e.Seq, Kind: e.Kind, From: e.From, To: e.To, Type: e.Type, Data: e.Data,
		Reason: e.Reason, InCall: e.InCall, Ephemeral: e.Ephemeral, TS: e.TS,
	}
	change(c)
	return c
}

func TestCheck_FindsEachPlantedFault(t *testing.T) {
	type plan struct {
		ledgers []*Ledger
		logs    map[string]Log
	}
	for _, tc := range []struct {
		name  string
		want  Fault
		plant func(p *plan)
	}{
		{"a message that one member never saw", LostMessage, func(p *plan) {
			l := p.ledgers[bob]
			i := messages(l)[4]
			l.lines = slices.Delete(l.lines, i, i+1)
		}},
		{"the last message, never seen", LostMessage, func(p *plan) {
			l := p.ledgers[ann]
			at := messages(l)
			i := at[len(at)-1]
			l.lines = slices.Delete(l.lines, i, i+1)
		}},
		{"a message that nobody saw and the log has not, but that was answered", LostMessage, func(p *plan) {
			m := p.ledgers[ann].Sending("room0", nil, false)
			p.ledgers[ann].Answered(m.ID, wire.Sent{Seq: p.logs["room0"].Head + 1})
		}},
		{"a message seen twice", Doubled, func(p *plan) {
			l := p.ledgers[bob]
			i := messages(l)[2]
			l.lines = slices.Insert(l.lines, i+1, l.lines[i])
		}},
		{"a message seen twice, far apart", Doubled, func(p *plan) {
			l := p.ledgers[bob]
			l.lines = append(l.lines, l.lines[messages(l)[0]])
		}},
		{"a message stored twice", Doubled, func(p *plan) {
			log := p.logs["room0"]
			i := slices.IndexFunc(log.Entries, func(e *wire.RoomEvent) bool { return e.Kind == wire.KindMessage })
			log.Head++
			again := with(log.Entries[i], func(e *wire.RoomEvent) { e.Seq = log.Head })
			log.Entries = append(log.Entries, again)
			p.logs["room0"] = log
			for _, l := range p.ledgers {
				if l.Who != p.ledgers[ann].Who {
					l.Saw(again)
				}
			}
		}},
		{"two messages swapped", Swapped, func(p *plan) {
			l := p.ledgers[bobPhone]
			at := messages(l)
			l.lines[at[1]], l.lines[at[2]] = l.lines[at[2]], l.lines[at[1]]
		}},
		{"two messages of one sender stored in the other order", Swapped, func(p *plan) {
			l := p.ledgers[ann]
			var first, second *line
			for i := range l.lines {
				if l.lines[i].what == sent && !l.lines[i].ephemeral {
					first, second = second, &l.lines[i]
				}
			}
			swap := map[string]string{first.id: second.id, second.id: first.id}
			for i := range l.lines {
				if to := swap[l.lines[i].id]; to != "" && l.lines[i].what == sent {
					l.lines[i].id = to
				}
			}
		}},
		{"a message shown to its sender", Echoed, func(p *plan) {
			i := slices.IndexFunc(p.logs["room0"].Entries, func(e *wire.RoomEvent) bool {
				return e.Kind == wire.KindMessage && p.ledgers[ann].lines[0].client == e.From.Client
			})
			p.ledgers[ann].Saw(p.logs["room0"].Entries[i])
		}},
		{"a message shown to a device it is not for", Misaddressed, func(p *plan) {
			for _, e := range p.logs["room0"].Entries {
				if e.To != nil {
					p.ledgers[annPhone].Saw(e)
				}
			}
		}},
		{"a message shown in a room one is not in", Misaddressed, func(p *plan) {
			l := p.ledgers[bob]
			e := l.lines[messages(l)[0]].event
			l.Saw(with(e, func(e *wire.RoomEvent) { e.Room = "room1" }))
		}},
		{"a message to one device, stored for all", Misaddressed, func(p *plan) {
			entries := p.logs["room0"].Entries
			for i, e := range entries {
				if e.To != nil {
					entries[i] = with(e, func(e *wire.RoomEvent) { e.To = nil })
				}
			}
		}},
		{"a sender that did not send", Forged, func(p *plan) {
			l := p.ledgers[bob]
			i := messages(l)[0]
			l.lines[i].event = with(l.lines[i].event, func(e *wire.RoomEvent) { e.From.Client = p.ledgers[bobPhone].lines[0].client })
		}},
		{"the right device with a wrong user", Forged, func(p *plan) {
			l := p.ledgers[bob]
			i := messages(l)[0]
			l.lines[i].event = with(l.lines[i].event, func(e *wire.RoomEvent) { e.From.User = "root" })
		}},
		{"a message out of nowhere", Forged, func(p *plan) {
			log := p.logs["room0"]
			log.Head++
			e := with(log.Entries[len(log.Entries)-1], func(e *wire.RoomEvent) {
				e.Seq, e.Data = log.Head, wire.Raw(`{"id":"ghost#1"}`)
			})
			log.Entries = append(log.Entries, e)
			p.logs["room0"] = log
			for _, l := range p.ledgers {
				l.Saw(e)
			}
		}},
		{"changed data", Differs, func(p *plan) {
			l := p.ledgers[bob]
			i := messages(l)[0]
			l.lines[i].event = with(l.lines[i].event, func(e *wire.RoomEvent) {
				e.Data = append(e.Data[:len(e.Data)-1:len(e.Data)-1], `,"pad":"x"}`...)
			})
		}},
		{"an answer with another seq", Differs, func(p *plan) {
			l := p.ledgers[bob]
			i := slices.IndexFunc(l.lines, func(e line) bool { return e.what == answered })
			l.lines[i].seq++
		}},
		{"a leave that nobody made", Noise, func(p *plan) {
			log := p.logs["room0"]
			log.Head++
			e := &wire.RoomEvent{Room: "room0", Seq: log.Head, Kind: wire.KindLeave, Reason: wire.LeftLost, From: log.Entries[0].From}
			log.Entries = append(log.Entries, e)
			p.logs["room0"] = log
			for _, l := range p.ledgers[1:] {
				l.Saw(e)
			}
		}},
		{"a second join", Noise, func(p *plan) {
			log := p.logs["room0"]
			log.Head++
			e := &wire.RoomEvent{Room: "room0", Seq: log.Head, Kind: wire.KindJoin, From: log.Entries[0].From}
			log.Entries = append(log.Entries, e)
			p.logs["room0"] = log
			for _, l := range p.ledgers[1:] {
				l.Saw(e)
			}
		}},
		{"a member told that it is none", Denied, func(p *plan) {
			m := p.ledgers[ann].Sending("room0", nil, false)
			p.ledgers[ann].Refused(m.ID, wire.NotMember)
		}},
		{"no recipient, who is there", Denied, func(p *plan) {
			client := p.ledgers[bob].lines[0].client
			m := p.ledgers[ann].Sending("room0", &wire.To{Client: &client}, false)
			p.ledgers[ann].Refused(m.ID, wire.NoRecipient)
		}},
		{"refused, and stored", Undead, func(p *plan) {
			l := p.ledgers[bob]
			i := slices.IndexFunc(l.lines, func(e line) bool { return e.what == answered })
			l.lines[i].what, l.lines[i].reason = refused, wire.RateLimited
		}},
		{"a new epoch that one was not told of", Behind, func(p *plan) {
			log := p.logs["room0"]
			log.Epoch = "another"
			p.logs["room0"] = log
		}},
		{"a log with a hole", Torn, func(p *plan) {
			log := p.logs["room0"]
			log.Entries = slices.Delete(log.Entries, 5, 6)
			p.logs["room0"] = log
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ledgers, logs := planted().end()
			if err := Check(ledgers, logs).Err(); err != nil {
				t.Fatalf("before anything is planted: %v", err)
			}
			p := &plan{ledgers, logs}
			tc.plant(p)
			if r := Check(p.ledgers, p.logs); !r.Has(tc.want) {
				t.Errorf("found %v, want a finding of %q", r.Err(), tc.want)
			}
		})
	}
}

func TestCheck_AnExcuseCoversItsIntervalAndNothingElse(t *testing.T) {
	// bob hears two messages, then is told of a gap while two more are under
	// way, then hears the rest.
	run := func(drop int) Report {
		talk := newTalk(1, 2)
		room, a, b := talk.rooms["room0"], talk.people[0], talk.people[1]
		talk.join(a, room)
		talk.join(b, room)
		for range 2 {
			talk.say(a, room, nil, false)
			talk.say(a, room, nil, false)
			b.hear("room0", 2)
			talk.say(a, room, nil, false)
			talk.say(a, room, nil, false)
			talk.forget(b, room)
		}
		talk.say(a, room, nil, false)
		ledgers, logs := talk.end()
		if drop >= 0 {
			at := messages(b.Ledger)[drop]
			b.lines = slices.Delete(b.lines, at, at+1)
		}
		return Check(ledgers, logs)
	}
	if r := run(-1); r.Err() != nil || r.Excused != 2 {
		t.Fatalf("with two gaps: %d excused, %v; want 2 and nothing found", r.Excused, r.Err())
	}
	for _, drop := range []int{0, 2, 4} {
		if r := run(drop); !r.Has(LostMessage) {
			t.Errorf("without the message %d, which no gap excuses: found %v, want it lost", drop, r.Err())
		}
	}
}

func TestCheck_AnUnansweredMessageMayBeDoubledAroundAResetAnAnsweredOneNot(t *testing.T) {
	for _, tc := range []struct {
		name     string
		answered uint64
		want     bool // found
	}{
		{"unanswered", 0, false},
		{"answered in the new epoch", 3, false},
		{"answered in the old epoch, and sent again", 7, true},
	} {
		talk := newTalk(1, 2)
		room, a, b := talk.rooms["room0"], talk.people[0], talk.people[1]
		talk.join(a, room)
		talk.join(b, room)
		for range 4 {
			talk.say(b, room, nil, false)
		}
		b.answer(4)
		a.hear("room0", 9)
		id := talk.say(a, room, nil, false) // seq 7
		b.hear("room0", 9)
		talk.wipe()
		data, _ := json.Marshal(Message{ID: id})
		talk.put(room, &wire.RoomEvent{Kind: wire.KindMessage, From: talk.member(a), Data: data}) // seq 3
		if tc.answered != 0 {
			a.Answered(id, wire.Sent{Seq: tc.answered})
		}
		r := Check(talk.end())
		if got := r.Err() != nil; got != tc.want {
			t.Errorf("%s: found %v, want a finding: %t", tc.name, r.Err(), tc.want)
		}
	}
}

func TestCheck_AMessageAnsweredBeforeAWipeIsMissedByWhoeverSawPastIt(t *testing.T) {
	for _, past := range []bool{false, true} {
		talk := newTalk(1, 3)
		room, a, b, d := talk.rooms["room0"], talk.people[0], talk.people[1], talk.people[2]
		for _, p := range talk.people {
			talk.join(p, room)
			p.hear("room0", 9)
		}
		a.hear("room0", 9)
		b.hear("room0", 9)
		d.hear("room0", 9)
		talk.say(a, room, nil, false)
		a.answer(1)
		talk.say(a, room, nil, false)
		b.ears["room0"] = b.ears["room0"][1:] // bob never gets the first
		d.ears["room0"] = nil                 // the third gets neither: a reset excuses it
		if past {
			b.hear("room0", 1)
		}
		talk.wipe()
		if r := Check(talk.end()); r.Has(LostMessage) != past {
			t.Errorf("bob saw past it %t: found %v", past, r.Err())
		}
	}
}

// drawTalk is a random talk in which every promise is kept.
func drawTalk(t *rapid.T) *talk {
	k := newTalk(rapid.IntRange(1, 3).Draw(t, "rooms"), rapid.IntRange(2, 6).Draw(t, "people"))
	someone := func() *person { return k.people[rapid.IntRange(0, len(k.people)-1).Draw(t, "who")] }
	somewhere := func() *talkRoom { return k.rooms[rapid.SampledFrom(k.names()).Draw(t, "room")] }
	for _, p := range k.people {
		k.join(p, k.rooms["room0"])
	}
	for range rapid.IntRange(0, 120).Draw(t, "steps") {
		switch n := rapid.IntRange(0, 99).Draw(t, "step"); {
		case n < 45:
			var to *wire.To
			switch rapid.IntRange(0, 5).Draw(t, "to") {
			case 0:
				to = &wire.To{User: &someone().user}
			case 1:
				client := someone().client
				to = &wire.To{Client: &client}
			}
			k.say(someone(), somewhere(), to, rapid.IntRange(0, 9).Draw(t, "ephemeral") == 0)
		case n < 75:
			someone().hear(somewhere().name, rapid.IntRange(1, 5).Draw(t, "events"))
		case n < 85:
			someone().answer(rapid.IntRange(1, 3).Draw(t, "answers"))
		case n < 90:
			k.join(someone(), somewhere())
		case n < 93:
			k.leave(someone(), somewhere())
		case n < 96:
			k.forget(someone(), somewhere())
		case n < 98:
			k.lose(someone())
		default:
			k.wipe()
		}
	}
	return k
}

func TestCheck_FindsNothingInATalkThatKeptEveryPromise(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		if err := Check(drawTalk(t).end()).Err(); err != nil {
			t.Fatal(err)
		}
	})
}

// readAlone is the spans of one ledger.
func readAlone(l *Ledger) *owner {
	c := &check{clients: map[uint32]*owner{}, sends: map[string]*sending{}, books: map[string]*book{}}
	c.read(l)
	return c.owners[0]
}

func TestCheck_FindsAnyOneChangeInARandomTalk(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ledgers, logs := drawTalk(t).end()
		type spot struct {
			l    *Ledger
			i, j int // j: the same ledger's next message of that span, -1 for none
		}
		var spots, pairs []spot
		for _, l := range ledgers {
			o := readAlone(l)
			for room, st := range o.rooms {
				for _, sp := range st.spans {
					prev := -1
					for _, i := range messages(l) {
						if l.lines[i].room != room || st.at(i) != sp {
							continue
						}
						if prev >= 0 {
							pairs = append(pairs, spot{l, prev, i})
						}
						prev = i
					}
					if prev >= 0 && sp.closed < 0 {
						spots = append(spots, spot{l, prev, -1})
					}
				}
			}
		}
		spots = append(spots, pairs...)
		if len(spots) == 0 || len(pairs) == 0 {
			t.Skip("nobody saw two messages in a row")
		}
		at := spots[rapid.IntRange(0, len(spots)-1).Draw(t, "where")]
		pair := pairs[rapid.IntRange(0, len(pairs)-1).Draw(t, "pair")]
		e := at.l.lines[at.i]
		var want Fault
		switch rapid.IntRange(0, 5).Draw(t, "change") {
		case 0:
			want = LostMessage
			if readAlone(at.l).rooms[e.room].at(at.i).epoch != logs[e.room].Epoch {
				t.Skip("of an epoch that is gone, and perhaps the only witness")
			}
			at.l.lines = slices.Delete(at.l.lines, at.i, at.i+1)
		case 1:
			want = Doubled
			at.l.lines = slices.Insert(at.l.lines, at.i, e)
		case 2:
			want = Swapped
			pair.l.lines[pair.i], pair.l.lines[pair.j] = pair.l.lines[pair.j], pair.l.lines[pair.i]
		case 3:
			want = Forged
			at.l.lines[at.i].event = with(e.event, func(e *wire.RoomEvent) { e.From.User += "x" })
		case 4:
			want = Echoed
			me := readAlone(at.l).rooms[e.room].at(at.i)
			at.l.lines[at.i].event = with(e.event, func(e *wire.RoomEvent) { e.From = wire.Member{User: me.user, Client: me.client} })
		case 5:
			want = Misaddressed
			nobody := uint32(1)
			at.l.lines[at.i].event = with(e.event, func(e *wire.RoomEvent) { e.To = &wire.To{Client: &nobody} })
		}
		if r := Check(ledgers, logs); !r.Has(want) {
			t.Fatalf("changed line %d of %s: found %v, want %q", at.i, at.l.Who, r.Err(), want)
		}
	})
}
