package ledger

import (
	"encoding/json"
	"fmt"
	"slices"

	"godwit/wire"
)

// talk is a small fleet that keeps every promise: rooms with logs, and devices
// that hear what is for them, late but in order.
type talk struct {
	rooms   map[string]*talkRoom
	people  []*person
	clock   int64
	clients uint32
}

type talkRoom struct {
	name  string
	epoch int
	seq   uint64
	log   []*wire.RoomEvent
}

func (r *talkRoom) epochName() string { return fmt.Sprintf("%s-%d", r.name, r.epoch) }

type person struct {
	*Ledger
	user   string
	client uint32
	in     map[string]bool
	ears   map[string][]*wire.RoomEvent // on the way, by room
	unsaid []func()                     // answers on the way
}

func newTalk(rooms, people int) *talk {
	t := &talk{rooms: map[string]*talkRoom{}}
	for i := range rooms {
		name := fmt.Sprintf("room%d", i)
		t.rooms[name] = &talkRoom{name: name}
	}
	for i := range people {
		p := &person{Ledger: New(fmt.Sprintf("p%d", i)), user: fmt.Sprintf("u%d", i/2)} // two devices a user
		t.people = append(t.people, p)
		t.login(p)
	}
	return t
}

func (t *talk) login(p *person) {
	t.clients++
	p.client, p.in, p.ears = 1000+t.clients, map[string]bool{}, map[string][]*wire.RoomEvent{}
	p.Attached(p.user, p.client)
}

func (t *talk) member(p *person) wire.Member { return wire.Member{User: p.user, Client: p.client} }

// put appends an entry and sets it on its way to whom it is for.
func (t *talk) put(r *talkRoom, e *wire.RoomEvent) *wire.RoomEvent {
	t.clock++
	r.seq++
	e.Room, e.Seq, e.TS = r.name, r.seq, t.clock
	r.log = append(r.log, e)
	t.tell(r, e)
	return e
}

func (t *talk) tell(r *talkRoom, e *wire.RoomEvent) {
	for _, p := range t.people {
		if p.in[r.name] && p.client != e.From.Client && reaches(e.To, p.user, p.client) {
			p.ears[r.name] = append(p.ears[r.name], e)
		}
	}
}

func (t *talk) join(p *person, r *talkRoom) {
	if p.in[r.name] {
		p.Joined(r.name, r.epochName(), r.seq)
		return
	}
	e := t.put(r, &wire.RoomEvent{Kind: wire.KindJoin, From: t.member(p)})
	p.in[r.name], p.ears[r.name] = true, nil
	p.Joined(r.name, r.epochName(), e.Seq)
}

func (t *talk) leave(p *person, r *talkRoom) {
	if !p.in[r.name] {
		return
	}
	delete(p.in, r.name)
	p.Left(r.name)
	t.put(r, &wire.RoomEvent{Kind: wire.KindLeave, From: t.member(p), Reason: wire.LeftByChoice})
}

// say sends a message; its answer is on the way until hear or answer.
func (t *talk) say(p *person, r *talkRoom, to *wire.To, ephemeral bool) string {
	m := p.Sending(r.name, to, ephemeral)
	if !p.in[r.name] {
		p.unsaid = append(p.unsaid, func() { p.Refused(m.ID, wire.NotMember) })
		return m.ID
	}
	if to != nil && !slices.ContainsFunc(t.people, func(q *person) bool {
		return q != p && q.in[r.name] && reaches(to, q.user, q.client)
	}) {
		p.unsaid = append(p.unsaid, func() { p.Refused(m.ID, wire.NoRecipient) })
		return m.ID
	}
	data, _ := json.Marshal(m)
	e := &wire.RoomEvent{Kind: wire.KindMessage, From: t.member(p), To: to, Data: data, Ephemeral: ephemeral}
	if ephemeral {
		e.Room = r.name
		t.tell(r, e)
		p.unsaid = append(p.unsaid, func() { p.Answered(m.ID, wire.Sent{}) })
		return m.ID
	}
	t.put(r, e)
	p.unsaid = append(p.unsaid, func() { p.Answered(m.ID, wire.Sent{Seq: e.Seq}) })
	return m.ID
}

// hear hands the person up to n events of a room.
func (p *person) hear(room string, n int) {
	n = min(n, len(p.ears[room]))
	for _, e := range p.ears[room][:n] {
		p.Saw(e)
	}
	p.ears[room] = p.ears[room][n:]
}

func (p *person) answer(n int) {
	n = min(n, len(p.unsaid))
	for _, f := range p.unsaid[:n] {
		f()
	}
	p.unsaid = p.unsaid[n:]
}

// wipe begins a new epoch of every room, as a wiped store does.
func (t *talk) wipe() {
	for _, name := range t.names() {
		r := t.rooms[name]
		r.epoch, r.seq, r.log = r.epoch+1, 0, nil
		for _, p := range t.people {
			p.ears[name] = nil
			if p.in[name] {
				p.unsaid = nil // their outcome is unknown now
			}
		}
		members := []*person{}
		for _, p := range t.people {
			if p.in[name] {
				members = append(members, p)
				delete(p.in, name)
			}
		}
		for _, p := range members {
			e := t.put(r, &wire.RoomEvent{Kind: wire.KindJoin, From: t.member(p)})
			p.in[name] = true
			p.Reset(name, r.epochName(), e.Seq)
		}
	}
}

// forget is a resume whose position the log does not reach back to.
func (t *talk) forget(p *person, r *talkRoom) {
	if p.in[r.name] {
		p.ears[r.name] = nil
		p.Gap(r.name, r.epochName(), r.seq)
	}
}

// lose ends the person's session; it logs in again and joins its rooms again.
func (t *talk) lose(p *person) {
	was := p.in
	p.unsaid = nil
	me := t.member(p)
	p.Lost("")
	p.in = map[string]bool{}
	for _, name := range t.names() {
		if was[name] {
			t.put(t.rooms[name], &wire.RoomEvent{Kind: wire.KindLeave, From: me, Reason: wire.LeftLost})
		}
	}
	t.login(p)
	for _, name := range t.names() {
		if was[name] {
			t.join(p, t.rooms[name])
		}
	}
}

func (t *talk) names() []string {
	var names []string
	for i := range t.rooms {
		names = append(names, i)
	}
	slices.Sort(names)
	return names
}

// end lets everything arrive, and returns what Check is given.
func (t *talk) end() ([]*Ledger, map[string]Log) {
	var all []*Ledger
	for _, p := range t.people {
		p.answer(len(p.unsaid))
		for name := range t.rooms {
			p.hear(name, len(p.ears[name]))
		}
		all = append(all, p.Ledger)
	}
	logs := map[string]Log{}
	for name, r := range t.rooms {
		logs[name] = Log{Epoch: r.epochName(), Head: r.seq, Entries: r.log}
	}
	return all, logs
}
