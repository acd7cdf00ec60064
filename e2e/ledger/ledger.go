package ledger

import (
	"encoding/json"
	"fmt"
	"strconv"
	"sync"

	"godwit/wire"
)

// Message is the data of every message that a ledger's owner sends. ID is
// unique in the run, so that one message can be told from its double. At is
// when it was sent, by the clock of who wants to know how long it took.
type Message struct {
	ID  string `json:"id"`
	At  int64  `json:"at,omitempty"`
	Pad string `json:"pad,omitempty"`
}

// what is the kind of one line of a ledger.
type what uint8

const (
	attached what = iota // user, client: who the owner is from here on
	known                // user, client: who the owner is or was for a while
	joined               // room, epoch, seq: a span begins
	left                 // room: the span ends, by choice
	sent                 // room, id, to, ephemeral
	answered             // id, seq (0: too old to tell)
	refused              // id, reason
	saw                  // event
	reset                // room, epoch, seq: the span ends, another begins
	gap                  // room, epoch, seq: likewise, after recovered:false
	lost                 // room ("" is all): the span ends; the session is not in it any more
)

// line is one thing that happened to the owner.
type line struct {
	what      what
	room      string
	epoch     string
	seq       uint64
	id        string
	to        *wire.To
	ephemeral bool
	reason    wire.Reason
	user      string
	client    uint32
	event     *wire.RoomEvent
}

// Ledger is what one client writes down. Its methods may be called from any
// goroutine; what belongs to one room's stream (Joined, Saw, Reset, Gap, Lost,
// Left) must be written in the order the client was told it.
type Ledger struct {
	// Who names the owner in reports and begins the ids of its messages.
	Who string

	mu sync.Mutex
	// guarded by mu
	lines []line
	count int
}

// New is an empty ledger.
func New(who string) *Ledger { return &Ledger{Who: who} }

func (l *Ledger) write(e line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, e)
}

// Attached says who the owner is from now on. A new session means a new client.
func (l *Ledger) Attached(user string, client uint32) {
	l.write(line{what: attached, user: user, client: client})
}

// Known says that the owner is this device for a while, at a time that its
// stream of events may not show: a session that began and was lost at once.
func (l *Ledger) Known(user string, client uint32) {
	l.write(line{what: known, user: user, client: client})
}

// Joined begins a span: the owner is a member and sees what follows seq.
func (l *Ledger) Joined(room, epoch string, seq uint64) {
	l.write(line{what: joined, room: room, epoch: epoch, seq: seq})
}

// Left ends the owner's span in a room by its own choice.
func (l *Ledger) Left(room string) { l.write(line{what: left, room: room}) }

// Sending writes down a message before it goes out. Messages of one owner to
// one room must go out in the order of Sending. The result is the message's
// data.
func (l *Ledger) Sending(room string, to *wire.To, ephemeral bool) Message {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count++
	id := l.Who + "#" + strconv.Itoa(l.count)
	l.lines = append(l.lines, line{what: sent, room: room, id: id, to: to, ephemeral: ephemeral})
	return Message{ID: id}
}

// Answered says that a message was accepted. A message that is never answered
// nor refused may or may not be in the log.
func (l *Ledger) Answered(id string, s wire.Sent) {
	l.write(line{what: answered, id: id, seq: s.Seq})
}

// Refused says that a message was answered with an error whose outcome is
// known: that is any reason but unavailable.
func (l *Ledger) Refused(id string, reason wire.Reason) {
	l.write(line{what: refused, id: id, reason: reason})
}

// Saw writes down a room event. The event is kept and must not change.
func (l *Ledger) Saw(e *wire.RoomEvent) { l.write(line{what: saw, room: e.Room, event: e}) }

// Reset says that the owner was told room.reset.
func (l *Ledger) Reset(room, epoch string, seq uint64) {
	l.write(line{what: reset, room: room, epoch: epoch, seq: seq})
}

// Gap says that the owner was told recovered:false.
func (l *Ledger) Gap(room, epoch string, seq uint64) {
	l.write(line{what: gap, room: room, epoch: epoch, seq: seq})
}

// Lost says that the owner was told that its session is gone, or (with a room)
// that the session is no longer in that room.
func (l *Ledger) Lost(room string) { l.write(line{what: lost, room: room}) }

// copyLines is a snapshot of the lines.
func (l *Ledger) copyLines() []line {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]line(nil), l.lines...)
}

// Log is a room's log as the store has it when the talk is over. Entries are
// in seq order and may begin late, where the store has trimmed; Head is the
// last seq.
type Log struct {
	Epoch   string
	Head    uint64
	Entries []*wire.RoomEvent
}

// idOf is the id in a message's data, or "" where there is none.
func idOf(e *wire.RoomEvent) string {
	var m Message
	if json.Unmarshal(e.Data, &m) != nil {
		return ""
	}
	return m.ID
}

// fingerprint holds everything that must be the same for all who see an entry.
func fingerprint(e *wire.RoomEvent) string {
	call := ""
	if e.InCall != nil {
		call = strconv.FormatBool(*e.InCall) + " "
	}
	return string(e.Kind) + " " + call + member(e.From) + " to " + address(e.To) + " " + e.Reason + " " + string(e.Data) + " at " + strconv.FormatInt(e.TS, 10)
}

func member(m wire.Member) string { return fmt.Sprintf("%s/%d", m.User, m.Client) }

func address(to *wire.To) string {
	switch {
	case to == nil:
		return "all"
	case to.User == nil && to.Client == nil:
		return "all"
	case to.Client == nil:
		return *to.User
	case to.User == nil:
		return fmt.Sprintf("/%d", *to.Client)
	default:
		return fmt.Sprintf("%s/%d", *to.User, *to.Client)
	}
}

// reaches says whether an address means the device.
func reaches(to *wire.To, user string, client uint32) bool {
	if to == nil {
		return true
	}
	return (to.User == nil || *to.User == user) && (to.Client == nil || *to.Client == client)
}
