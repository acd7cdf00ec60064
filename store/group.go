package store

import (
	"fmt"
	"strings"
)

// groupMost is how many messages go in one call at most: Redis serves nobody
// else meanwhile, and Lua can hand on some thousand values at once.
const groupMost = 64

// message is a write that shares its call with others into its room.
type message struct {
	room  string
	known Known
	args  []any // its own, after those of head.lua
}

// key is the one by which a write finds its primary.
func (w *write) key() string {
	if w.message != nil {
		return keysOfRoom(w.room).meta()
	}
	return w.keys[0]
}

// group is one call of a pipeline and the writes that it carries. Messages into
// one room go in one call, which reads and writes what they share once for all.
type group struct {
	call
	known  Known // of messages: what the one who knows most of the room knows
	writes []*write
}

// grouped puts writes into as few calls as may be; the writes of a room keep
// their order.
func (s *Store) grouped(writes []*write) []group {
	groups := make([]group, 0, len(writes))
	open := make(map[string]int, len(writes)) // the groups that may take more, by their room
	for _, w := range writes {
		if w.message == nil {
			for _, key := range w.keys {
				if room, ok := roomOfMeta(key); ok {
					delete(open, room)
				}
			}
			groups = append(groups, group{call: w.call, writes: []*write{w}})
			continue
		}
		i, ok := open[w.room]
		if !ok || !groups[i].takes(w) {
			i = len(groups)
			open[w.room] = i
			groups = append(groups, group{call: w.call, known: w.known})
		}
		groups[i].add(w)
	}
	for i := range groups {
		groups[i].fill(s)
	}
	return groups
}

// takes says whether the call can carry one more message into its room.
func (g *group) takes(w *write) bool {
	return g.known.Epoch == w.known.Epoch && len(g.writes) < groupMost
}

func (g *group) add(w *write) {
	if w.known.Seq > g.known.Seq {
		g.known = w.known
	}
	g.writes = append(g.writes, w)
}

// fill makes the call of a group of messages.
func (g *group) fill(s *Store) {
	first := g.writes[0]
	if first.message == nil {
		return
	}
	args := make([]any, 0, len(g.writes)*len(first.message.args))
	for _, w := range g.writes {
		args = append(args, w.message.args...)
	}
	g.call = s.roomCall(g.script, first.room, g.known, args...)
}

// answerOf is what the script says of the i-th write: a word of its own, or the
// answer for all.
func (g *group) answerOf(i int, all answer) (answer, error) {
	if g.writes[i].message == nil || all.status() == "wiped" {
		return all, nil
	}
	word, more, _ := strings.Cut(all.text(sentWords+i), " ")
	switch {
	case all.status() != "sent" || word == "":
		return nil, fmt.Errorf("script answered %q and %d words to %d messages", all.status(), len(all), len(g.writes))
	case word[0] >= '0' && word[0] <= '9':
		return answer{"ok", all[1], word, all[2]}, nil
	}
	own := answer{word}
	for part := range strings.FieldsSeq(more) {
		own = append(own, part)
	}
	return own, nil
}

// sentWords is where the words for each message begin in what send.lua answers.
const sentWords = 3
